//! What the processes are given: Finch's scenario, the gateways' settings, and who the customers are.

use super::plan::{Arm, BRAKES, CUSTOMERS, GATEWAYS_MAX, Limits, SPARES, window};
use super::site::Doors;
use super::{Outcome, http};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// The application's own secret. It may be in nothing but what goes to Finch.
pub(crate) const CLIENT_SECRET: &str = "canary-4c1f-client-secret-of-chaos";
/// What stands in every access token.
pub(crate) const TOKEN_MARKER: &str = "canary-9b7e-token-of-chaos";

/// One customer, as Finch knows it.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) name: String,
    pub(crate) connection: String,
    pub(crate) token: String,
    pub(crate) company: String,
    pub(crate) provider: String,
    /// The ids of those it employs; asked for only where calls will be made.
    pub(crate) people: Vec<String>,
}

impl Customer {
    /// As `perch connections import` reads it.
    pub(crate) fn line(&self) -> String {
        let (name, connection, token) = (&self.name, &self.connection, &self.token);
        let (company, provider) = (&self.company, &self.provider);
        serde_json::json!({
            "customer_id": name, "connection_id": connection, "access_token": token,
            "company_id": company, "provider_id": provider,
        })
        .to_string()
    }
}

/// Every name, in order: those of the load, those that are imported meanwhile, those that are paused.
fn names() -> Vec<String> {
    let load = (0..CUSTOMERS).map(|number| format!("cust-{number:02}"));
    let spares = (0..SPARES).map(|number| format!("spare-{number:02}"));
    let brakes = (0..BRAKES).map(|number| format!("brake-{number:02}"));
    load.chain(spares).chain(brakes).chain(["canary".to_owned()]).collect()
}

/// Finch, with limits of a short window. The harness calls it from the same address, past the gateways, so Finch itself does
/// not refuse by that: what came through the gateways, and so kept [`Limits::IP`] or not, the recorder knows.
pub(crate) fn scenario() -> Outcome<String> {
    let mut text = format!(
        "seed = 9\nemployees = 3\ntoken_marker = \"{TOKEN_MARKER}\"\n\n[limits]\nwindow = \"{}ms\"\n\n\
         [limits.ip]\nrequests = 100000\n\n[limits.products]\n",
        window().as_millis()
    );
    for (product, limit) in Limits::PRODUCTS {
        writeln!(text, "{product} = {limit}")?;
    }
    for name in names() {
        write!(text, "\n[[customer]]\nid = \"{name}\"\n")?;
    }
    Ok(text)
}

/// One gateway's settings; its limits lie this far beyond Finch's.
pub(crate) fn settings(
    arm: Arm,
    doors: &Doors,
    gateway: usize,
    level: &str,
    beyond: usize,
) -> Outcome<String> {
    let own = &doors.gateways[gateway];
    let (vault, ledger, replicas) = match arm {
        Arm::Shared => (
            format!("postgres://perch@{}/perch", own.postgres),
            format!("redis://{}", own.redis),
            GATEWAYS_MAX,
        ),
        Arm::Alone => ("sqlite:disk/perch.db".to_owned(), "memory".to_owned(), 1),
    };
    let mut text = format!(
        "[finch]\nbase_url = \"http://{}\"\nenvironment = \"sandbox\"\nclient_id = \"sim-client\"\n\
         client_secret = \"env:FINCH_CLIENT_SECRET\"\ntimeout = \"10s\"\nconnect_timeout = \"3s\"\n\n\
         [listen]\nproxy = \"{}\"\nadmin = \"{}\"\n\n[vault]\nstore = \"{vault}\"\ncache_ttl = \"5s\"\n\n\
         [apps]\nwrites = \"allow\"\n\n[merge]\ncache = {{ company = \"2s\" }}\n\n[drain]\ngrace = \"5s\"\n\n\
         [log]\nlevel = \"{level}\"\n\n[limits]\nstore = \"{ledger}\"\nreplicas = {replicas}\nwindow = \"{}ms\"\n\
         arrival_bound = \"off\"\n\n[limits.ip]\nrequests = {}\nwindow = \"{}ms\"\n\n[limits.products]\n",
        own.finch,
        own.proxy,
        own.admin,
        window().as_millis(),
        Limits::IP.count + beyond,
        Limits::IP.window.as_millis(),
    );
    for (product, limit) in Limits::PRODUCTS {
        writeln!(text, "{product} = {}", limit + beyond)?;
    }
    Ok(text)
}

/// Asks the simulator who its customers are, and those of the load whom they employ.
pub(crate) async fn customers(finch: SocketAddr) -> Outcome<BTreeMap<String, Customer>> {
    let told = http::json(finch, "GET", "/_sim/connections", &[], "").await?;
    let mut all = BTreeMap::new();
    for row in told["connections"].as_array().ok_or("the simulator lists no connections")? {
        let customer = read(row)?;
        all.insert(customer.name.clone(), customer);
    }
    if all.len() != names().len() {
        return Err(format!("{} customers instead of {}", all.len(), names().len()).into());
    }
    for customer in all.values_mut().filter(|customer| customer.name.starts_with("cust-")) {
        // Limits are forgotten, so that none is in the way.
        http::json(finch, "POST", "/_sim/reset", &[], "").await?;
        let bearer = format!("Bearer {}", customer.token);
        let headers = [("authorization", bearer.as_str()), ("finch-api-version", "2020-09-17")];
        let directory = http::json(finch, "GET", "/employer/directory", &headers, "").await?;
        let people = directory["individuals"].as_array().ok_or("the simulator lists no people")?;
        customer.people = people.iter().filter_map(|p| p["id"].as_str().map(str::to_owned)).collect();
        if customer.people.is_empty() {
            return Err(format!("{} employs nobody", customer.name).into());
        }
    }
    Ok(all)
}

/// One row of the simulator's list.
pub(crate) fn read(row: &Value) -> Outcome<Customer> {
    let text = |name: &str| -> Outcome<String> {
        Ok(row[name].as_str().ok_or_else(|| format!("a connection without {name}"))?.to_owned())
    };
    Ok(Customer {
        name: text("customer_id")?,
        connection: text("connection_id")?,
        token: text("access_token")?,
        company: text("company_id")?,
        provider: text("provider_id")?,
        people: Vec::new(),
    })
}

/// How long anything may take to start.
pub(crate) const START_MAX: Duration = Duration::from_secs(40);
