//! Containers, by way of scripts/podman.sh: in a store of this folder's own, so that all that is in it is ours.

use super::Outcome;
use std::path::Path;
use std::process::{Command, Stdio};

/// The volume that holds the vault between runs.
const VOLUME: &str = "perch-smoke";

/// One container. Dropping it removes it.
pub(crate) struct Container {
    name: String,
}

/// What a container is given.
pub(crate) struct Given<'a> {
    /// The image.
    pub(crate) image: &'a str,
    /// A folder that is mounted at /etc/perch.
    pub(crate) settings: &'a Path,
    /// A folder that is mounted at /run/secrets/perch.
    pub(crate) secrets: &'a Path,
    /// What stands behind the image's name; none: what the image says.
    pub(crate) words: &'a [&'a str],
}

impl Container {
    /// Makes one as a restricted pod would have it, without starting it.
    pub(crate) fn create(name: &str, given: &Given<'_>) -> Outcome<Self> {
        let settings = format!("{}:/etc/perch:ro", given.settings.display());
        let secrets = format!("{}:/run/secrets/perch:ro", given.secrets.display());
        let state = format!("{VOLUME}:/var/lib/perch");
        let mut words = vec!["create", "--name", name, "--network", "host"];
        words.extend(["--memory", "64m", "--memory-swap", "64m", "--pids-limit", "100"]);
        words.extend(["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL"]);
        words.extend(["--security-opt", "no-new-privileges", "--user", "65532:65532"]);
        words.extend(["--log-driver", "k8s-file", "--log-opt", "max-size=8mb"]);
        words.extend(["--volume", &settings, "--volume", &secrets, "--volume", &state, given.image]);
        words.extend(given.words);
        ask(&words)?;
        Ok(Self { name: name.to_owned() })
    }

    /// Starts it; returns when podman does.
    pub(crate) fn start(&self) -> Outcome<()> {
        ask(&["start", &self.name]).map(drop)
    }

    /// The id of its first process, as the host sees it.
    pub(crate) fn pid(&self) -> Outcome<u32> {
        match self.inspect("{{.State.Pid}}")?.parse()? {
            0 => Err(format!("{} has ended already\n{}", self.name, self.last_words()).into()),
            pid => Ok(pid),
        }
    }

    /// Sends the image's own signal to its first process, and SIGKILL half a minute later.
    pub(crate) fn stop(&self) -> Outcome<()> {
        ask(&["stop", "--time", "30", &self.name]).map(drop)
    }

    /// Waits until it has ended, and says with what exit code.
    pub(crate) fn wait(&self) -> Outcome<i32> {
        Ok(ask(&["wait", &self.name])?.parse()?)
    }

    /// Whether the kernel has killed something in it for want of memory.
    pub(crate) fn was_starved(&self) -> Outcome<bool> {
        Ok(self.inspect("{{.State.OOMKilled}}")? == "true")
    }

    /// The end of what it said.
    pub(crate) fn last_words(&self) -> String {
        let told = command(&["logs", "--tail", "5", &self.name]).output();
        told.map_or_else(
            |why| why.to_string(),
            |told| {
                format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr))
            },
        )
    }

    fn inspect(&self, template: &str) -> Outcome<String> {
        ask(&["container", "inspect", "--format", template, &self.name])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // An error means that it is gone.
        let _ = ask(&["rm", "--force", "--time", "0", &self.name]);
    }
}

/// How large an image is, unpacked, in bytes.
pub(crate) fn size(image: &str) -> Outcome<u64> {
    let told = ask(&["image", "inspect", "--format", "{{.Size}}", image]);
    Ok(told.map_err(|why| format!("{why}; run: make image"))?.parse()?)
}

/// Removes every container of the store, and the volume of these runs.
pub(crate) fn clear() {
    // An error means that there is nothing to remove, or no podman, which the run will say.
    let _ = ask(&["rm", "--force", "--all", "--time", "0"]);
    let _ = ask(&["volume", "rm", "--force", VOLUME]);
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/podman.sh"));
    command.arg("podman").args(words).stdin(Stdio::null());
    command
}

fn ask(words: &[&str]) -> Outcome<String> {
    let told = command(words).output().map_err(|why| format!("cannot run scripts/podman.sh: {why}"))?;
    match told.status.success() {
        true => Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned()),
        false => Err(format!("podman {}: {}", words[0], String::from_utf8_lossy(&told.stderr).trim()).into()),
    }
}
