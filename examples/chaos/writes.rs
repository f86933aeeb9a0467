//! Writes that perch acknowledges while everything fails: imports, code exchanges, pauses and their ends, key rotations. What
//! was acknowledged is looked for afterwards; what was not may be there or not.

use super::chance::Chance;
use super::furnish;
use super::http::{self, Lost};
use super::load::canary;
use super::notes::{Bound, Notes};
use super::plan::{BRAKES, SPARES};
use super::site::Site;
use super::wire::Message;
use super::{Outcome, judge};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long each write may take.
const WRITE_MAX: Duration = Duration::from_secs(40);
/// An operator who waits longer than this is told of.
const SLOW: Duration = Duration::from_secs(10);
/// The pause between two writes, in milliseconds.
const PAUSE_MILLIS: (u64, u64) = (500, 3500);
/// How long what was acknowledged may take to be known everywhere: two seconds by promise, and the turn of a call.
const KNOWN_MAX: Duration = Duration::from_secs(20);

/// One connection that an exchange made.
#[derive(Debug, Clone)]
struct Exchanged {
    customer: String,
    connection: String,
    reference: String,
    /// Whose data it must give.
    company: String,
    /// In which life of Finch's: one that was killed since knows it no more.
    life: usize,
}

#[derive(Default)]
struct State {
    imported: Vec<String>,
    exchanged: Vec<Exchanged>,
    paused: BTreeSet<String>,
    resumed: BTreeSet<String>,
    /// The newest sealing key that a rotation told of.
    key: u64,
    /// Digests of `Authorization` of connections that were made.
    tokens: HashMap<String, String>,
    /// How often Finch was killed, and whether codes of this life can be told from those before.
    life: usize,
    is_burning: bool,
    /// Ids that Finch has given in this life, and those that it gave away at its beginning.
    given: usize,
    burnt: usize,
}

/// Ids that Finch may have given without our knowledge.
const UNKNOWN_IDS: usize = 50;

/// What was acknowledged.
#[derive(Default)]
pub(crate) struct Writes(Mutex<State>);

impl Writes {
    fn with(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finch is being killed: of what was made there it will know nothing.
    pub(crate) fn finch_dies(&self) {
        let mut state = self.with();
        state.life += 1;
        state.is_burning = true;
    }

    /// Ids that a Finch that starts again must give away: it counts them from one, and codes must not come twice.
    pub(crate) fn to_burn(&self) -> usize {
        let mut state = self.with();
        state.burnt += state.given + UNKNOWN_IDS;
        state.given = 0;
        state.burnt
    }

    /// They are given away.
    pub(crate) fn finch_lives(&self) {
        self.with().is_burning = false;
    }

    /// Digests of `Authorization` by customer, of connections that were made meanwhile.
    pub(crate) fn tokens(&self) -> HashMap<String, String> {
        self.with().tokens.clone()
    }

    /// Writes for ever.
    pub(crate) async fn work(self: Arc<Self>, site: Arc<Site>, notes: Arc<Notes>, seed: u64) {
        let mut chance = Chance::of(seed, &format!("{} writes", site.arm.name()));
        let (mut spare, mut brake, mut made) = (0, 0, 0);
        loop {
            let gateway = chance.place(site.arm.gateways());
            match chance.within(0, 100) {
                0..35 if spare < SPARES => {
                    self.import(&site, &notes, gateway, format!("spare-{spare:02}")).await;
                    spare += 1;
                }
                35..65 => {
                    let name = format!("new-{made}");
                    made += 1;
                    // Not acknowledged is no fault: the code is lost with its session.
                    let _ = self.exchange(&site, &notes, gateway, name).await;
                }
                65..80 if brake < BRAKES => {
                    self.pause(&site, &notes, gateway, format!("brake-{brake:02}")).await;
                    brake += 1;
                }
                80..92 => self.resume(&site, &notes, gateway).await,
                92..96 => self.rotate(&site, &notes, gateway).await,
                _ => {}
            }
            sleep(Duration::from_millis(chance.within(PAUSE_MILLIS.0, PAUSE_MILLIS.1))).await;
        }
    }

    async fn rotate(&self, site: &Site, notes: &Notes, gateway: usize) {
        let told = site.perch(gateway, &["keys", "rotate", "-o", "json"], String::new()).await;
        let Ok(told) = told else { return };
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        match told["key"].as_u64() {
            Some(key) => {
                notes.count("key rotations acknowledged", 1);
                let mut state = self.with();
                state.key = state.key.max(key);
            }
            None => notes.broken(Bound::Writes, format!("a rotation told of no key: {told}")),
        }
    }

    /// The newest key that was told of seals, or one that came after it.
    async fn verify_key(&self, site: &Site, notes: &Notes, gateway: usize) {
        let until = Instant::now() + KNOWN_MAX;
        loop {
            let wanted = self.with().key;
            if wanted == 0 {
                return;
            }
            let told = site.perch(gateway, &["keys", "list", "-o", "json"], String::new()).await;
            match told.map_err(|why| why.to_string()).and_then(|told| seals(&told)) {
                Ok(key) if key >= wanted => return notes.count("acknowledged writes looked for", 1),
                Err(_) | Ok(_) if Instant::now() < until => sleep(Duration::from_millis(200)).await,
                told => {
                    let what = format!("key {wanted} was told to seal, and gateway {gateway} says {told:?}");
                    return notes.broken(Bound::Writes, what);
                }
            }
        }
    }

    async fn import(&self, site: &Site, notes: &Notes, gateway: usize, name: String) {
        let line = site.customers[&name].line();
        if site.perch(gateway, &["connections", "import", "--no-verify"], line).await.is_ok() {
            notes.count("imports acknowledged", 1);
            self.with().imported.push(name);
        }
    }

    async fn exchange(&self, site: &Site, notes: &Notes, gateway: usize, name: String) -> Outcome<()> {
        let session =
            json!({ "customer_id": name, "customer_name": name, "products": ["company", "directory"] });
        let session = post(site, notes, gateway, "/connect/sessions", &session).await?;
        let session = session["session_id"].as_str().ok_or("no session")?.to_owned();
        let login = format!("/connect/authorize?session={session}&provider=gusto");
        let life = {
            let mut state = self.with();
            state.given += 2;
            if state.is_burning {
                return Err("a code of now could be one of before".into());
            }
            state.life
        };
        let code = http::json(site.doors.finch, "GET", &login, &[], "").await?["code"].clone();
        let body = json!({ "client_id": "x", "client_secret": "y", "code": code });
        let done = post(site, notes, gateway, "/auth/token", &body).await?;
        let text = |name: &str| done[name].as_str().unwrap_or_default().to_owned();
        let mut exchanged = Exchanged {
            customer: name.clone(),
            connection: text("connection_id"),
            reference: text("access_token"),
            company: text("company_id"),
            life,
        };
        if exchanged.reference != format!("connection:{}", exchanged.connection) {
            notes.broken(Bound::Tokens, format!("an exchange gave {} and no reference", name));
        }
        notes.count("exchanges acknowledged", 1);
        // Who it is: Finch's word, which no link has damaged. Without it the answer's own has to do.
        let all = http::json(site.doors.finch, "GET", "/_sim/connections", &[], "").await;
        let all = all.unwrap_or_default();
        let rows = all["connections"].as_array().into_iter().flatten();
        for known in rows.filter_map(|row| furnish::read(row).ok()).filter(|known| known.name == name) {
            let bearer = format!("Bearer {}", known.token);
            self.with().tokens.insert(name.clone(), super::records::digest(bearer.as_bytes()));
            exchanged.company = known.company;
        }
        self.with().exchanged.push(exchanged);
        Ok(())
    }

    async fn pause(&self, site: &Site, notes: &Notes, gateway: usize, name: String) {
        let body = json!({ "scope": "customer", "name": name, "reason": "chaos" }).to_string();
        if operator(site, notes, gateway, ("POST", "/api/pauses"), &body).await.is_some() {
            notes.count("pauses acknowledged", 1);
            self.with().paused.insert(name);
        }
    }

    /// Ends one that is known to be there. From now on until it is acknowledged nothing is known of it.
    async fn resume(&self, site: &Site, notes: &Notes, gateway: usize) {
        let Some(name) = self.with().paused.pop_first() else { return };
        let body = json!({ "scope": "customer", "name": name }).to_string();
        if operator(site, notes, gateway, ("POST", "/api/pauses/resume"), &body).await.is_some() {
            notes.count("pauses ended", 1);
            self.with().resumed.insert(name);
        }
    }

    /// Looks for some of what was acknowledged, at a gateway that serves; all of it with `all`.
    pub(crate) async fn verify(&self, site: &Site, notes: &Notes, chance: &mut Chance, all: bool) {
        let (imported, exchanged) = {
            let state = self.with();
            let (mut imported, mut exchanged) = (state.imported.clone(), state.exchanged.clone());
            chance.shuffle(&mut imported);
            chance.shuffle(&mut exchanged);
            let most = if all { usize::MAX } else { 1 };
            imported.truncate(most);
            exchanged.truncate(most);
            (imported, exchanged)
        };
        for name in imported {
            let gateway = chance.place(site.arm.gateways());
            let until = Instant::now() + KNOWN_MAX;
            let mut told = canary(site, notes, gateway, &name).await;
            while told.is_err() && Instant::now() < until {
                sleep(Duration::from_millis(200)).await;
                told = canary(site, notes, gateway, &name).await;
            }
            notes.count("acknowledged writes looked for", 1);
            if let Err(why) = told {
                notes.broken(Bound::Writes, format!("{name} was imported, and gateway {gateway} says {why}"));
            }
        }
        for exchanged in exchanged {
            self.verify_exchanged(site, notes, &exchanged, chance.place(site.arm.gateways())).await;
        }
        self.verify_key(site, notes, chance.place(site.arm.gateways())).await;
        for gateway in 0..site.arm.gateways() {
            self.verify_pauses(site, notes, gateway).await;
            for path in ["/metrics", "/api/config", "/api/requests", "/readyz?verbose"] {
                operator(site, notes, gateway, ("GET", path), "").await;
            }
        }
    }

    /// Its row is there and its token opens; and it serves while Finch knows it.
    async fn verify_exchanged(&self, site: &Site, notes: &Notes, exchanged: &Exchanged, gateway: usize) {
        let Exchanged { connection, customer, life, .. } = exchanged;
        notes.count("acknowledged writes looked for", 1);
        let until = Instant::now() + KNOWN_MAX;
        loop {
            let finch_forgot = *life != self.with().life;
            let told = match finch_forgot {
                true => {
                    site.perch(gateway, &["connections", "show", connection], String::new()).await.map(drop)
                }
                false => get(site, notes, gateway, exchanged).await,
            };
            match told {
                Ok(()) => return,
                Err(why) if Instant::now() >= until => {
                    notes.broken(
                        Bound::Writes,
                        format!("{customer} was connected, and gateway {gateway} says {why}"),
                    );
                    return;
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn verify_pauses(&self, site: &Site, notes: &Notes, gateway: usize) {
        let until = Instant::now() + KNOWN_MAX;
        loop {
            // What is acknowledged meanwhile may be too new for the list.
            let (paused, resumed) = {
                let state = self.with();
                (state.paused.clone(), state.resumed.clone())
            };
            let list = operator(site, notes, gateway, ("GET", "/api/pauses"), "")
                .await
                .unwrap_or_default()
                .to_string();
            let is_there = |name: &&String| list.contains(&format!("\"{name}\""));
            // Whose end was asked for since then may be gone.
            let meant = self.with().paused.clone();
            let lost: Vec<&String> =
                paused.iter().filter(|name| !is_there(name) && meant.contains(*name)).collect();
            let back: Vec<&String> = resumed.iter().filter(is_there).collect();
            if lost.is_empty() && back.is_empty() {
                notes.count("acknowledged writes looked for", paused.len() + resumed.len());
                return;
            }
            if Instant::now() >= until {
                let what = format!("gateway {gateway} forgot the pauses {lost:?}, and the end of {back:?}");
                notes.broken(Bound::Writes, what);
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A call of the app's back end; what it was told when that was good.
async fn post(site: &Site, notes: &Notes, gateway: usize, path: &str, body: &Value) -> Outcome<Value> {
    let asked = http::request("POST", path, &[], &body.to_string());
    let answer = noted(site, notes, gateway, &asked).await;
    let answer = answer.map_err(|lost| format!("{path}: {lost:?}"))?;
    match answer.status() {
        200..=299 => Ok(serde_json::from_slice(&answer.body)?),
        status => Err(format!("{path}: {status}").into()),
    }
}

/// The key that seals rows, in what `perch keys list` says.
fn seals(told: &str) -> Result<u64, String> {
    let keys: Value = serde_json::from_str(told).map_err(|why| why.to_string())?;
    let mut all = keys.as_array().into_iter().flatten();
    let primary = all.find(|key| key["purpose"] == "record" && key["state"] == "primary");
    primary.and_then(|key| key["key"].as_u64()).ok_or_else(|| format!("no key seals: {told}"))
}

/// Its own company's data, and no other 200.
async fn get(site: &Site, notes: &Notes, gateway: usize, of: &Exchanged) -> Outcome<()> {
    let (bearer, mark) =
        (format!("Bearer {}", of.reference), format!("{}{}", super::records::MARK, of.customer));
    let headers =
        [("Authorization", bearer.as_str()), ("User-Agent", mark.as_str()), ("Perch-Max-Wait", "5")];
    let asked = http::request("GET", "/employer/company", &headers, "");
    match noted(site, notes, gateway, &asked).await {
        Ok(answer) if answer.status() == 200 => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match body["id"] == of.company.as_str() {
                true => Ok(()),
                false => Err(format!("a company {} instead of {}", body["id"], of.company).into()),
            }
        }
        Ok(answer) => Err(String::from_utf8_lossy(&answer.body).into_owned().into()),
        Err(lost) => Err(format!("{lost:?}").into()),
    }
}

async fn noted(site: &Site, notes: &Notes, gateway: usize, asked: &[u8]) -> Result<Message, Lost> {
    let sent = Instant::now();
    let answer = http::call(site.doors.gateways[gateway].app, asked, super::load::ANSWER_MAX).await;
    let judged = match &answer {
        Ok(answer) => Ok(judge::answer(&judge::Asked::Other, None, answer)),
        Err(Lost::Cut(bytes)) => Err(Lost::Cut(bytes.clone())),
        Err(Lost::Nonsense(bytes)) => Err(Lost::Nonsense(bytes.clone())),
        Err(Lost::Nothing) => Err(Lost::Nothing),
        Err(Lost::Silence) => Err(Lost::Silence),
    };
    notes.ended(gateway, sent, judged);
    answer
}

/// What an operator was told, when that was good. Nothing secret may be in it either.
async fn operator(
    site: &Site,
    notes: &Notes,
    gateway: usize,
    (method, path): (&str, &str),
    body: &str,
) -> Option<Value> {
    let asked = http::request(method, path, &[], body);
    let sent = Instant::now();
    let answer = http::call(site.doors.gateways[gateway].admin, &asked, WRITE_MAX).await;
    if sent.elapsed() > SLOW {
        super::say(&format!("gateway {gateway}: {path} took an operator {} s", sent.elapsed().as_secs()));
    }
    let answer = answer.ok()?;
    if let Err(why) = judge::secrets(&answer.raw) {
        notes.broken(Bound::Tokens, format!("{why} at {path}"));
    }
    (answer.status() == 200).then(|| serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_seals_is_read_from_the_list() {
        let row =
            |key: u64, purpose: &str, state: &str| json!({ "key": key, "purpose": purpose, "state": state });
        let list = json!([
            row(1, "index", "primary"),
            row(2, "record", "decrypt_only"),
            row(3, "record", "primary")
        ]);
        assert_eq!(seals(&list.to_string()), Ok(3));
        assert!(seals("[]").is_err() && seals("x").is_err());
    }
}
