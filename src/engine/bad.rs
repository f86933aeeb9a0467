//! An error of Finch's: its class, what it holds up for others, and what is added to it.

use super::Engine;
use super::call::{self, Answer, AnswerBody, Identity, Verdict};
use super::reply::{Heard, advise, code};
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::error::FinchError;
use crate::limit::{Scope, headers as limits};
use crate::policy::class::LimitedBy;
use crate::policy::problem::Relayed;
use crate::policy::{Class, class, resend};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::Product;
use crate::vault::Status;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

/// How long everything, or connecting alone, stops after Finch has blocked the egress IP ("Finch rate-limit guide").
const IP_PENALTY: Duration = Duration::from_secs(60 * 60);

impl Engine {
    /// Whether Finch refused for the product's limit. If so the ledger learns it.
    pub(super) fn is_product_limit(&self, endpoint: &Endpoint, heard: &Heard) -> bool {
        if heard.status != 429 || heard.headers.contains_key(CONTENT_ENCODING) {
            return false;
        }
        let error = FinchError::read(&heard.body);
        if LimitedBy::of(&error) != LimitedBy::Product {
            return false;
        }
        self.telemetry.metrics.refused_by_finch(error.finch_code.as_deref());
        warn_of_429(endpoint.product, LimitedBy::Product, error.finch_code.as_deref());
        self.quota.limited(endpoint.product, limits::read_retry_after(&heard.headers));
        true
    }

    /// Makes the app's answer out of an error of Finch's.
    pub(super) fn bad(
        &self,
        endpoint: &Endpoint,
        (status, mut headers, body): (u16, HeaderMap, Vec<u8>),
        retry_after: Option<Duration>,
        line: &mut AccessLine,
    ) -> Answer {
        // An encoded error was not asked for; it is not inflated, whatever it says.
        let body = if headers.remove(CONTENT_ENCODING).is_some() { Vec::new() } else { body };
        let error = FinchError::read(&body);
        self.telemetry.finch_error(&error);
        line.class = class::of_answer(endpoint, status, &error);
        line.finch_code.clone_from(&error.finch_code);
        let verdict = self.verdict(endpoint, &error, line.class, retry_after);
        let resend = resend::of_outcome(Some(endpoint), verdict.class, verdict.wait);
        let relayed =
            Relayed { class: verdict.class, status, resend, wait: verdict.wait, scope: verdict.scope };
        let body = relayed.to_body(&body, call::evidence(line, unix_now()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        advise(&mut headers, resend);
        Answer { status: code(status), headers, body: AnswerBody::Whole(body.into()), closes: false }
    }

    /// What an error means for those who come after: a limit holds its whole scope.
    fn verdict(
        &self,
        endpoint: &Endpoint,
        error: &FinchError,
        class: Class,
        retry_after: Option<Duration>,
    ) -> Verdict {
        if class != Class::RateLimited {
            return Verdict { class, wait: None, scope: None };
        }
        let by = LimitedBy::of(error);
        let (holds, wait): (&[Scope], _) = match by {
            // The ledger was told when the answer was heard.
            LimitedBy::Product => {
                let rest = self.quota.standing(endpoint.product).map(|standing| standing.next_free_in);
                (&[], Some(rest.unwrap_or(Duration::from_secs(5))))
            }
            LimitedBy::Ip => (&[Scope::EgressIp], Some(retry_after.unwrap_or_default().max(IP_PENALTY))),
            LimitedBy::Auth => {
                (&[Scope::Product(Product::Connect), Scope::Product(Product::Auth)], Some(IP_PENALTY))
            }
            LimitedBy::Provider => (&[], Some(Duration::from_secs(60))),
            LimitedBy::RefreshQuota => (&[], error.retry_in(unix_now())),
        };
        if !matches!(by, LimitedBy::RefreshQuota | LimitedBy::Product) {
            self.telemetry.metrics.refused_by_finch(error.finch_code.as_deref());
            warn_of_429(endpoint.product, by, error.finch_code.as_deref());
        }
        if let Some(wait) = wait {
            for scope in holds {
                self.quota.hold(*scope, wait);
            }
        }
        Verdict { class, wait, scope: Some(by.as_str()) }
    }

    /// What an answer tells about the connection itself.
    pub(super) async fn note_connection(&self, endpoint: &Endpoint, identity: &Identity, class: Class) {
        let Identity::Connection(entry) = identity else { return };
        let id = &entry.facts.connection_id;
        let noted = match class {
            Class::ReauthenticationRequired if entry.facts.status != Status::NeedsReauth => {
                self.vault.note_reauthentication(id, entry.facts.version, unix_now()).await
            }
            Class::Ok if endpoint.operation == Operation::Disconnect => {
                self.vault.mark_disconnected(id, unix_now()).await
            }
            _ => return,
        };
        if let Err(error) = noted {
            tracing::warn!(error = %error, connection.id = %id, "could not note the status of connection {id}");
        }
    }
}

/// Said at every 429 that perch should have prevented.
fn warn_of_429(product: Product, by: LimitedBy, finch_code: Option<&str>) {
    tracing::warn!(
        scope = by.as_str(),
        product = product.as_str(),
        finch_code = finch_code.unwrap_or("none").chars().take(64).collect::<String>(),
        "Finch refused a call for a limit that perch keeps; somebody else may use the same application or address"
    );
}
