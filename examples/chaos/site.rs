//! The processes of a world, what lies between them, and what can be done to each.

use super::brood::{Brood, free_port};
use super::furnish::{self, CLIENT_SECRET, Customer, START_MAX, TOKEN_MARKER};
use super::mode::Mode;
use super::plan::Arm;
use super::relay::Route;
use super::stores::{self, Postgres, Redis};
use super::{Outcome, clocks, http, machine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{PipeWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Gateway(usize),
    /// All links of this gateway.
    Relay(usize),
    Redis,
    Postgres,
    Finch,
    Recorder,
}

/// Where a gateway and its links are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatewayDoors {
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where its apps call.
    pub(crate) app: SocketAddr,
    pub(crate) finch: SocketAddr,
    pub(crate) redis: SocketAddr,
    pub(crate) postgres: SocketAddr,
}

/// Where everything is, before and after a kill.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    pub(crate) finch: SocketAddr,
    pub(crate) recorder: SocketAddr,
    pub(crate) redis: SocketAddr,
    pub(crate) postgres: SocketAddr,
    pub(crate) gateways: Vec<GatewayDoors>,
}

impl Doors {
    fn new(arm: Arm) -> Outcome<Self> {
        let mut given = BTreeSet::new();
        let mut port = || -> Outcome<SocketAddr> {
            loop {
                // Nobody listens yet on those that were given.
                let port = free_port()?;
                if given.insert(port) {
                    return Ok(port);
                }
            }
        };
        let mut gateways = Vec::new();
        for _ in 0..arm.gateways() {
            let (proxy, admin, app) = (port()?, port()?, port()?);
            let (finch, redis, postgres) = (port()?, port()?, port()?);
            gateways.push(GatewayDoors { proxy, admin, app, finch, redis, postgres });
        }
        Ok(Self { finch: port()?, recorder: port()?, redis: port()?, postgres: port()?, gateways })
    }
}

struct Running {
    pid: u32,
    /// Its standard input: orders for a relay; whoever reads it ends with it.
    orders: Option<PipeWriter>,
}

/// All of a world.
pub(crate) struct Site {
    pub(crate) arm: Arm,
    pub(crate) doors: Doors,
    pub(crate) folder: PathBuf,
    pub(crate) customers: BTreeMap<String, Customer>,
    /// Whether the disk of the one gateway is a small one that can be filled.
    pub(crate) has_small_disk: bool,
    /// How far the gateways' limits lie beyond Finch's.
    pub(crate) beyond: usize,
    brood: Arc<Brood>,
    redis: Redis,
    postgres: Option<Postgres>,
    running: Mutex<BTreeMap<Part, Running>>,
}

impl Site {
    /// Starts everything and waits until it answers.
    pub(crate) async fn start(
        brood: &Arc<Brood>,
        (arm, beyond): (Arm, usize),
        folder: &Path,
        scratch: &Path,
    ) -> Outcome<Self> {
        std::fs::create_dir(folder)?;
        let doors = Doors::new(arm)?;
        std::fs::write(folder.join("scenario.toml"), furnish::scenario()?)?;
        let postgres = match arm {
            Arm::Shared => Some(Postgres::make(&scratch.join("postgres"), doors.postgres)?),
            Arm::Alone => None,
        };
        let redis = Redis::make(&folder.join("redis"), doors.redis)?;
        let (brood, running) = (Arc::clone(brood), Mutex::default());
        let (folder, customers) = (folder.to_owned(), BTreeMap::new());
        let mut site = Self {
            arm,
            doors,
            folder,
            customers,
            has_small_disk: false,
            beyond,
            brood,
            redis,
            postgres,
            running,
        };
        site.up(Part::Finch).await?;
        site.customers = furnish::customers(site.doors.finch).await?;
        site.up(Part::Recorder).await?;
        if arm == Arm::Shared {
            site.up(Part::Redis).await?;
            site.up(Part::Postgres).await?;
        }
        for gateway in 0..arm.gateways() {
            site.furnish_gateway(gateway)?;
            site.up(Part::Relay(gateway)).await?;
            if gateway == 0 {
                let first = |c: &&Customer| !c.name.starts_with("spare-");
                let lines: Vec<String> = site.customers.values().filter(first).map(Customer::line).collect();
                site.perch(0, &["connections", "import", "--no-verify"], lines.join("\n")).await?;
            }
            site.up(Part::Gateway(gateway)).await?;
        }
        Ok(site)
    }

    fn furnish_gateway(&mut self, gateway: usize) -> Outcome<()> {
        let home = self.home(gateway);
        std::fs::create_dir_all(home.join("disk"))?;
        if self.arm == Arm::Alone {
            self.has_small_disk = stores::mount_small(&home.join("disk"));
        }
        std::fs::write(home.join("clock"), clocks::TRUE)?;
        std::fs::write(
            home.join("perch.toml"),
            furnish::settings(self.arm, &self.doors, gateway, "info", self.beyond)?,
        )?;
        match gateway {
            0 => drop(stores::done(self.command(0).args(["keys", "generate", "perch.key"]))?),
            // A copy keeps its mode.
            _ => drop(std::fs::copy(self.home(0).join("perch.key"), home.join("perch.key"))?),
        }
        Ok(())
    }

    /// A gateway's folder.
    pub(crate) fn home(&self, gateway: usize) -> PathBuf {
        self.folder.join(format!("gateway-{gateway}"))
    }

    /// What the recorder wrote.
    pub(crate) fn notes(&self) -> PathBuf {
        self.folder.join("recorder.jsonl")
    }

    /// The folders in which something was written.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut all = vec![self.folder.clone()];
        all.extend(self.postgres.iter().map(|postgres| postgres.folder.clone()));
        all
    }

    fn command(&self, gateway: usize) -> Command {
        let program = machine::program().unwrap_or_else(|_| PathBuf::from("perch"));
        let mut command = Command::new(program);
        command.current_dir(self.home(gateway)).env_clear();
        command.env("PERCH_CONFIG", "perch.toml").env("FINCH_CLIENT_SECRET", CLIENT_SECRET);
        command
    }

    /// Runs one of perch's commands beside a gateway; what it printed, when it said that it has done it.
    pub(crate) async fn perch(&self, gateway: usize, words: &[&str], input: String) -> Outcome<String> {
        let (mut command, name) = (self.command(gateway), words.join(" "));
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let pid_and_end = tokio::task::spawn_blocking(move || -> Outcome<String> {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                let _ = stdin.write_all(input.as_bytes());
            }
            let done = child.wait_with_output()?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            match done.status.success() {
                true => Ok(text(&done.stdout)),
                false => Err(format!("perch {name}: {} {}", done.status, text(&done.stderr)).into()),
            }
        });
        pid_and_end.await?
    }

    fn with(&self) -> MutexGuard<'_, BTreeMap<Part, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, part: Part, mut command: Command) -> Outcome<()> {
        let (reader, writer) = std::io::pipe()?;
        let name = format!("{part:?}.log").to_lowercase().replace(['(', ')'], "-");
        let log = File::options().create(true).append(true).open(self.folder.join(name))?;
        let is_led = matches!(part, Part::Relay(_) | Part::Recorder);
        match is_led {
            true => command.stdin(reader),
            false => command.stdin(Stdio::null()),
        };
        let pid = self.brood.start(command.stdout(log.try_clone()?).stderr(log))?;
        self.with().insert(part, Running { pid, orders: is_led.then_some(writer) });
        Ok(())
    }

    /// Starts a process that is not there, and waits until it is in service.
    pub(crate) async fn up(&self, part: Part) -> Outcome<()> {
        let own = std::env::current_exe()?;
        let doors = &self.doors;
        match part {
            Part::Gateway(gateway) => {
                let mut command = self.command(gateway);
                command.arg("serve");
                if self.has_own_clock(part) {
                    clocks::give(&mut command, &self.home(gateway).join("clock"));
                }
                self.launch(part, command)?;
                self.answers(part, doors.gateways[gateway].admin, "/livez").await
            }
            Part::Relay(gateway) => {
                let near = doors.gateways[gateway];
                let mut command = Command::new(own);
                command.arg("relay");
                for (name, listen, to) in [
                    ("app", near.app, near.proxy),
                    ("finch", near.finch, doors.recorder),
                    ("redis", near.redis, doors.redis),
                    ("postgres", near.postgres, doors.postgres),
                ] {
                    command.arg("--route").arg(Route::word(name, listen, to));
                }
                self.launch(part, command)?;
                self.listens(part, near.postgres).await
            }
            Part::Recorder => {
                let mut command = Command::new(own);
                command.arg("recorder").arg("--listen").arg(doors.recorder.to_string());
                command.arg("--to").arg(doors.finch.to_string()).arg("--file").arg(self.notes());
                self.launch(part, command)?;
                self.write(part, &format!("{TOKEN_MARKER}\n{CLIENT_SECRET}\n\n"));
                self.listens(part, doors.recorder).await
            }
            Part::Finch => {
                let mut command = Command::new(machine::program()?);
                command.env_clear().env("FINCH_CLIENT_SECRET", CLIENT_SECRET).arg("sim");
                command.args(["--listen", &doors.finch.to_string(), "--scenario"]);
                command.arg(self.folder.join("scenario.toml"));
                self.launch(part, command)?;
                self.answers(part, doors.finch, "/_sim/healthz").await
            }
            Part::Redis => {
                self.launch(part, self.redis.command()?)?;
                let ready = async {
                    while self.redis.ask("PING").await.is_err() {
                        sleep(Duration::from_millis(20)).await;
                    }
                };
                Ok(timeout(START_MAX, ready).await.map_err(|_| "redis-server does not answer")?)
            }
            Part::Postgres => self.postgres_up().await,
        }
    }

    /// A server that was killed leaves things behind that a new one wants to be gone first.
    async fn postgres_up(&self) -> Outcome<()> {
        let postgres = self.postgres.as_ref().ok_or("this world has no PostgreSQL")?;
        let ready = async {
            loop {
                self.launch(Part::Postgres, postgres.command())?;
                while !self.is_gone(Part::Postgres) {
                    if postgres.is_ready().await {
                        return Ok(());
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(START_MAX, ready).await.map_err(|_| "PostgreSQL does not start; see its log")?
    }

    /// Whether its clock can be set apart from the machine's. Redis brings an allocator with which the library does not start.
    pub(crate) fn has_own_clock(&self, part: Part) -> bool {
        part == Part::Gateway(0) && clocks::library().is_some()
    }

    /// Sets the clock of the gateway that has its own.
    pub(crate) fn set_clock(&self, offset: &str) -> Outcome<()> {
        Ok(std::fs::write(self.home(0).join("clock"), offset)?)
    }

    async fn answers(&self, part: Part, door: SocketAddr, path: &str) -> Outcome<()> {
        let asked = http::request("GET", path, &[], "");
        let answers = async {
            while !self.is_gone(part) {
                if http::call(door, &asked, Duration::from_secs(2)).await.is_ok_and(|a| a.status() == 200) {
                    return true;
                }
                sleep(Duration::from_millis(20)).await;
            }
            false
        };
        match timeout(START_MAX, answers).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{part:?} ended instead of starting; see its log").into()),
            Err(_) => Err(format!("{part:?} does not answer {path}").into()),
        }
    }

    async fn listens(&self, part: Part, door: SocketAddr) -> Outcome<()> {
        let connects = async {
            while tokio::net::TcpStream::connect(door).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        Ok(timeout(START_MAX, connects).await.map_err(|_| format!("{part:?} does not listen"))?)
    }

    /// SIGKILL.
    pub(crate) fn kill(&self, part: Part) {
        let Some(running) = self.with().remove(&part) else { return };
        // A server's helpers would outlive it for a moment.
        let helpers = stores::children(running.pid);
        self.brood.end(running.pid);
        if part == Part::Postgres {
            helpers.into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
        }
    }

    /// Sends a signal to a process, and to its helpers when they must stop with it.
    pub(crate) fn signal(&self, part: Part, which: Signal) {
        let Some(pid) = self.pid(part) else { return };
        if part == Part::Postgres {
            stores::children(pid).into_iter().for_each(|pid| signal(pid, which));
        }
        signal(pid, which);
    }

    /// The process of a part that is meant to run.
    pub(crate) fn pid(&self, part: Part) -> Option<u32> {
        self.with().get(&part).map(|running| running.pid)
    }

    fn is_gone(&self, part: Part) -> bool {
        self.pid(part).is_none_or(|pid| self.brood.is_gone(pid))
    }

    /// Parts that have ended and were not killed.
    pub(crate) fn ended_by_themselves(&self) -> Vec<Part> {
        let all: Vec<(Part, u32)> = self.with().iter().map(|(part, running)| (*part, running.pid)).collect();
        let gone = |(part, pid): &(Part, u32)| self.brood.is_gone(*pid) && self.pid(*part) == Some(*pid);
        all.into_iter().filter(gone).map(|(part, _)| part).collect()
    }

    /// Makes a link of a gateway good or bad.
    pub(crate) fn order(&self, gateway: usize, link: &str, mode: Mode) {
        self.write(Part::Relay(gateway), &format!("{link} {mode}\n"));
    }

    fn write(&self, part: Part, text: &str) {
        let mut running = self.with();
        if let Some(orders) = running.get_mut(&part).and_then(|running| running.orders.as_mut()) {
            // One that was killed has no use for it.
            let _ = orders.write_all(text.as_bytes());
        }
    }

    /// The store of quota.
    pub(crate) fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Asks the gateways to end, so that what they write at the end is searched too; the rest just ends.
    pub(crate) fn end(&self) {
        for gateway in 0..self.arm.gateways() {
            let pid = self.with().remove(&Part::Gateway(gateway)).map(|running| running.pid);
            pid.into_iter().for_each(|pid| self.brood.interrupt(pid));
        }
        let rest: Vec<Part> = self.with().keys().copied().collect();
        rest.into_iter().for_each(|part| self.kill(part));
    }
}

fn signal(pid: u32, which: Signal) {
    if let Ok(id) = i32::try_from(pid) {
        // An error means that it has ended already.
        let _ = kill(Pid::from_raw(id), which);
    }
}
