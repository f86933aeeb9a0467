//! What an endpoint of Finch is, and which one a method and a path name. The rows are in `table`.

pub use super::table::ENDPOINTS;
use crate::types::Product;
use std::fmt;

/// How a call to an endpoint proves who it is ("Finch API reference", authentication).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Auth {
    /// The connection's access token.
    Bearer,
    /// The application's client id and secret.
    Basic,
    /// The application's client id and secret inside the JSON body, and no `Authorization`.
    InBody,
    /// Nothing.
    NoAuth,
}

/// Whether a call changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It only looks.
    Reads,
    /// It changes something, at Finch or at the provider.
    Writes,
}

/// What happens when an identical request reaches Finch twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replay {
    /// Nothing more than once.
    Safe,
    /// The same state, and something superfluous: one more session, one more job.
    Harmless,
    /// It depends on what the first one did.
    Conditional,
    /// A second effect.
    Unsafe,
}

/// The methods Finch knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
}

impl Method {
    /// As it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }

    /// Reads a method, which is case-sensitive (RFC 9110 §9.1).
    pub fn parse(text: &str) -> Option<Self> {
        [Method::Get, Method::Post, Method::Put, Method::Delete].into_iter().find(|m| m.as_str() == text)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an endpoint answers for many things at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The member of a request or response item that names it.
    pub key: &'static str,
    /// Whether the items stand in `responses`, or are the whole body.
    pub wrapped: bool,
    /// The most ids Finch takes in one request, where it says so.
    pub items_max: Option<usize>,
}

/// One row of Finch's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Which one it is.
    pub operation: Operation,
    /// Its method.
    pub method: Method,
    /// Its path, with `{names}` for the parts that vary. Safe as a log field.
    pub path: &'static str,
    /// What it wants to see.
    pub auth: Auth,
    /// What it counts against.
    pub product: Product,
    /// Whether it changes anything.
    pub effect: Effect,
    /// What a repetition does.
    pub replay: Replay,
    /// How it answers for many, when it does.
    pub batch: Option<Batch>,
    /// Whether the answer comes in pages.
    pub is_paged: bool,
    /// Whether it takes `entity_ids[]` in the query.
    pub takes_entity: bool,
}

pub(super) const fn row(
    operation: Operation,
    method: Method,
    path: &'static str,
    auth: Auth,
    product: Product,
    effect: Effect,
    replay: Replay,
) -> Endpoint {
    Endpoint {
        operation,
        method,
        path,
        auth,
        product,
        effect,
        replay,
        batch: None,
        is_paged: false,
        takes_entity: false,
    }
}

impl Endpoint {
    /// Whether calls to it may be kept back for a while: those that go out with a connection's token and do not end it.
    /// Making and ending a connection cannot wait: an exchange must not lose its token, and a disconnect makes things
    /// safer.
    pub fn can_be_kept_back(&self) -> bool {
        let ends = matches!(self.operation, Operation::Disconnect | Operation::DisconnectEntity);
        self.auth == Auth::Bearer && !ends
    }

    /// Whether it reads items by a list of ids in its body, of which Finch takes a capped number.
    pub const fn reads_by_ids(&self) -> bool {
        matches!(
            self.operation,
            Operation::ReadIndividuals | Operation::ReadEmployments | Operation::ReadPayStatements
        )
    }

    pub(super) const fn batch(mut self, batch: Batch) -> Self {
        self.batch = Some(batch);
        self
    }

    pub(super) const fn paged(mut self) -> Self {
        self.is_paged = true;
        self
    }

    pub(super) const fn per_entity(mut self) -> Self {
        self.takes_entity = true;
        self
    }

    /// Whether it changes the customer's employment system, which Finch wants to be told of
    /// before it goes live ("Go-Live Checklist"). Sessions, jobs and the sandbox do not.
    pub fn writes_to_provider(&self) -> bool {
        self.effect == Effect::Writes
            && match self.product {
                Product::Benefits | Product::PayStatementItem | Product::Forward => true,
                Product::Company
                | Product::Directory
                | Product::Individual
                | Product::Employment
                | Product::Payment
                | Product::PayStatement
                | Product::PayGroups
                | Product::Documents
                | Product::Connect
                | Product::Auth
                | Product::Providers
                | Product::Introspect
                | Product::Disconnect
                | Product::Jobs
                | Product::Sandbox => false,
            }
    }

    /// Whether the path, cut at its slashes, is one of this endpoint's. Varying parts match anything.
    pub fn matches(&self, segments: &[&str]) -> bool {
        let mut template = self.path[1..].split('/');
        let fits = segments.iter().all(|s| template.next().is_some_and(|t| t.starts_with('{') || t == *s));
        fits && template.next().is_none()
    }

    /// How many parts of the path vary: of two endpoints that match, the one with fewer is meant.
    pub fn wildcards(&self) -> usize {
        self.path.matches('{').count()
    }
}

/// The endpoint that a method and a path name. The path starts with `/` and has no query.
pub fn find(method: Method, path: &str) -> Option<&'static Endpoint> {
    at_path(path).find(|e| e.method == method)
}

/// Every endpoint with this path, whatever its method: the most literal match alone counts.
pub fn at_path(path: &str) -> impl Iterator<Item = &'static Endpoint> {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let hits: Vec<&'static Endpoint> = ENDPOINTS.iter().filter(|e| e.matches(&segments)).collect();
    let best = hits.iter().map(|e| e.wildcards()).min();
    hits.into_iter().filter(move |e| Some(e.wildcards()) == best)
}

/// Every endpoint of Finch by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /connect/sessions`
    CreateSession,
    /// `POST /connect/sessions/reauthenticate`
    ReauthenticateSession,
    /// `POST /auth/token`
    CreateAccessToken,
    /// `GET /employer/company`
    GetCompany,
    /// `GET /employer/directory`
    ListDirectory,
    /// `POST /employer/individual`
    ReadIndividuals,
    /// `POST /employer/employment`
    ReadEmployments,
    /// `GET /employer/payment`
    ListPayments,
    /// `POST /employer/pay-statement`
    ReadPayStatements,
    /// `GET /employer/pay-groups`
    ListPayGroups,
    /// `GET /employer/pay-groups/{pay_group_id}`
    GetPayGroup,
    /// `GET /employer/pay-statement-item`
    ListPayStatementItems,
    /// `GET /employer/pay-statement-item/rule`
    ListRules,
    /// `POST /employer/pay-statement-item/rule`
    CreateRule,
    /// `PUT /employer/pay-statement-item/rule/{rule_id}`
    UpdateRule,
    /// `DELETE /employer/pay-statement-item/rule/{rule_id}`
    DeleteRule,
    /// `GET /employer/documents`
    ListDocuments,
    /// `GET /employer/documents/{document_id}`
    GetDocument,
    /// `GET /employer/benefits`
    ListBenefits,
    /// `POST /employer/benefits`
    CreateBenefit,
    /// `GET /employer/benefits/meta`
    ListBenefitsMeta,
    /// `POST /employer/benefits/register`
    RegisterBenefit,
    /// `GET /employer/benefits/{benefit_id}`
    GetBenefit,
    /// `POST /employer/benefits/{benefit_id}`
    UpdateBenefit,
    /// `GET /employer/benefits/{benefit_id}/enrolled`
    ListEnrolled,
    /// `GET /employer/benefits/{benefit_id}/individuals`
    ReadEnrollments,
    /// `POST /employer/benefits/{benefit_id}/individuals`
    EnrollIndividuals,
    /// `DELETE /employer/benefits/{benefit_id}/individuals`
    UnenrollIndividuals,
    /// `GET /providers`
    ListProviders,
    /// `GET /introspect`
    Introspect,
    /// `POST /disconnect`
    Disconnect,
    /// `POST /disconnect-entity`
    DisconnectEntity,
    /// `POST /forward`
    Forward,
    /// `GET /jobs/automated`
    ListAutomatedJobs,
    /// `POST /jobs/automated`
    CreateAutomatedJob,
    /// `GET /jobs/automated/{job_id}`
    GetAutomatedJob,
    /// `GET /jobs/manual/{job_id}`
    GetManualJob,
    /// `POST /sandbox/connections`
    SandboxCreateConnection,
    /// `POST /sandbox/connections/accounts`
    SandboxCreateAccount,
    /// `PUT /sandbox/connections/accounts`
    SandboxUpdateAccount,
    /// `PUT /sandbox/company`
    SandboxUpdateCompany,
    /// `POST /sandbox/directory`
    SandboxCreateDirectory,
    /// `PUT /sandbox/individual/{individual_id}`
    SandboxUpdateIndividual,
    /// `PUT /sandbox/employment/{individual_id}`
    SandboxUpdateEmployment,
    /// `POST /sandbox/payment`
    SandboxCreatePayment,
    /// `POST /sandbox/jobs`
    SandboxCreateJob,
    /// `GET /sandbox/jobs/configuration`
    SandboxGetJobConfiguration,
    /// `PUT /sandbox/jobs/configuration`
    SandboxUpdateJobConfiguration,
}

/// Whether any call of the product may be kept back.
pub fn can_be_kept_back(product: Product) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.product == product && endpoint.can_be_kept_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_path_wins_over_one_that_varies() {
        let found = |method, path| find(method, path).map(|e| e.operation);
        assert_eq!(found(Method::Get, "/employer/benefits/meta"), Some(Operation::ListBenefitsMeta));
        assert_eq!(found(Method::Get, "/employer/benefits/b1"), Some(Operation::GetBenefit));
        assert_eq!(found(Method::Post, "/employer/benefits/meta"), None);
        assert_eq!(found(Method::Get, "/employer/company/"), None);
        assert_eq!(found(Method::Get, "/employer"), None);
        assert_eq!(found(Method::Get, "/"), None);
    }

    #[test]
    fn every_row_is_found_by_its_own_path() {
        for row in &ENDPOINTS {
            let path = row.path.replace(['{', '}'], "");
            assert_eq!(find(row.method, &path).map(|e| e.operation), Some(row.operation), "{}", row.path);
        }
    }
}
