//! What happens in the demo, step by step. Each step says what it expects; the first surprise ends it.

use super::app::{Answer, App};
use crate::cli::exit::Failure;
use crate::config::Address;
use crate::policy::Class;
use crate::telemetry::clock::unix_now;
use crate::types::UnixMillis;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// How many steps the bar counts.
pub(super) const STEPS: u64 = 24;

/// Rows of a directory page: small, so that there are pages.
const PAGE: usize = 10;
/// How far back payments are looked for.
const PAYMENTS_SINCE: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// What was learned.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Customers with what the exchange gave each in place of a token.
    pub(super) references: Vec<(&'static str, String)>,
    /// People read in all.
    pub(super) people: usize,
    /// How many access tokens Finch gave out, and how many of them the app ever saw.
    pub(super) tokens: (usize, usize),
    /// What went otherwise than it should.
    pub(super) surprise: Option<String>,
}

struct Teller<'a> {
    perch: &'a App,
    finch: App,
    bar: &'a ProgressBar,
    story: Story,
    tokens: BTreeSet<String>,
}

/// Tells it.
pub(super) async fn tell(perch: &App, finch: SocketAddr, bar: &ProgressBar) -> Story {
    let finch = match App::at(&Address::Tcp(finch)) {
        Ok(finch) => finch,
        Err(failure) => return Story { surprise: Some(failure.message), ..Story::default() },
    };
    let mut teller = Teller { perch, finch, bar, story: Story::default(), tokens: BTreeSet::new() };
    if let Err(surprise) = teller.all().await {
        teller.story.surprise = Some(surprise);
    }
    bar.finish_and_clear();
    teller.story
}

impl Teller<'_> {
    async fn all(&mut self) -> Result<(), String> {
        for (customer, provider) in [("acme", "gusto"), ("globex", "bamboo_hr")] {
            self.connect(customer, provider).await?;
        }
        for customer in ["acme", "globex"] {
            self.sync(customer).await?;
        }
        self.partial_batch("acme").await?;
        // A reauthentication replaces a token, so they are looked up before it and after.
        self.list_tokens().await?;
        self.reauthenticate("globex").await?;
        self.list_tokens().await?;
        let heard = self.tokens.iter().filter(|token| self.perch.has_heard(token)).count();
        self.story.tokens = (self.tokens.len(), heard);
        Ok(())
    }

    /// The tokens that exist, from the simulator's own books.
    async fn list_tokens(&mut self) -> Result<(), String> {
        let books = self.finch.get("/_sim/connections").await.map_err(|e| e.message)?.json();
        let tokens = books["connections"].as_array().into_iter().flatten();
        let tokens = tokens.flat_map(|c| c["access_tokens"].as_array().into_iter().flatten());
        self.tokens.extend(tokens.filter_map(|token| token["access_token"].as_str().map(str::to_owned)));
        Ok(())
    }

    /// Session, log-in, code, exchange: what an app does once for each customer.
    async fn connect(&mut self, customer: &'static str, provider: &str) -> Result<(), String> {
        let session = json!({
            "customer_id": customer,
            "customer_name": customer,
            "products": ["company", "directory", "individual", "employment", "payment", "pay_statement"],
            "integration": { "provider": provider },
        });
        let session = self
            .step("opens a session", 201, Class::Ok, self.perch.post("/connect/sessions", &session))
            .await?;
        let reference = self.exchange(&session).await?;
        self.story.references.push((customer, reference));
        Ok(())
    }

    /// The employer logs in, the app exchanges the code; a reference comes back, not a token.
    async fn exchange(&self, session: &Answer) -> Result<String, String> {
        let url = session.text("connect_url");
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let login = self.finch.get(&format!("/{path}")).await.map_err(|e| e.message)?;
        let code = json!({ "client_id": "x", "client_secret": "x", "code": login.text("code") });
        let exchanged =
            self.step("exchanges its code", 200, Class::Ok, self.perch.post("/auth/token", &code)).await?;
        let reference = exchanged.text("access_token");
        match reference.starts_with("connection:") {
            true => Ok(reference),
            false => Err("the exchange gave something other than a reference".to_owned()),
        }
    }

    /// One small sync.
    async fn sync(&mut self, customer: &str) -> Result<(), String> {
        let app = self.perch.for_customer(customer);
        self.step("reads the company", 200, Class::Ok, app.get("/employer/company")).await?;
        let mut people = Vec::new();
        loop {
            let page = format!("/employer/directory?limit={PAGE}&offset={}", people.len());
            let page = self.step("pages through the directory", 200, Class::Ok, app.get(&page)).await?.json();
            let rows = page["individuals"].as_array().cloned().unwrap_or_default();
            people.extend(rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)));
            let total = page["paging"]["count"].as_u64().unwrap_or(0);
            if rows.is_empty() || people.len() as u64 >= total {
                break;
            }
        }
        self.story.people += people.len();
        let everybody: Vec<Value> = people.iter().map(|id| json!({ "individual_id": id })).collect();
        let everybody = json!({ "requests": everybody });
        self.step(
            "reads everybody in one call",
            200,
            Class::Ok,
            app.post("/employer/individual", &everybody),
        )
        .await?;
        self.step("reads employments", 200, Class::Ok, app.post("/employer/employment", &everybody)).await?;
        let now = unix_now();
        let since = UnixMillis(now.0.saturating_sub(i64::try_from(PAYMENTS_SINCE.as_millis()).unwrap_or(0)));
        let payments = format!("/employer/payment?start_date={}&end_date={}", day(since), day(now));
        let payments = self.step("lists payments", 200, Class::Ok, app.get(&payments)).await?.json();
        let first = json!({ "requests": [{ "payment_id": payments[0]["id"] }] });
        self.step("reads pay statements", 200, Class::Ok, app.post("/employer/pay-statement", &first))
            .await?;
        self.step("introspects", 200, Class::Ok, app.get("/introspect")).await?;
        Ok(())
    }

    /// One id of two is wrong: a 200 that must not pass for a success.
    async fn partial_batch(&self, customer: &str) -> Result<(), String> {
        let app = self.perch.for_customer(customer);
        let directory = self
            .step("looks for somebody", 200, Class::Ok, app.get("/employer/directory?limit=1"))
            .await?
            .json();
        let pair = json!({ "requests": [
            { "individual_id": directory["individuals"][0]["id"] },
            { "individual_id": "00000000-0000-4000-8000-000000000000" },
        ] });
        self.step("asks for a stranger too", 200, Class::Partial, app.post("/employer/individual", &pair))
            .await?;
        Ok(())
    }

    /// The employer's password changes; the way back keeps the connection and swaps the token.
    async fn reauthenticate(&mut self, customer: &str) -> Result<(), String> {
        let app = self.perch.for_customer(customer);
        let broken = json!({ "connection_status": "reauth" });
        self.step("loses its login", 200, Class::Ok, app.put("/sandbox/connections/accounts", &broken))
            .await?;
        let class = Class::ReauthenticationRequired;
        let refused = self.step("is refused", 401, class, app.get("/employer/company")).await?.json();
        let again = json!({ "connection_id": refused["perch"]["connection_id"] });
        let link = app.post("/connect/sessions/reauthenticate", &again);
        let session = self.step("gets a link", 201, Class::Ok, link).await?;
        self.exchange(&session).await?;
        self.step("reads again", 200, Class::Ok, app.get("/employer/company")).await?;
        Ok(())
    }

    async fn step(
        &self,
        what: &'static str,
        status: u16,
        class: Class,
        call: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, String> {
        self.bar.set_message(what);
        let answer = call.await.map_err(|failure| failure.message)?;
        self.bar.inc(1);
        if (answer.status, answer.class.as_str()) == (status, class.as_str()) {
            return Ok(answer);
        }
        Err(format!(
            "a customer {what}: expected {status} {}, got {} {}: {}",
            class.as_str(),
            answer.status,
            answer.class,
            answer.text("message")
        ))
    }
}

/// `2026-11-23`.
fn day(at: UnixMillis) -> String {
    at.to_string().chars().take(10).collect()
}
