//! Several gateways as processes before one Finch, each with a vault of its own, and quota in one Redis.

use super::redis::RedisServer;
use super::{App, Process, World, process};
use nix::sys::signal::Signal::SIGKILL;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// One gateway, which may be gone for a while.
pub struct Member {
    process: Option<Process>,
    doors: Arc<Mutex<(SocketAddr, SocketAddr)>>,
}

/// All of them.
pub struct Fleet {
    pub world: World,
    pub redis: RedisServer,
    pub members: Vec<Member>,
}

impl Fleet {
    /// Starts this many; each knows every connection that the simulator has, in a vault of its own.
    pub async fn start(world: World, count: usize) -> Self {
        Self::with_vaults(world, count, false).await
    }

    /// The same with one vault: each has a copy of it, with the same keys.
    pub async fn of_one_vault(world: World, count: usize) -> Self {
        Self::with_vaults(world, count, true).await
    }

    async fn with_vaults(world: World, count: usize, is_one: bool) -> Self {
        let redis = RedisServer::start().await;
        let told = world.straight().get("/_sim/connections").await.json();
        let names = ["customer_id", "connection_id", "access_token", "company_id", "provider_id"];
        let line = |connection: &Value| -> String {
            let line: Value = names.iter().map(|name| (*name, connection[*name].clone())).collect();
            line.to_string()
        };
        let connections: Vec<String> =
            told["connections"].as_array().into_iter().flatten().map(line).collect();
        std::fs::write(world.path("connections"), connections.join("\n")).expect("a writable folder");
        let mut fleet = Self { world, redis, members: Vec::new() };
        for number in 0..if is_one { 1 } else { count } {
            let words = ["connections", "import", "--no-verify", "connections"];
            let imported = fleet.world.run(fleet.command(number, count, &words)).await;
            assert_eq!(imported.code, Some(0), "{}", imported.err);
        }
        for number in 0..count {
            if is_one && number > 0 {
                copy_vault(
                    &fleet.world.path("gateway-0.db"),
                    &fleet.world.path(&format!("gateway-{number}.db")),
                );
            }
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let doors = Arc::new(Mutex::new((nowhere, nowhere)));
            fleet.members.push(Member { process: None, doors });
        }
        for number in 0..count {
            fleet.serve(number).await;
        }
        fleet
    }

    /// Starts one, or starts it again.
    pub async fn serve(&mut self, number: usize) {
        let process = Process::spawn(self.command(number, self.members.len(), &["serve"]), None);
        let doors = process::doors(&process).await;
        let member = &mut self.members[number];
        *member.doors.lock().expect("nobody panics in here") = doors;
        member.process = Some(process);
    }

    /// Kills one; what it says in its log until then comes back.
    pub async fn kill(&mut self, number: usize) -> String {
        let process = self.members[number].process.take().expect("it runs");
        process.end_by(SIGKILL).await.err
    }

    /// The log of one that runs.
    pub fn log(&self, number: usize) -> String {
        self.members[number].process.as_ref().map(|process| process.err.text()).unwrap_or_default()
    }

    /// Where one is called now; its address is another after each start.
    pub fn door(&self, number: usize) -> impl Fn() -> SocketAddr + Send + 'static {
        let doors = Arc::clone(&self.members[number].doors);
        move || doors.lock().expect("nobody panics in here").0
    }

    /// What one tells at `/metrics`.
    pub async fn metrics(&self, number: usize) -> super::metrics::Samples {
        let admin = self.members[number].doors.lock().expect("nobody panics in here").1;
        super::metrics::look(&App::at(admin)).await
    }

    /// Looks until every gateway's limiter is in this mode.
    pub async fn mode_becomes(&self, mode: &str) {
        let sample = format!("perch_limiter_mode{{mode=\"{mode}\"}} 1");
        for member in &self.members {
            let admin = member.doors.lock().expect("nobody panics in here").1;
            let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
            let is_so = async || {
                pace.tick().await;
                App::at(admin).get("/metrics").await.text().contains(&sample)
            };
            process::until(&format!("the limiter's mode becomes {mode}"), is_so).await;
        }
    }

    fn command(&self, number: usize, count: usize, words: &[&str]) -> std::process::Command {
        let mut command = self.world.command(words);
        command.env("PERCH_VAULT__STORE", format!("sqlite:gateway-{number}.db"));
        command.env("PERCH_LIMITS__STORE", self.redis.url()).env("PERCH_LIMITS__REPLICAS", count.to_string());
        command.env("PERCH_LIMITS__MEMBER", format!("gateway-{number}"));
        command
    }
}

/// Copies a vault that nobody has open.
pub fn copy_vault(from: &std::path::Path, to: &std::path::Path) {
    for end in ["", "-wal"] {
        let with = |path: &std::path::Path| {
            let mut path = path.as_os_str().to_owned();
            path.push(end);
            path
        };
        // The log of writes may be gone already.
        match std::fs::copy(with(from), with(to)) {
            Err(error) if end.is_empty() => panic!("{error}"),
            Ok(_) | Err(_) => {}
        }
    }
}
