//! An error of Finch's: its class, what it holds up for others, and what is added to it.

use super::Engine;
use super::call::{self, Answer, AnswerBody, Call, Identity, Verdict};
use super::carry::LIMITED_MAX;
use super::outlook::is_forced_refresh;
use super::reply::{Heard, advise, code};
use super::shield::login_of;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::error::FinchError;
use crate::limit::{Scope, Subject, headers as limits};
use crate::policy::class::LimitedBy;
use crate::policy::life::{Parting, parting};
use crate::policy::problem::Relayed;
use crate::policy::resend::{self, Resend};
use crate::policy::{Class, class};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::Product;
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
    pub(super) async fn bad(
        &self,
        (call, endpoint): (&Call, &Endpoint),
        identity: &Identity,
        (status, mut headers, body): (u16, HeaderMap, Vec<u8>),
        retry_after: Option<Duration>,
        line: &mut AccessLine,
    ) -> Answer {
        // An encoded error was not asked for; it is not inflated, whatever it says.
        let body = if headers.remove(CONTENT_ENCODING).is_some() { Vec::new() } else { body };
        let error = FinchError::read(&body);
        line.class = class::of_answer(endpoint, status, &error);
        line.finch_code.clone_from(&error.finch_code);
        // What one request was told is learnt once, however many calls shared it.
        let is_carried = line.cache.is_some();
        if status == 500
            && !is_carried
            && line.class == Class::FinchError
            && let Some((login, entry)) = login_of(call, endpoint, identity)
            && let Some(class) = self.hidden_ailment(&login, &entry, line).await
        {
            // The answer stays Finch's; what it means is known better now.
            line.class = class;
        }
        // Whatever else is wrong: neither the application nor the connection is held back any more.
        if !matches!(status, 402 | 429) {
            self.served(identity);
        }
        let verdict =
            self.verdict((call, endpoint), identity, (status, &error, is_carried), retry_after, line.class);
        self.note_connection((call, endpoint), identity, line.class, &[]).await;
        let resend = match verdict.scope == Some(LimitedBy::Product.as_str()) && line.attempts >= LIMITED_MAX
        {
            // perch has come back as often as that can help.
            true => Resend::Later,
            false => resend::of_outcome(Some(endpoint), verdict.class, verdict.wait),
        };
        // perch comes back by itself.
        let is_pending = endpoint.operation == Operation::Disconnect
            && matches!(identity, Identity::Connection(_))
            && parting(status, line.class, &error) == Parting::Pending;
        let resend = if is_pending { Resend::No } else { resend };
        let url = match identity {
            Identity::Connection(entry) if line.class == Class::ReauthenticationRequired => {
                self.reauth_url(&entry.facts.connection_id).await
            }
            _ => None,
        };
        let relayed = Relayed {
            class: verdict.class,
            status,
            resend,
            wait: verdict.wait,
            scope: verdict.scope,
            since: None,
            reauth_url: url.as_deref(),
            action: is_pending.then_some(
                "nothing: the connection is not called any more, and perch goes on asking Finch to disconnect it until it agrees",
            ),
        };
        let body = relayed.to_body(&body, call::evidence(line, unix_now()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        advise(&mut headers, resend);
        Answer { status: code(status), headers, body: AnswerBody::Whole(body.into()), closes: false }
    }

    /// What an error means for those who come after: a limit holds its whole scope.
    fn verdict(
        &self,
        (call, endpoint): (&Call, &Endpoint),
        identity: &Identity,
        (status, error, is_carried): (u16, &FinchError, bool),
        retry_after: Option<Duration>,
        class: Class,
    ) -> Verdict {
        if status == 402 {
            match identity {
                Identity::Connection(_) | Identity::Application | Identity::InBody => {
                    self.refused_for(Subject::Application, retry_after);
                }
                // A token that an app brought may be another application's, and nobody is none.
                Identity::Brought(_) | Identity::Nobody => {}
            }
            return Verdict { class, wait: None, scope: None };
        }
        if class != Class::RateLimited {
            return Verdict { class, wait: None, scope: None };
        }
        let by = LimitedBy::of(error);
        let connection = match identity {
            Identity::Connection(entry) => Some(entry.facts.connection_id.clone()),
            _ => None,
        };
        let wait = match by {
            // The ledger was told when the answer was heard.
            LimitedBy::Product => {
                let rest = self.quota.standing(endpoint.product).map(|standing| standing.next_free_in);
                Some(rest.unwrap_or(Duration::from_secs(5)))
            }
            LimitedBy::Ip => {
                let span = retry_after.unwrap_or_default().max(IP_PENALTY);
                self.quota.hold(Scope::EgressIp, span);
                Some(span)
            }
            LimitedBy::Auth => {
                for product in [Product::Connect, Product::Auth] {
                    self.quota.hold(Scope::Product(product), IP_PENALTY);
                }
                Some(IP_PENALTY)
            }
            LimitedBy::Provider => match connection {
                Some(id) => Some(self.refused_for(Subject::Connection(id), retry_after)),
                None => retry_after,
            },
            LimitedBy::RefreshQuota => {
                let told = error.retry_in(unix_now());
                match connection.filter(|_| is_forced_refresh(call, endpoint)) {
                    Some(id) => Some(self.refused_for(Subject::RefreshQuota(id), told)),
                    None => told,
                }
            }
        };
        match by {
            // Neither is a limit that perch could have kept, nor one of others behind this address.
            LimitedBy::RefreshQuota | LimitedBy::Product => {}
            LimitedBy::Ip | LimitedBy::Auth | LimitedBy::Provider if is_carried => {}
            LimitedBy::Ip | LimitedBy::Auth | LimitedBy::Provider => {
                self.telemetry.metrics.refused_by_finch(error.finch_code.as_deref());
                if by != LimitedBy::Provider {
                    warn_of_429(endpoint.product, by, error.finch_code.as_deref());
                }
            }
        }
        Verdict { class, wait, scope: Some(by.as_str()) }
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
