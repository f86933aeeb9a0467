//! The apps: batch workers that ask again as soon as they are answered, and people who do not wait long.

use super::http;
use super::plan::{CUSTOMERS, INTERACTIVE_PER_WINDOW, PRODUCTS, Plan};
use super::site::Site;
use perch::types::{Priority, Product};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// What became of one call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// For whom: a place in [`CUSTOMERS`].
    pub(crate) customer: usize,
    /// What for: a place in [`PRODUCTS`].
    pub(crate) product: usize,
    /// How urgent.
    pub(crate) priority: Priority,
    /// Through which gateway.
    pub(crate) gateway: usize,
    /// When it was sent, since the start of the load.
    pub(crate) sent: Duration,
    /// When it was answered, or when it was sent.
    pub(crate) answered: Duration,
    /// How it ended.
    pub(crate) end: End,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// Not yet.
    Open,
    /// Finch's answer came, after this wait for quota.
    Served(Duration),
    /// Another answer than 200: its status and its code.
    Refused(String),
    /// No answer: the gateway is gone.
    Lost,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Open => f.write_str("waits"),
            End::Served(_) => f.write_str("served"),
            End::Refused(why) => f.write_str(why),
            End::Lost => f.write_str("no answer"),
        }
    }
}

/// Everything that was called so far.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Vec<Call>>);

impl Calls {
    /// A copy.
    pub(crate) fn all(&self) -> Vec<Call> {
        self.with(|calls| calls.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Call>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Somebody who calls.
struct Caller {
    calls: Arc<Calls>,
    door: SocketAddr,
    begin: Instant,
    gateway: usize,
    customer: usize,
    product: usize,
    priority: Priority,
    /// None leaves it to the gateway.
    patience: Option<Duration>,
}

/// Begins to call; every call is noted.
pub(crate) fn begin(load: &mut JoinSet<()>, site: &Site, plan: &Plan, begin: Instant) -> Arc<Calls> {
    let calls = Arc::new(Calls::default());
    let caller = |gateway: usize, customer, product, priority, patience| {
        let gateway = gateway % plan.gateways;
        let door = site.gateways[gateway].door();
        Caller { calls: Arc::clone(&calls), door, begin, gateway, customer, product, priority, patience }
    };
    for (at, customer) in CUSTOMERS.iter().enumerate() {
        for (product, workers) in customer.workers.iter().enumerate() {
            for _ in 0..*workers {
                let worker = caller(customer.gateway, at, product, Priority::Batch, None);
                load.spawn(worker.work(plan.window));
            }
        }
    }
    let every = plan.window / INTERACTIVE_PER_WINDOW;
    let people = (0_u32..).zip((0..CUSTOMERS.len()).cycle());
    let people = people.take_while(|(number, _)| every * *number < plan.length);
    for (number, customer) in people {
        let gateway = number as usize % plan.gateways;
        let person = caller(gateway, customer, 0, Priority::Interactive, Some(plan.window / 2));
        load.spawn(async move {
            sleep_until(begin + every * number).await;
            person.call().await;
        });
    }
    calls
}

impl Caller {
    /// Asks for ever. Who is refused comes back when told, though within a sixth of a window, as jobs do.
    async fn work(self, window: Duration) {
        loop {
            match self.call().await {
                (End::Open | End::Served(_), _) => {}
                (End::Refused(_), back) => sleep(back.unwrap_or(window).min(window / 6)).await,
                (End::Lost, _) => sleep(window / 60).await,
            }
        }
    }

    /// One call, noted when it is sent and when it is answered. Beside its end, the `Retry-After` of a refusal.
    async fn call(&self) -> (End, Option<Duration>) {
        let sent = self.begin.elapsed();
        let call = Call {
            customer: self.customer,
            product: self.product,
            priority: self.priority,
            gateway: self.gateway,
            sent,
            answered: sent,
            end: End::Open,
        };
        let at = self.calls.with(|calls| {
            calls.push(call);
            calls.len() - 1
        });
        let (end, back) = self.try_call().await;
        self.calls.with(|calls| {
            calls[at].answered = self.begin.elapsed();
            calls[at].end = end.clone();
        });
        (end, back)
    }

    async fn try_call(&self) -> (End, Option<Duration>) {
        let patience = self.patience.map(|patience| format!("{:.3}", patience.as_secs_f64()));
        let mut headers = vec![
            ("perch-customer", CUSTOMERS[self.customer].name),
            ("perch-priority", self.priority.as_str()),
            ("finch-api-version", "2020-09-17"),
        ];
        headers.extend(patience.as_deref().map(|patience| ("perch-max-wait", patience)));
        let path = path(PRODUCTS[self.product].0);
        let Ok(answer) = http::get(self.door, path, &headers).await else { return (End::Lost, None) };
        if answer.status == 200 {
            let waited = answer.number("perch-wait-ms").unwrap_or_default();
            return (End::Served(Duration::from_millis(waited)), None);
        }
        let body = answer.json();
        let code = body["finch_code"].as_str().unwrap_or("no finch_code");
        let back = answer.number("retry-after").map(Duration::from_secs);
        (End::Refused(format!("{} {code}", answer.status)), back)
    }
}

/// The call that counts against a product.
fn path(product: Product) -> &'static str {
    match product {
        Product::Payment => "/employer/payment?start_date=2025-01-01&end_date=2025-01-31",
        _ => "/employer/directory",
    }
}
