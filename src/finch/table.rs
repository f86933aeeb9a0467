//! The 48 endpoints of Finch as one table. `tests/it/endpoints.rs` holds it against the fact sheet.

use super::endpoints::Auth::{Basic, Bearer, InBody, NoAuth};
use super::endpoints::Effect::{Reads, Writes};
use super::endpoints::Method::{Delete, Get, Post, Put};
use super::endpoints::Replay::{Conditional, Harmless, Safe, Unsafe};
use super::endpoints::{Batch, Endpoint, Operation, row};
use crate::types::Product;

const INDIVIDUALS: Batch = Batch { key: "individual_id", wrapped: true, items_max: Some(10_000) };
const PAYMENTS: Batch = Batch { key: "payment_id", wrapped: true, items_max: Some(10) };
const ITEMS: Batch = Batch { key: "individual_id", wrapped: false, items_max: None };

/// All of them, in the order of the fact sheet. One row a line: it is read as a table.
#[rustfmt::skip]
pub static ENDPOINTS: [Endpoint; 48] = [
    row(Operation::CreateSession,                 Post,   "/connect/sessions",                           Basic,  Product::Connect,          Writes, Harmless),
    row(Operation::ReauthenticateSession,         Post,   "/connect/sessions/reauthenticate",            Basic,  Product::Connect,          Writes, Harmless),
    row(Operation::CreateAccessToken,             Post,   "/auth/token",                                 InBody, Product::Auth,             Writes, Unsafe),
    row(Operation::GetCompany,                    Get,    "/employer/company",                           Bearer, Product::Company,          Reads,  Safe).per_entity(),
    row(Operation::ListDirectory,                 Get,    "/employer/directory",                         Bearer, Product::Directory,        Reads,  Safe).paged().per_entity(),
    row(Operation::ReadIndividuals,               Post,   "/employer/individual",                        Bearer, Product::Individual,       Reads,  Safe).batch(INDIVIDUALS).per_entity(),
    row(Operation::ReadEmployments,               Post,   "/employer/employment",                        Bearer, Product::Employment,       Reads,  Safe).batch(INDIVIDUALS).per_entity(),
    row(Operation::ListPayments,                  Get,    "/employer/payment",                           Bearer, Product::Payment,          Reads,  Safe).per_entity(),
    row(Operation::ReadPayStatements,             Post,   "/employer/pay-statement",                     Bearer, Product::PayStatement,     Reads,  Safe).batch(PAYMENTS).paged().per_entity(),
    row(Operation::ListPayGroups,                 Get,    "/employer/pay-groups",                        Bearer, Product::PayGroups,        Reads,  Safe).per_entity(),
    row(Operation::GetPayGroup,                   Get,    "/employer/pay-groups/{pay_group_id}",         Bearer, Product::PayGroups,        Reads,  Safe).per_entity(),
    row(Operation::ListPayStatementItems,         Get,    "/employer/pay-statement-item",                Bearer, Product::PayStatementItem, Reads,  Safe).per_entity(),
    row(Operation::ListRules,                     Get,    "/employer/pay-statement-item/rule",           Bearer, Product::PayStatementItem, Reads,  Safe).per_entity(),
    row(Operation::CreateRule,                    Post,   "/employer/pay-statement-item/rule",           Bearer, Product::PayStatementItem, Writes, Unsafe).per_entity(),
    row(Operation::UpdateRule,                    Put,    "/employer/pay-statement-item/rule/{rule_id}", Bearer, Product::PayStatementItem, Writes, Safe).per_entity(),
    row(Operation::DeleteRule,                    Delete, "/employer/pay-statement-item/rule/{rule_id}", Bearer, Product::PayStatementItem, Writes, Conditional).per_entity(),
    row(Operation::ListDocuments,                 Get,    "/employer/documents",                         Bearer, Product::Documents,        Reads,  Safe).paged().per_entity(),
    row(Operation::GetDocument,                   Get,    "/employer/documents/{document_id}",           Bearer, Product::Documents,        Reads,  Safe).per_entity(),
    row(Operation::ListBenefits,                  Get,    "/employer/benefits",                          Bearer, Product::Benefits,         Reads,  Safe).per_entity(),
    row(Operation::CreateBenefit,                 Post,   "/employer/benefits",                          Bearer, Product::Benefits,         Writes, Harmless).per_entity(),
    row(Operation::ListBenefitsMeta,              Get,    "/employer/benefits/meta",                     Bearer, Product::Benefits,         Reads,  Safe).per_entity(),
    row(Operation::RegisterBenefit,               Post,   "/employer/benefits/register",                 Bearer, Product::Benefits,         Writes, Unsafe).per_entity(),
    row(Operation::GetBenefit,                    Get,    "/employer/benefits/{benefit_id}",             Bearer, Product::Benefits,         Reads,  Safe).per_entity(),
    row(Operation::UpdateBenefit,                 Post,   "/employer/benefits/{benefit_id}",             Bearer, Product::Benefits,         Writes, Safe).per_entity(),
    row(Operation::ListEnrolled,                  Get,    "/employer/benefits/{benefit_id}/enrolled",    Bearer, Product::Benefits,         Reads,  Safe).per_entity(),
    row(Operation::ReadEnrollments,               Get,    "/employer/benefits/{benefit_id}/individuals", Bearer, Product::Benefits,         Reads,  Safe).batch(ITEMS).per_entity(),
    row(Operation::EnrollIndividuals,             Post,   "/employer/benefits/{benefit_id}/individuals", Bearer, Product::Benefits,         Writes, Harmless).batch(ITEMS).per_entity(),
    row(Operation::UnenrollIndividuals,           Delete, "/employer/benefits/{benefit_id}/individuals", Bearer, Product::Benefits,         Writes, Conditional).batch(ITEMS).per_entity(),
    row(Operation::ListProviders,                 Get,    "/providers",                                  NoAuth, Product::Providers,        Reads,  Safe),
    row(Operation::Introspect,                    Get,    "/introspect",                                 Bearer, Product::Introspect,       Reads,  Safe),
    row(Operation::Disconnect,                    Post,   "/disconnect",                                 Bearer, Product::Disconnect,       Writes, Conditional),
    row(Operation::DisconnectEntity,              Post,   "/disconnect-entity",                          Bearer, Product::Disconnect,       Writes, Conditional),
    row(Operation::Forward,                       Post,   "/forward",                                    Bearer, Product::Forward,          Writes, Conditional),
    row(Operation::ListAutomatedJobs,             Get,    "/jobs/automated",                             Bearer, Product::Jobs,             Reads,  Safe).paged(),
    row(Operation::CreateAutomatedJob,            Post,   "/jobs/automated",                             Bearer, Product::Jobs,             Writes, Harmless),
    row(Operation::GetAutomatedJob,               Get,    "/jobs/automated/{job_id}",                    Bearer, Product::Jobs,             Reads,  Safe),
    row(Operation::GetManualJob,                  Get,    "/jobs/manual/{job_id}",                       Bearer, Product::Jobs,             Reads,  Safe),
    row(Operation::SandboxCreateConnection,       Post,   "/sandbox/connections",                        Basic,  Product::Sandbox,          Writes, Unsafe),
    row(Operation::SandboxCreateAccount,          Post,   "/sandbox/connections/accounts",               Basic,  Product::Sandbox,          Writes, Unsafe),
    row(Operation::SandboxUpdateAccount,          Put,    "/sandbox/connections/accounts",               Bearer, Product::Sandbox,          Writes, Safe),
    row(Operation::SandboxUpdateCompany,          Put,    "/sandbox/company",                            Bearer, Product::Sandbox,          Writes, Safe),
    row(Operation::SandboxCreateDirectory,        Post,   "/sandbox/directory",                          Bearer, Product::Sandbox,          Writes, Unsafe).batch(ITEMS),
    row(Operation::SandboxUpdateIndividual,       Put,    "/sandbox/individual/{individual_id}",         Bearer, Product::Sandbox,          Writes, Safe),
    row(Operation::SandboxUpdateEmployment,       Put,    "/sandbox/employment/{individual_id}",         Bearer, Product::Sandbox,          Writes, Safe),
    row(Operation::SandboxCreatePayment,          Post,   "/sandbox/payment",                            Bearer, Product::Sandbox,          Writes, Unsafe),
    row(Operation::SandboxCreateJob,              Post,   "/sandbox/jobs",                               Bearer, Product::Sandbox,          Writes, Safe),
    row(Operation::SandboxGetJobConfiguration,    Get,    "/sandbox/jobs/configuration",                 Bearer, Product::Sandbox,          Reads,  Safe),
    row(Operation::SandboxUpdateJobConfiguration, Put,    "/sandbox/jobs/configuration",                 Bearer, Product::Sandbox,          Writes, Safe),
];
