//! The 48 endpoints of Finch as one table. `tests/it/endpoints.rs` holds it against the fact sheet.

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

const INDIVIDUALS: Batch = Batch { key: "individual_id", wrapped: true, items_max: Some(10_000) };
const PAYMENTS: Batch = Batch { key: "payment_id", wrapped: true, items_max: Some(10) };
const ITEMS: Batch = Batch { key: "individual_id", wrapped: false, items_max: None };

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

const fn row(
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
    const fn batch(mut self, batch: Batch) -> Self {
        self.batch = Some(batch);
        self
    }

    const fn paged(mut self) -> Self {
        self.is_paged = true;
        self
    }

    const fn per_entity(mut self) -> Self {
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

/// All of them, in the order of the fact sheet.
pub static ENDPOINTS: [Endpoint; 48] = [
    row(
        Operation::CreateSession,
        Method::Post,
        "/connect/sessions",
        Auth::Basic,
        Product::Connect,
        Effect::Writes,
        Replay::Harmless,
    ),
    row(
        Operation::ReauthenticateSession,
        Method::Post,
        "/connect/sessions/reauthenticate",
        Auth::Basic,
        Product::Connect,
        Effect::Writes,
        Replay::Harmless,
    ),
    row(
        Operation::CreateAccessToken,
        Method::Post,
        "/auth/token",
        Auth::InBody,
        Product::Auth,
        Effect::Writes,
        Replay::Unsafe,
    ),
    row(
        Operation::GetCompany,
        Method::Get,
        "/employer/company",
        Auth::Bearer,
        Product::Company,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::ListDirectory,
        Method::Get,
        "/employer/directory",
        Auth::Bearer,
        Product::Directory,
        Effect::Reads,
        Replay::Safe,
    )
    .paged()
    .per_entity(),
    row(
        Operation::ReadIndividuals,
        Method::Post,
        "/employer/individual",
        Auth::Bearer,
        Product::Individual,
        Effect::Reads,
        Replay::Safe,
    )
    .batch(INDIVIDUALS)
    .per_entity(),
    row(
        Operation::ReadEmployments,
        Method::Post,
        "/employer/employment",
        Auth::Bearer,
        Product::Employment,
        Effect::Reads,
        Replay::Safe,
    )
    .batch(INDIVIDUALS)
    .per_entity(),
    row(
        Operation::ListPayments,
        Method::Get,
        "/employer/payment",
        Auth::Bearer,
        Product::Payment,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::ReadPayStatements,
        Method::Post,
        "/employer/pay-statement",
        Auth::Bearer,
        Product::PayStatement,
        Effect::Reads,
        Replay::Safe,
    )
    .batch(PAYMENTS)
    .paged()
    .per_entity(),
    row(
        Operation::ListPayGroups,
        Method::Get,
        "/employer/pay-groups",
        Auth::Bearer,
        Product::PayGroups,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::GetPayGroup,
        Method::Get,
        "/employer/pay-groups/{pay_group_id}",
        Auth::Bearer,
        Product::PayGroups,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::ListPayStatementItems,
        Method::Get,
        "/employer/pay-statement-item",
        Auth::Bearer,
        Product::PayStatementItem,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::ListRules,
        Method::Get,
        "/employer/pay-statement-item/rule",
        Auth::Bearer,
        Product::PayStatementItem,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::CreateRule,
        Method::Post,
        "/employer/pay-statement-item/rule",
        Auth::Bearer,
        Product::PayStatementItem,
        Effect::Writes,
        Replay::Unsafe,
    )
    .per_entity(),
    row(
        Operation::UpdateRule,
        Method::Put,
        "/employer/pay-statement-item/rule/{rule_id}",
        Auth::Bearer,
        Product::PayStatementItem,
        Effect::Writes,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::DeleteRule,
        Method::Delete,
        "/employer/pay-statement-item/rule/{rule_id}",
        Auth::Bearer,
        Product::PayStatementItem,
        Effect::Writes,
        Replay::Conditional,
    )
    .per_entity(),
    row(
        Operation::ListDocuments,
        Method::Get,
        "/employer/documents",
        Auth::Bearer,
        Product::Documents,
        Effect::Reads,
        Replay::Safe,
    )
    .paged()
    .per_entity(),
    row(
        Operation::GetDocument,
        Method::Get,
        "/employer/documents/{document_id}",
        Auth::Bearer,
        Product::Documents,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::ListBenefits,
        Method::Get,
        "/employer/benefits",
        Auth::Bearer,
        Product::Benefits,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::CreateBenefit,
        Method::Post,
        "/employer/benefits",
        Auth::Bearer,
        Product::Benefits,
        Effect::Writes,
        Replay::Harmless,
    )
    .per_entity(),
    row(
        Operation::ListBenefitsMeta,
        Method::Get,
        "/employer/benefits/meta",
        Auth::Bearer,
        Product::Benefits,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::RegisterBenefit,
        Method::Post,
        "/employer/benefits/register",
        Auth::Bearer,
        Product::Benefits,
        Effect::Writes,
        Replay::Unsafe,
    )
    .per_entity(),
    row(
        Operation::GetBenefit,
        Method::Get,
        "/employer/benefits/{benefit_id}",
        Auth::Bearer,
        Product::Benefits,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::UpdateBenefit,
        Method::Post,
        "/employer/benefits/{benefit_id}",
        Auth::Bearer,
        Product::Benefits,
        Effect::Writes,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::ListEnrolled,
        Method::Get,
        "/employer/benefits/{benefit_id}/enrolled",
        Auth::Bearer,
        Product::Benefits,
        Effect::Reads,
        Replay::Safe,
    )
    .per_entity(),
    row(
        Operation::ReadEnrollments,
        Method::Get,
        "/employer/benefits/{benefit_id}/individuals",
        Auth::Bearer,
        Product::Benefits,
        Effect::Reads,
        Replay::Safe,
    )
    .batch(ITEMS)
    .per_entity(),
    row(
        Operation::EnrollIndividuals,
        Method::Post,
        "/employer/benefits/{benefit_id}/individuals",
        Auth::Bearer,
        Product::Benefits,
        Effect::Writes,
        Replay::Harmless,
    )
    .batch(ITEMS)
    .per_entity(),
    row(
        Operation::UnenrollIndividuals,
        Method::Delete,
        "/employer/benefits/{benefit_id}/individuals",
        Auth::Bearer,
        Product::Benefits,
        Effect::Writes,
        Replay::Conditional,
    )
    .batch(ITEMS)
    .per_entity(),
    row(
        Operation::ListProviders,
        Method::Get,
        "/providers",
        Auth::NoAuth,
        Product::Providers,
        Effect::Reads,
        Replay::Safe,
    ),
    row(
        Operation::Introspect,
        Method::Get,
        "/introspect",
        Auth::Bearer,
        Product::Introspect,
        Effect::Reads,
        Replay::Safe,
    ),
    row(
        Operation::Disconnect,
        Method::Post,
        "/disconnect",
        Auth::Bearer,
        Product::Disconnect,
        Effect::Writes,
        Replay::Conditional,
    ),
    row(
        Operation::DisconnectEntity,
        Method::Post,
        "/disconnect-entity",
        Auth::Bearer,
        Product::Disconnect,
        Effect::Writes,
        Replay::Conditional,
    ),
    row(
        Operation::Forward,
        Method::Post,
        "/forward",
        Auth::Bearer,
        Product::Forward,
        Effect::Writes,
        Replay::Conditional,
    ),
    row(
        Operation::ListAutomatedJobs,
        Method::Get,
        "/jobs/automated",
        Auth::Bearer,
        Product::Jobs,
        Effect::Reads,
        Replay::Safe,
    )
    .paged(),
    row(
        Operation::CreateAutomatedJob,
        Method::Post,
        "/jobs/automated",
        Auth::Bearer,
        Product::Jobs,
        Effect::Writes,
        Replay::Harmless,
    ),
    row(
        Operation::GetAutomatedJob,
        Method::Get,
        "/jobs/automated/{job_id}",
        Auth::Bearer,
        Product::Jobs,
        Effect::Reads,
        Replay::Safe,
    ),
    row(
        Operation::GetManualJob,
        Method::Get,
        "/jobs/manual/{job_id}",
        Auth::Bearer,
        Product::Jobs,
        Effect::Reads,
        Replay::Safe,
    ),
    row(
        Operation::SandboxCreateConnection,
        Method::Post,
        "/sandbox/connections",
        Auth::Basic,
        Product::Sandbox,
        Effect::Writes,
        Replay::Unsafe,
    ),
    row(
        Operation::SandboxCreateAccount,
        Method::Post,
        "/sandbox/connections/accounts",
        Auth::Basic,
        Product::Sandbox,
        Effect::Writes,
        Replay::Unsafe,
    ),
    row(
        Operation::SandboxUpdateAccount,
        Method::Put,
        "/sandbox/connections/accounts",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Safe,
    ),
    row(
        Operation::SandboxUpdateCompany,
        Method::Put,
        "/sandbox/company",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Safe,
    ),
    row(
        Operation::SandboxCreateDirectory,
        Method::Post,
        "/sandbox/directory",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Unsafe,
    )
    .batch(ITEMS),
    row(
        Operation::SandboxUpdateIndividual,
        Method::Put,
        "/sandbox/individual/{individual_id}",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Safe,
    ),
    row(
        Operation::SandboxUpdateEmployment,
        Method::Put,
        "/sandbox/employment/{individual_id}",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Safe,
    ),
    row(
        Operation::SandboxCreatePayment,
        Method::Post,
        "/sandbox/payment",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Unsafe,
    ),
    row(
        Operation::SandboxCreateJob,
        Method::Post,
        "/sandbox/jobs",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Safe,
    ),
    row(
        Operation::SandboxGetJobConfiguration,
        Method::Get,
        "/sandbox/jobs/configuration",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Reads,
        Replay::Safe,
    ),
    row(
        Operation::SandboxUpdateJobConfiguration,
        Method::Put,
        "/sandbox/jobs/configuration",
        Auth::Bearer,
        Product::Sandbox,
        Effect::Writes,
        Replay::Safe,
    ),
];

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
