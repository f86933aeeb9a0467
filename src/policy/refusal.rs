//! Every "no" that perch says by itself. A closed set: each has one status, one code, one class and
//! one sentence, and one function turns any of them into an answer.

mod brakes;
mod codes;
mod named;

pub use named::{Choice, DRAINING, Forbidden};

use super::brake::PauseScope;
use super::class::Class;
use super::problem::Problem;
use super::proof::Proof;
use super::resend::Resend;
use super::rollout::Outside;
use crate::types::{ConnectionId, CustomerId, Environment, FinchRequestId, Product};
use std::time::Duration;

/// Why a call was not sent to Finch, or why its answer was not had.
#[expect(missing_docs, reason = "each variant's sentence tells what its fields are")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The request is not one perch reads: framing, target, head.
    Malformed(&'static str),
    /// A header that must stand once stands twice.
    DoubledHeader(&'static str),
    /// A header's value cannot be read.
    BadHeader { header: &'static str, why: String },
    /// No endpoint of Finch has this path.
    UnknownPath { nearest: String },
    /// The path exists with other methods.
    WrongMethod { allowed: String },
    /// A body where Finch takes none.
    UnexpectedBody,
    /// The body is larger than perch holds.
    BodyTooLarge { max: usize },
    /// The body did not arrive in time.
    BodyTooSlow,
    /// `Host` is no name of this door's.
    WrongHost,
    /// A page in a browser sent it.
    Browser,
    /// The call shows no app key.
    AppKeyRequired,
    /// What it shows is nobody's, or nobody's any more.
    AppRefused(Proof),
    /// The app's policy does not reach so far.
    AppForbidden(Forbidden),
    /// The body of a code exchange or session is not a JSON object.
    BodyNotAnObject,
    /// Nobody is named.
    NoCustomer,
    /// Two names are given, and they differ.
    CustomersDisagree,
    /// A real Finch token where a reference belongs.
    RawToken,
    /// The customer has no connection.
    UnknownCustomer(CustomerId),
    /// The connection is not known, or not this customer's.
    UnknownConnection(String),
    /// The customer has several, and none is picked.
    Ambiguous { customer: Option<CustomerId>, choices: Vec<Choice> },
    /// perch does not work for whom this call is for yet.
    NotRolledOut(Outside),
    /// An operator has paused the scope that this names.
    Paused { scope: PauseScope, name: String },
    /// Writes to the provider are off.
    WritesDenied,
    /// The connection's token belongs to another environment.
    OtherEnvironment { name: String, stored: Environment, configured: Environment },
    /// The connection waits for an operator's decision.
    Held { connection: ConnectionId, why: String },
    /// The connection was disconnected.
    Disconnected(ConnectionId),
    /// Quota would come too late.
    Limited { product: Product, scope: &'static str, wait: Duration },
    /// Finch refuses the whole application: its invoices are not paid.
    ApplicationBlocked { wait: Duration },
    /// The provider throttles this connection.
    ProviderLimited { wait: Duration },
    /// The connection's forced refresh of this hour is spent.
    RefreshQuotaSpent { wait: Duration },
    /// Too many are waiting already.
    QueueFull { product: Product },
    /// What would be sent could not be counted.
    NoLedger { wait: Duration },
    /// perch is stopping.
    Draining,
    /// Large bodies of others are held already, as many as may be.
    Crowded,
    /// Large answers of others are held already, as many as may be, and this one can only be answered whole.
    NoRoom,
    /// The store does not answer.
    VaultUnavailable,
    /// The sealed token cannot be opened.
    TokenUnreadable(ConnectionId),
    /// Finch could not be reached; nothing was sent.
    Unreachable(&'static str),
    /// The exchange broke after the call was sent.
    Broken(&'static str),
    /// No answer inside the time Finch may take.
    TimedOut,
    /// Finch answered something that is not a usable answer.
    BadAnswer(&'static str),
    /// The code gave a token for another customer than the one named. The token is kept.
    ExchangedForAnother { connection: ConnectionId, is_held: bool },
    /// The code gave a token for a customer the app may not act for. The token is kept; whose it is, is not said.
    ExchangedForForbidden { is_held: bool },
    /// The code gave a token of another environment. The token is kept.
    ExchangedElsewhere { connection: ConnectionId, environment: String, configured: Environment },
    /// 202 in place of data, where an operator wants that to be an error.
    NotReady,
    /// The token that the exchange gave could not be stored.
    ExchangeNotStored { connection: Option<ConnectionId>, why: String },
    /// Finch did not confirm that the connection is gone; perch goes on asking.
    DisconnectPending { connection: ConnectionId, why: String },
    /// The code was sent before, its answer was lost, and Finch does not know it any more.
    ExchangeOutcomeUnknown,
    /// Another replica exchanges the code at this moment, and takes longer than this call waits.
    ExchangeElsewhere,
    /// The idempotency key stands for another call.
    IdempotencyKeyReused,
    /// What the call asks for again was carried out, and its answer is gone.
    OutcomeLost(Option<FinchRequestId>),
    /// A fault of perch's own.
    Fault,
}

impl Refusal {
    /// Whether the call was sent and its outcome is not known: then the endpoint decides whether it may
    /// be sent again.
    pub const fn is_after_sending(&self) -> bool {
        matches!(self, Refusal::Broken(_) | Refusal::TimedOut | Refusal::BadAnswer(_))
    }

    /// Whether whom the call was for must not be told to the caller: nobody it may know of.
    pub const fn is_silent(&self) -> bool {
        matches!(self, Refusal::ExchangedForForbidden { .. })
    }

    /// Whether it was found in the head, with the body still on its way.
    pub const fn leaves_body(&self) -> bool {
        matches!(
            self,
            Refusal::BodyTooLarge { .. }
                | Refusal::Crowded
                | Refusal::WrongHost
                | Refusal::Browser
                | Refusal::AppKeyRequired
                | Refusal::AppRefused(_)
        )
    }

    /// The answer it becomes.
    pub fn problem(&self) -> Problem {
        use Refusal as R;
        let bad = |code, message: String| Problem::new(400, code, Class::InvalidRequest, message);
        match self {
            R::Malformed(what) => bad("perch_malformed_request", format!("perch does not read this request: {what}")).closing(),
            R::DoubledHeader(name) => bad("perch_duplicate_header", format!("{name} stands more than once; send exactly one")),
            R::BadHeader { header, why } => bad("perch_invalid_header", format!("{header} {why}")),
            R::UnknownPath { nearest } => Problem::new(
                404,
                "perch_unknown_path",
                Class::InvalidRequest,
                format!("Finch has no such endpoint, so nothing was sent; did you mean {nearest}?"),
            ),
            R::WrongMethod { allowed } => Problem::new(
                405,
                "perch_wrong_method",
                Class::InvalidRequest,
                format!("Finch answers this path to {allowed} only; nothing was sent"),
            )
            .allowing(allowed),
            R::UnexpectedBody => bad("perch_unexpected_body", "a GET of Finch's has no body; nothing was sent".to_owned()).closing(),
            R::BodyTooLarge { max } => Problem::new(
                413,
                "perch_body_too_large",
                Class::InvalidRequest,
                format!("the body is larger than {max} bytes; send fewer items at a time"),
            )
            .closing(),
            R::BodyTooSlow => Problem::new(
                408,
                "perch_body_too_slow",
                Class::InvalidRequest,
                "the body did not arrive in time; nothing was sent to Finch".to_owned(),
            )
            .closing(),
            R::WrongHost => Problem::new(
                421,
                "perch_wrong_host",
                Class::CallerRefused,
                "this door answers to its address, to localhost and to the names in listen.names; nothing was sent".to_owned(),
            )
            .closing(),
            R::Browser => Problem::new(
                403,
                "perch_browser_refused",
                Class::CallerRefused,
                "this call comes from a page in a browser (Origin, Sec-Fetch-Site); perch answers an app's server only".to_owned(),
            )
            .closing(),
            R::AppKeyRequired => Problem::new(
                403,
                "perch_app_key_required",
                Class::CallerRefused,
                "show the app's key: header Perch-App-Key: <key>; an operator makes one with `perch apps add NAME`".to_owned(),
            )
            .closing(),
            R::AppRefused(proof) => proof.refused(),
            R::AppForbidden(what) => Problem::new(
                403,
                "perch_app_forbidden",
                Class::CallerRefused,
                match what {
                    Forbidden::Product(product) => format!(
                        "this app may not call {product}; nothing was sent; an operator decides, see `perch apps show NAME`"
                    ),
                    Forbidden::Effect => "this app may read and connect customers, and this call does more; nothing was sent; \
                         an operator decides, see `perch apps show NAME`"
                        .to_owned(),
                    Forbidden::Customer => "this app may not connect this customer; nothing was sent; an operator decides, see \
                         `perch apps show NAME`"
                        .to_owned(),
                },
            ),
            R::BodyNotAnObject => bad("perch_invalid_body", "the body must be one JSON object".to_owned()),
            R::NoCustomer => bad(
                "perch_customer_missing",
                "name the customer: header Perch-Customer: <id>, or Authorization: Bearer customer:<id>".to_owned(),
            ),
            R::CustomersDisagree => bad(
                "perch_customer_mismatch",
                "the customer or connection is named twice, and the names differ; name it once".to_owned(),
            ),
            R::RawToken => bad(
                "perch_raw_token_refused",
                "Authorization holds neither customer:<id> nor connection:<id>. Finch tokens stay in perch's vault: \
                 import this one with `perch connections import`, revoke it if it leaked, and name the customer instead"
                    .to_owned(),
            ),
            R::UnknownCustomer(customer) => Problem::new(
                404,
                "perch_unknown_customer",
                Class::UnknownCustomer,
                format!("customer {customer} has no connection; finish Finch Connect, or see `perch connections list`"),
            ),
            R::UnknownConnection(name) => Problem::new(
                404,
                "perch_unknown_connection",
                Class::UnknownCustomer,
                format!("there is no connection {name} here; see `perch connections list`"),
            ),
            R::Ambiguous { customer, choices } => bad(
                "perch_connection_ambiguous",
                match customer {
                    Some(customer) => format!(
                        "customer {customer} has {} connections that this could mean; pick one with Perch-Connection",
                        choices.len()
                    ),
                    None => format!("{} connections fit; pick one with Perch-Connection", choices.len()),
                },
            )
            .choosing(choices),
            R::NotRolledOut(outside) => brakes::not_rolled_out(*outside),
            R::Paused { scope, name } => brakes::paused(*scope, name),
            R::WritesDenied => Problem::new(
                403,
                "perch_writes_denied",
                Class::CallerRefused,
                "this call writes to the employment system, and writes are off (apps.writes = \"deny\"); Finch asks to be \
                 told before write access goes live"
                    .to_owned(),
            ),
            R::OtherEnvironment { name, stored, configured } => Problem::new(
                403,
                "perch_environment_mismatch",
                Class::ApplicationBlocked,
                format!("{name} has a {stored} token, and perch works in {configured}; nothing was sent"),
            ),
            R::Held { connection, why } => Problem::new(
                403,
                "perch_connection_held",
                Class::ApplicationBlocked,
                format!("connection {connection} waits for an operator: {why}; see `perch connections show {connection}`"),
            ),
            R::Disconnected(connection) => Problem::new(
                401,
                "perch_disconnected",
                Class::Disconnected,
                format!("connection {connection} was disconnected; the customer has to go through Finch Connect again"),
            ),
            R::Limited { product, scope, wait } => Problem::new(
                429,
                "perch_rate_limited",
                Class::RateLimited,
                format!("{product} has no free request before this call's patience ends; nothing was sent"),
            )
            .waiting(*wait)
            .scoped(scope),
            R::ApplicationBlocked { wait } => Problem::new(
                402,
                "perch_application_blocked",
                Class::ApplicationBlocked,
                "Finch refuses every call of this application until its invoices are paid (402); nothing was sent. perch \
                 tries one call when retry_at has come"
                    .to_owned(),
            )
            .waiting(*wait)
            .resend(Resend::No)
            .scoped("application"),
            R::ProviderLimited { wait } => Problem::new(
                429,
                "perch_provider_limited",
                Class::RateLimited,
                "the provider throttles this connection, and that lasts beyond this call's patience; nothing was sent. Other \
                 connections are not concerned"
                    .to_owned(),
            )
            .waiting(*wait)
            .scoped("provider"),
            R::RefreshQuotaSpent { wait } => Problem::new(
                429,
                "perch_refresh_quota_spent",
                Class::RateLimited,
                "this connection's forced refresh of the hour is spent; nothing was sent. Its data comes by itself once a day"
                    .to_owned(),
            )
            .waiting(*wait)
            .scoped("refresh_quota"),
            R::QueueFull { product } => Problem::new(
                429,
                "perch_queue_full",
                Class::RateLimited,
                format!("too many calls for {product} are waiting already; nothing was sent"),
            )
            .waiting(Duration::from_secs(5))
            .scoped("product"),
            R::NoLedger { wait } => Problem::new(
                503,
                "perch_no_ledger",
                Class::PerchUnavailable,
                "perch cannot count spent quota now; nothing was sent; an operator finds the cause in perch's log".to_owned(),
            )
            .waiting(*wait),
            R::Draining => Problem::new(
                503,
                DRAINING,
                Class::PerchUnavailable,
                "perch is stopping; nothing was sent; send the call again".to_owned(),
            )
            .resend(Resend::Yes)
            .closing(),
            R::Crowded => Problem::new(
                503,
                "perch_crowded",
                Class::PerchUnavailable,
                "perch holds as many large request bodies as it may; nothing was sent; send the call again".to_owned(),
            )
            .resend(Resend::Yes)
            .waiting(Duration::from_secs(1))
            .closing(),
            R::NoRoom => Problem::new(
                503,
                "perch_crowded",
                Class::PerchUnavailable,
                "perch holds as many large answers as it may; send the call again, or ask for fewer ids at a time".to_owned(),
            )
            .waiting(Duration::from_secs(1)),
            R::VaultUnavailable => Problem::new(
                503,
                "perch_vault_unavailable",
                Class::PerchUnavailable,
                "the vault does not answer; nothing was sent".to_owned(),
            )
            .waiting(Duration::from_secs(5)),
            R::TokenUnreadable(connection) => Problem::new(
                500,
                "perch_token_unreadable",
                Class::PerchUnavailable,
                format!("the sealed token of connection {connection} cannot be opened; nothing was sent; tell the operator"),
            ),
            R::Unreachable(why) => Problem::new(
                502,
                "perch_finch_unreachable",
                Class::FinchUnreachable,
                format!("Finch could not be reached ({why}); nothing was sent"),
            )
            .resend(Resend::After(5)),
            R::Broken(why) => Problem::new(
                502,
                "perch_finch_unreachable",
                Class::FinchUnreachable,
                format!("the exchange with Finch broke ({why}) after the call was sent; it may have been carried out"),
            ),
            R::TimedOut => Problem::new(
                504,
                "perch_finch_timeout",
                Class::FinchUnreachable,
                "Finch did not answer in time; the call may still be carried out".to_owned(),
            ),
            R::BadAnswer(why) => Problem::new(
                502,
                "perch_bad_answer",
                Class::FinchUnreachable,
                format!("Finch's answer cannot be used ({why}); the call may have been carried out"),
            ),
            R::ExchangedForAnother { connection, is_held } => codes::for_another(connection, *is_held),
            R::ExchangedForForbidden { is_held } => codes::for_forbidden(*is_held),
            R::ExchangedElsewhere { connection, environment, configured } => Problem::new(
                403,
                "perch_environment_mismatch",
                Class::ApplicationBlocked,
                format!(
                    "the code gave a {environment} token, and perch works in {configured}. It is sealed and held as \
                     connection {connection}; check finch.environment and the client id"
                ),
            ),
            R::ExchangeNotStored { connection, why } => Problem::new(
                500,
                "perch_exchange_not_stored",
                Class::PerchUnavailable,
                format!(
                    "Finch gave a token for {}, and perch could not store it: {why}. The code is spent; the customer has to \
                     go through Finch Connect again",
                    connection.as_ref().map_or("an unnamed connection", ConnectionId::as_str)
                ),
            ),
            R::DisconnectPending { connection, why } => Problem::new(
                502,
                "perch_disconnect_pending",
                Class::FinchUnreachable,
                format!(
                    "{why}. Connection {connection} is not called any more, and perch goes on asking Finch to disconnect it \
                     until Finch agrees; nothing is to be done"
                ),
            ),
            R::ExchangeElsewhere => Problem::new(
                503,
                "perch_exchange_in_progress",
                Class::PerchUnavailable,
                "another replica of perch exchanges this code at this moment; send it again, and perch answers what came of \
                 it"
                .to_owned(),
            )
            .waiting(Duration::from_secs(2)),
            R::ExchangeOutcomeUnknown => Problem::new(
                502,
                "perch_exchange_outcome_unknown",
                Class::PerchUnavailable,
                "this code was sent to Finch before and the answer was lost; Finch does not know the code any more, so it may \
                 have been spent for a token that nobody has. Do not send it again: the customer has to go through Finch \
                 Connect again"
                    .to_owned(),
            ),
            R::NotReady => Problem::new(
                503,
                "perch_not_ready",
                Class::NotReady,
                "Finch has no data of this connection yet (it answered 202): the first sync is not done, which takes \
                 up to two weeks for some providers; ask again in some hours, or when Finch's webhook tells that it is done"
                    .to_owned(),
            ),
            R::IdempotencyKeyReused => Problem::new(
                422,
                "perch_idempotency_key_reused",
                Class::InvalidRequest,
                "this Perch-Idempotency-Key was used for another query or body; nothing was sent; use a new key for a new call"
                    .to_owned(),
            ),
            R::OutcomeLost(finch_request_id) => Problem::new(
                502,
                "perch_outcome_lost",
                Class::FinchUnreachable,
                format!(
                    "the call was carried out before ({}), and its answer was too large to keep; do not send it again: read what \
                     it changed",
                    finch_request_id.as_ref().map_or("Finch gave no request id".to_owned(), |id| format!("Finch-Request-ID {id}"))
                ),
            ),
            R::Fault => Problem::new(
                500,
                "perch_fault",
                Class::PerchUnavailable,
                "perch failed on this call; it may have been sent; look for the request id in perch's log".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
