//! The apps: each has one call under way at a time, for customers and products by chance.

use super::chance::Chance;
use super::furnish::Customer;
use super::http;
use super::judge::{self, Asked};
use super::notes::{Notes, Told};
use super::records::{MARK, digest};
use super::site::Site;
use super::wire::Message;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Apps beside each gateway.
const APPS: usize = 6;
/// Beyond every time that perch may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(75);

/// One app.
struct App {
    notes: Arc<Notes>,
    door: SocketAddr,
    gateway: usize,
    customers: Vec<Customer>,
    chance: Chance,
    number: Arc<AtomicU64>,
}

/// Begins to call; every call is noted.
pub(crate) fn begin(tasks: &mut JoinSet<()>, site: &Site, notes: &Arc<Notes>, seed: u64) {
    let customers: Vec<Customer> =
        site.customers.values().filter(|customer| customer.name.starts_with("cust-")).cloned().collect();
    let number = Arc::new(AtomicU64::new(0));
    for gateway in 0..site.arm.gateways() {
        for app in 0..APPS {
            let chance = Chance::of(seed, &format!("{} app {gateway} {app}", site.arm.name()));
            let (notes, customers, number) = (Arc::clone(notes), customers.clone(), Arc::clone(&number));
            let app =
                App { notes, door: site.doors.gateways[gateway].app, gateway, customers, chance, number };
            tasks.spawn(app.work());
        }
    }
}

impl App {
    async fn work(mut self) {
        loop {
            let place = self.chance.place(self.customers.len());
            let customer = self.customers[place].clone();
            let (asked, request) = self.choose(&customer);
            let sent = Instant::now();
            let answer = http::call(self.door, &request, ANSWER_MAX).await;
            if let (Asked::Write(body), Ok(answer)) = (&asked, &answer) {
                self.notes.wrote(told(body, answer));
            }
            let end = answer.map(|answer| judge::answer(&asked, Some(&customer), &answer));
            self.notes.ended(self.gateway, sent, end);
            sleep(Duration::from_millis(self.chance.within(100, 700))).await;
        }
    }

    fn choose(&mut self, customer: &Customer) -> (Asked, Vec<u8>) {
        let mark = format!("{MARK}{}", customer.name);
        let bearer = format!("Bearer customer:{}", customer.name);
        let patience = self.chance.within(1, 7).to_string();
        let mut headers = vec![("User-Agent", mark.as_str()), ("Perch-Max-Wait", patience.as_str())];
        headers.push(match self.chance.happens(50) {
            true => ("Perch-Customer", customer.name.as_str()),
            false => ("Authorization", bearer.as_str()),
        });
        if self.chance.happens(60) {
            headers.push(("Cache-Control", "no-cache"));
        }
        if self.chance.happens(50) {
            headers.push(("Perch-Priority", "batch"));
        }
        let get = |path: &str| http::request("GET", path, &headers, "");
        match self.chance.within(0, 100) {
            0..34 => (Asked::Company, get("/employer/company")),
            34..62 => (Asked::Directory, get("/employer/directory")),
            62..80 => {
                let person = customer.people[self.chance.place(customer.people.len())].clone();
                let body = format!("{{\"requests\":[{{\"individual_id\":\"{person}\"}}]}}");
                (Asked::Individual(person), http::request("POST", "/employer/individual", &headers, &body))
            }
            80..96 => {
                // Every body is another, so one that arrives twice was sent twice.
                let number = self.number.fetch_add(1, Ordering::Relaxed);
                let body = format!(
                    "{{\"type\":\"401k\",\"frequency\":\"one_time\",\"description\":\"chaos {number}\"}}"
                );
                self.notes.count("writes sent", 1);
                let request = http::request("POST", "/employer/benefits", &headers, &body);
                (Asked::Write(digest(body.as_bytes())), request)
            }
            _ => (Asked::Other, get("/employer/nothing-of-finch")),
        }
    }
}

/// What this answer says of the write with this body.
fn told(body: &str, answer: &Message) -> Told {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Told {
        body: body.to_owned(),
        class: answer.header("perch-class").unwrap_or_else(|| judge::BARE.to_owned()),
        is_good: (200..300).contains(&answer.status()),
        is_retryable: json["perch"]["retryable"] == true,
    }
}

/// One call that nobody but a fault keeps from success: the first 200 of its kind ends it.
pub(crate) async fn canary(site: &Site, notes: &Notes, gateway: usize, name: &str) -> Result<(), String> {
    let customer = &site.customers[name];
    let mark = format!("{MARK}{name}");
    let headers = [
        ("User-Agent", mark.as_str()),
        ("Perch-Customer", name),
        ("Perch-Max-Wait", "5"),
        ("Cache-Control", "no-cache"),
    ];
    let asked = http::request("GET", "/employer/company", &headers, "");
    let sent = Instant::now();
    let answer = http::call(site.doors.gateways[gateway].app, &asked, ANSWER_MAX).await;
    let told = match &answer {
        Ok(answer) if answer.status() == 200 => None,
        Ok(answer) => Some(format!("{} {}", answer.status(), String::from_utf8_lossy(&answer.body))),
        Err(lost) => Some(format!("{lost:?}")),
    };
    let end = answer.map(|answer| judge::answer(&Asked::Company, Some(customer), &answer));
    notes.ended(gateway, sent, end);
    told.map_or(Ok(()), Err)
}
