//! The processes of a run: a simulated Finch, a Redis, and the gateways between.

use super::brood::{Brood, free_port};
use super::home::{CLIENT_SECRET, Home};
use super::plan::{CUSTOMERS, Event, PRODUCTS, Plan, Store};
use super::redis::Redis;
use super::{Outcome, http, machine};
use serde_json::Value;
use std::fmt::Write;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a process may take to start.
const START_MAX: Duration = Duration::from_secs(20);

/// All of them.
pub(crate) struct Site {
    brood: Arc<Brood>,
    finch_pid: u32,
    /// Where Finch is.
    pub(crate) finch: SocketAddr,
    /// The store of quota, unless it is in memory.
    pub(crate) redis: Option<Redis>,
    /// The gateways.
    pub(crate) gateways: Vec<Gateway>,
}

/// One gateway, with the folder it lives in.
pub(crate) struct Gateway {
    home: Home,
    folder: std::path::PathBuf,
    pid: Mutex<Option<u32>>,
    /// Where its operators ask.
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Where its app calls.
    pub(crate) fn door(&self) -> SocketAddr {
        self.home.door
    }
}

impl Site {
    /// Starts everything in this folder and waits until it answers.
    pub(crate) async fn start(brood: &Arc<Brood>, plan: &Plan, folder: &Path) -> Outcome<Self> {
        std::fs::create_dir(folder)?;
        let (finch, finch_pid) = start_finch(brood, plan, folder).await?;
        let redis = match plan.store {
            Store::Redis => Some(Redis::start(brood, &folder.join("redis")).await?),
            Store::Memory => None,
        };
        let told = http::get(finch, "/_sim/connections", &[]).await?.json();
        let connections = connections(&told)?;
        let mut site = Self { brood: Arc::clone(brood), finch_pid, finch, redis, gateways: Vec::new() };
        for number in 0..plan.gateways {
            let (door, admin) = (free_port()?, free_port()?);
            let settings = site.settings(plan, door, admin)?;
            let folder = folder.join(format!("gateway-{number}"));
            let home = Home::furnish(&folder, door, &settings, &connections)?;
            site.gateways.push(Gateway { home, folder, pid: Mutex::default(), admin });
            site.start_gateway(number)?;
        }
        for gateway in &site.gateways {
            answers(gateway.admin, "/livez")
                .await
                .map_err(|why| format!("{why}\n{}", gateway.home.last_words()))?;
        }
        Ok(site)
    }

    /// Does to the processes what the plan says.
    pub(crate) async fn suffer(&self, event: Event) -> Outcome<()> {
        match (event, &self.redis) {
            (Event::RedisRestarts, Some(redis)) => {
                redis.kill();
                redis.return_empty().await?;
            }
            (Event::RedisDies, Some(redis)) => redis.kill(),
            (Event::RedisReturns, Some(redis)) => redis.return_empty().await?,
            (Event::RedisRestarts | Event::RedisDies | Event::RedisReturns, None) => {}
            (Event::GatewayDies(number), _) => {
                let pid = self.gateways[number].pid.lock().unwrap_or_else(PoisonError::into_inner).take();
                pid.into_iter().for_each(|pid| self.brood.end(pid));
            }
            (Event::GatewayReturns(number), _) => self.start_gateway(number)?,
        }
        Ok(())
    }

    /// Asks the gateways to end, so that their logs tell of it; the rest just ends.
    pub(crate) fn end(&self) {
        for gateway in &self.gateways {
            let pid = gateway.pid.lock().unwrap_or_else(PoisonError::into_inner).take();
            pid.into_iter().for_each(|pid| self.brood.interrupt(pid));
        }
        self.redis.iter().for_each(Redis::kill);
        self.brood.end(self.finch_pid);
    }

    fn start_gateway(&self, number: usize) -> Outcome<()> {
        let gateway = &self.gateways[number];
        let lines = File::options().create(true).append(true).open(gateway.folder.join("lines"))?;
        let pid = gateway.home.serve(&self.brood, lines)?;
        *gateway.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
        Ok(())
    }

    fn settings(&self, plan: &Plan, door: SocketAddr, admin: SocketAddr) -> Outcome<String> {
        let store = match &self.redis {
            Some(redis) => format!("redis://{}", redis.door),
            None => "memory".to_owned(),
        };
        let mut text = format!(
            "[finch]\nbase_url = \"http://{}\"\nenvironment = \"sandbox\"\nclient_id = \"sim-client\"\n\n\
             [listen]\nproxy = \"{door}\"\nadmin = \"{admin}\"\n\n[merge]\ncoalesce = false\n\n\
             [limits]\nstore = \"{store}\"\nreplicas = {}\nwindow = \"{}ms\"\n\n\
             [limits.ip]\nrequests = {}\nwindow = \"{}ms\"\n\n[limits.products]\n",
            self.finch,
            plan.gateways,
            plan.window.as_millis(),
            plan.ip_requests,
            plan.window.as_millis() * 5,
        );
        for (product, limit) in PRODUCTS {
            writeln!(text, "{product} = {limit}")?;
        }
        Ok(text)
    }
}

/// The simulator, with these customers connected. It takes as long to answer as Finch may, in proportion
/// to the window.
async fn start_finch(brood: &Brood, plan: &Plan, folder: &Path) -> Outcome<(SocketAddr, u32)> {
    let mut scenario = format!(
        "[limits]\nwindow = \"{}ms\"\n\n[limits.ip]\nrequests = {}\nwindow = \"{}ms\"\n\n[limits.products]\n",
        plan.window.as_millis(),
        plan.ip_requests * 5 / 4,
        plan.window.as_millis() * 5,
    );
    for (product, limit) in PRODUCTS {
        writeln!(scenario, "{product} = {limit}")?;
    }
    for customer in CUSTOMERS {
        write!(scenario, "\n[[customer]]\nid = \"{}\"\n", customer.name)?;
    }
    for (product, _) in PRODUCTS {
        let delay = (plan.window / 240).as_millis();
        write!(scenario, "\n[[fault]]\nproduct = \"{product}\"\ndelay = \"{delay}ms\"\n")?;
    }
    let file = folder.join("scenario.toml");
    std::fs::write(&file, scenario)?;
    let door = free_port()?;
    let log = File::create(folder.join("finch.log"))?;
    let mut sim = Command::new(machine::program()?);
    sim.env_clear().env("FINCH_CLIENT_SECRET", CLIENT_SECRET).stdin(Stdio::null());
    sim.args(["sim", "--listen", &door.to_string(), "--scenario"]).arg(&file);
    let pid = brood.start(sim.stdout(log.try_clone()?).stderr(log))?;
    answers(door, "/_sim/healthz").await?;
    Ok((door, pid))
}

/// What the vaults shall hold.
fn connections(told: &Value) -> Outcome<Vec<Value>> {
    let list = told["connections"].as_array().ok_or("the simulator lists no connections")?;
    let names = ["customer_id", "connection_id", "access_token", "company_id", "provider_id"];
    let line = |connection: &Value| -> Value {
        names.iter().map(|name| ((*name).to_owned(), connection[*name].clone())).collect()
    };
    match list.len() == CUSTOMERS.len() {
        true => Ok(list.iter().map(line).collect()),
        false => Err(format!("{} connections instead of {}", list.len(), CUSTOMERS.len()).into()),
    }
}

/// Waits until it does.
async fn answers(door: SocketAddr, path: &str) -> Outcome<()> {
    let asked = async {
        while !http::get(door, path, &[]).await.is_ok_and(|answer| answer.status == 200) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(START_MAX, asked)
        .await
        .map_err(|_| format!("http://{door}{path} does not answer"))?;
    Ok(())
}
