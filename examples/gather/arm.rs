//! One arm: a simulator, a gateway, and all calls at once.

use super::brood::{Brood, free_port};
use super::home::{CLIENT_SECRET, Home};
use super::{Outcome, http, machine};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

const CUSTOMERS: [&str; 3] = ["acme", "globex", "initech"];
/// How long a process may take to answer its first question.
const START_MAX: Duration = Duration::from_secs(30);
/// How long Finch takes for an answer.
const ANSWER_MS: u32 = 250;

/// What is tried.
pub(crate) struct Arm {
    /// For the report.
    pub(crate) name: &'static str,
    /// How many calls.
    pub(crate) calls: usize,
    /// Requests of a minute, at Finch and in perch.
    pub(crate) limit: u32,
    /// Whether calls that wait share requests.
    pub(crate) shares: bool,
}

/// What came of it.
pub(crate) struct Found {
    /// What was tried.
    pub(crate) arm: Arm,
    /// Calls that got the person they had asked for, and nobody else.
    pub(crate) good: usize,
    /// What Finch counted.
    pub(crate) requests: u64,
    /// What it refused.
    pub(crate) refused: u64,
    /// The most requests in any of its windows.
    pub(crate) fullest: u64,
    /// From the first call to the last answer.
    pub(crate) took: Duration,
    /// From the first call to half of the answers.
    pub(crate) half: Duration,
}

impl Found {
    /// How many calls went into one request.
    pub(crate) fn fewer(&self) -> f64 {
        self.arm.calls as f64 / self.requests as f64
    }
}

/// Runs it.
pub(crate) async fn run(brood: &Brood, arm: Arm, folder: &Path) -> Outcome<Found> {
    std::fs::create_dir(folder)?;
    let finch = start_finch(brood, &arm, folder).await?;
    let told = http::call("GET", finch, "/_sim/connections", &[], None).await?.json();
    let connections = connections(&told)?;
    let (door, admin) = (free_port()?, free_port()?);
    let home =
        Home::furnish(&folder.join("gateway"), door, &settings(&arm, finch, door, admin), &connections)?;
    home.serve(brood, File::create(folder.join("lines"))?)?;
    answers(admin, "/livez").await.map_err(|why| format!("{why}\n{}", home.last_words()))?;
    let mut people = Vec::new();
    for customer in CUSTOMERS {
        let path = "/employer/directory?limit=10000";
        let directory = http::call("GET", door, path, &[("perch-customer", customer)], None).await?.json();
        let list = directory["individuals"].as_array().ok_or("no directory")?;
        people.push(list.iter().filter_map(|p| Some(p["id"].as_str()?.to_owned())).collect::<Vec<_>>());
    }
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..arm.calls {
        let customer = number % CUSTOMERS.len();
        let ids = &people[customer];
        let id = ids[number / CUSTOMERS.len() % ids.len()].clone();
        calls.spawn(async move {
            let headers = [("perch-customer", CUSTOMERS[customer]), ("perch-priority", "batch")];
            let body = json!({ "requests": [{ "individual_id": id }] });
            let answer = http::call("POST", door, "/employer/individual", &headers, Some(&body)).await?;
            let told = answer.json();
            let items = told["responses"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_good = answer.status == 200 && items.len() == 1 && items[0]["body"]["id"] == id.as_str();
            Outcome::Ok((is_good, began.elapsed()))
        });
    }
    let (mut good, mut ended) = (0, Vec::new());
    while let Some(call) = calls.join_next().await {
        let (is_good, at) = call??;
        good += usize::from(is_good);
        ended.push(at);
    }
    ended.sort_unstable();
    let report = http::call("GET", finch, "/_sim/report", &[], None).await?.json();
    let product = &report["products"]["individual"];
    let number =
        |name: &str| product[name].as_u64().ok_or_else(|| format!("the report has no {name}: {product}"));
    Ok(Found {
        good,
        requests: number("arrivals")?,
        refused: number("refused")?,
        fullest: number("worst_window")?,
        took: ended.last().copied().unwrap_or_default(),
        half: ended.get(ended.len() / 2).copied().unwrap_or_default(),
        arm,
    })
}

async fn start_finch(brood: &Brood, arm: &Arm, folder: &Path) -> Outcome<SocketAddr> {
    let mut scenario = format!("[limits.products]\nindividual = {}\n", arm.limit);
    for customer in CUSTOMERS {
        let employees = arm.calls.div_ceil(CUSTOMERS.len());
        write!(scenario, "\n[[customer]]\nid = \"{customer}\"\nemployees = {employees}\n")?;
    }
    write!(scenario, "\n[[fault]]\nproduct = \"individual\"\ndelay = \"{ANSWER_MS}ms\"\n")?;
    let file = folder.join("scenario.toml");
    std::fs::write(&file, scenario)?;
    let door = free_port()?;
    let log = File::create(folder.join("finch.log"))?;
    let mut sim = Command::new(machine::program()?);
    sim.env_clear().env("FINCH_CLIENT_SECRET", CLIENT_SECRET).stdin(Stdio::null());
    sim.args(["sim", "--listen", &door.to_string(), "--scenario"]).arg(&file);
    brood.start(sim.stdout(log.try_clone()?).stderr(log))?;
    answers(door, "/_sim/healthz").await?;
    Ok(door)
}

/// The same for every arm, but for what is tried.
fn settings(arm: &Arm, finch: SocketAddr, door: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "[finch]\nbase_url = \"http://{finch}\"\nenvironment = \"sandbox\"\nclient_id = \"sim-client\"\n\n\
         [listen]\nproxy = \"{door}\"\nadmin = \"{admin}\"\n\n\
         [merge]\ncoalesce = false\nbatch = {}\n\n\
         [limits.products]\nindividual = {}\n\n\
         [limits.wait]\nbatch = \"1h\"\n\n[limits.queue]\nper_customer = 5000\n",
        arm.shares, arm.limit
    )
}

/// What the vault shall hold.
fn connections(told: &Value) -> Outcome<Vec<Value>> {
    let list = told["connections"].as_array().ok_or("the simulator lists no connections")?;
    let names = ["customer_id", "connection_id", "access_token", "company_id", "provider_id"];
    let line = |connection: &Value| -> Value {
        names.iter().map(|name| ((*name).to_owned(), connection[*name].clone())).collect()
    };
    Ok(list.iter().map(line).collect())
}

/// Waits until it does.
async fn answers(door: SocketAddr, path: &str) -> Outcome<()> {
    let asked = async {
        while !http::call("GET", door, path, &[], None).await.is_ok_and(|answer| answer.status == 200) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(START_MAX, asked)
        .await
        .map_err(|_| format!("http://{door}{path} does not answer"))?;
    Ok(())
}
