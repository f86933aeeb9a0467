//! What stands around the container: a simulated Finch, a configuration, a secret as an orchestrator mounts it.

use super::brood::{Brood, free_port};
use super::{Outcome, http, machine};
use nix::unistd::{Gid, chown};
use serde_json::json;
use std::fs::{File, Permissions, create_dir, set_permissions, write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Who connects.
pub(crate) const CUSTOMER: &str = "acme";
/// As whom perch runs, and the group of its secrets.
pub(crate) const NOBODY: u32 = 65532;
/// How many people the customer employs: the directory then has some hundred KiB.
const EMPLOYEES: u32 = 2000;
/// How long a process may take to start.
const START_MAX: Duration = Duration::from_secs(20);

/// The places of a run.
pub(crate) struct Site {
    /// The simulator.
    pub(crate) finch: SocketAddr,
    /// Its process.
    pub(crate) finch_pid: u32,
    /// The door of the apps.
    pub(crate) proxy: SocketAddr,
    /// The door of the kubelet.
    pub(crate) probes: SocketAddr,
    /// A folder with perch.toml.
    pub(crate) settings: PathBuf,
    /// A folder with the sealing key, mode 0440, of root and of perch's group.
    pub(crate) secrets: PathBuf,
}

impl Site {
    /// Starts the simulator and writes what a container is given.
    pub(crate) fn furnish(brood: &Brood, folder: &Path) -> Outcome<Self> {
        // The image's own program, which runs anywhere.
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let program = machine::output_folder()?.with_file_name(target).join("image").join("perch");
        let (finch, finch_pid) = start_finch(brood, &program, folder)?;
        let (proxy, admin, probes) = (free_port()?, free_port()?, free_port()?);
        let (settings, secrets) = (folder.join("settings"), folder.join("secrets"));
        create_dir(&settings)?;
        create_dir(&secrets)?;
        // The container's user is another one than ours.
        for open in [folder, &settings, &secrets] {
            set_permissions(open, Permissions::from_mode(0o755))?;
        }
        write(settings.join("perch.toml"), configuration(finch, proxy, admin, probes))?;
        // The simulator's own.
        write(settings.join("client-secret"), "sim-secret")?;
        let made = Command::new(&program)
            .args(["keys", "generate", "sealing-key"])
            .current_dir(&secrets)
            .output()?;
        if !made.status.success() {
            return Err(format!("perch keys generate: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let site = Self { finch, finch_pid, proxy, probes, settings, secrets };
        site.protect(0o440)?;
        Ok(site)
    }

    /// Gives the key a mode; it belongs to root and to perch's group, as a Secret with an `fsGroup` does.
    pub(crate) fn protect(&self, mode: u32) -> Outcome<()> {
        let key = self.secrets.join("sealing-key");
        chown(&key, None, Some(Gid::from_raw(NOBODY)))?;
        Ok(set_permissions(key, Permissions::from_mode(mode))?)
    }

    /// What an app does once for a customer: session, log-in, code, exchange. A reference comes back, not a token.
    pub(crate) fn connect(&self) -> Outcome<String> {
        let json = "Content-Type: application/json\r\n";
        let asked = |what: &str, answer: http::Answer, status: u16| match answer.status == status {
            true => Ok(answer.json()),
            false => Err(format!("{what}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))),
        };
        let session = json!({
            "customer_id": CUSTOMER, "customer_name": "Acme Tools", "products": ["company", "directory"],
            "integration": { "provider": "gusto" },
        });
        let told = http::once(self.proxy, "POST", "/connect/sessions", json, &session.to_string())?;
        let session = asked("a session", told, 201)?;
        let url = session["connect_url"].as_str().unwrap_or_default().to_owned();
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let login = asked("the log-in", http::once(self.finch, "GET", &format!("/{path}"), "", "")?, 200)?;
        let code = json!({ "client_id": "x", "client_secret": "x", "code": login["code"] });
        let told = http::once(self.proxy, "POST", "/auth/token", json, &code.to_string())?;
        let exchanged = asked("the exchange", told, 200)?;
        match exchanged["access_token"].as_str() {
            Some(reference) if reference.starts_with("connection:") => Ok(reference.to_owned()),
            _ => Err("the exchange gave something other than a reference".into()),
        }
    }
}

/// Limits that nothing here reaches, in a window of a second, so that a new gateway has nothing to sit out.
fn configuration(finch: SocketAddr, proxy: SocketAddr, admin: SocketAddr, probes: SocketAddr) -> String {
    format!(
        r#"[finch]
base_url = "http://{finch}"
environment = "sandbox"
client_id = "sim-client"
client_secret = "file:/etc/perch/client-secret"

[listen]
proxy = "{proxy}"
admin = "{admin}"
probes = "{probes}"

[vault]
store = "sqlite:/var/lib/perch/perch.db"
key = "file:/run/secrets/perch/sealing-key"
key_group_readable = true

[merge]
coalesce = false

[limits]
window = "1s"
[limits.products]
default = 100000
[limits.ip]
requests = 100000
window = "1s"
"#
    )
}

fn start_finch(brood: &Brood, program: &Path, folder: &Path) -> Outcome<(SocketAddr, u32)> {
    let scenario = folder.join("scenario.toml");
    write(
        &scenario,
        format!(
            "employees = {EMPLOYEES}\n\n[limits]\nwindow = \"1s\"\n\n[limits.products]\ncompany = 0\ndirectory = 0\n\n\
             [limits.ip]\nrequests = 1000000\nwindow = \"1s\"\n"
        ),
    )?;
    let door = free_port()?;
    let log = File::create(folder.join("finch.log"))?;
    let mut sim = Command::new(program);
    sim.args(["sim", "--listen", &door.to_string(), "--scenario"]).arg(&scenario).stdin(Stdio::null());
    let pid = brood.start(sim.env_clear().stdout(log.try_clone()?).stderr(log))?;
    let begun = Instant::now();
    while !http::once(door, "GET", "/_sim/healthz", "", "").is_ok_and(|answer| answer.status == 200) {
        if begun.elapsed() > START_MAX {
            return Err("the simulator does not answer".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((door, pid))
}
