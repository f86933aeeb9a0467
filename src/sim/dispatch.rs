//! From a request to an answer: who asks, whether they may, and the one place that knows all 48 operations.

use super::answer::{Answer, Freshness, Outcome};
use super::call::Call;
use super::refusal::{Reason, Refusal};
use super::world::{Connection, Status, Token, TokenState, World};
use super::{account, benefits, connect, employer, items, jobs, pay, sandbox};
use crate::finch::{Auth, Operation};
use crate::types::Product;

/// Carries a request out.
pub(super) fn act(world: &mut World, call: &Call<'_>) -> Outcome {
    match call.endpoint.auth {
        Auth::NoAuth | Auth::InBody => operate(world, call, None),
        Auth::Basic => {
            let (id, secret) = call.basic().ok_or_else(|| match call.headers.get("authorization") {
                Some(_) => Refusal::from(Reason::InvalidClient),
                None => Reason::Unauthorized.into(),
            })?;
            match world.knows_client(&id, &secret) {
                true => operate(world, call, None),
                false => Err(Reason::InvalidClient.into()),
            }
        }
        Auth::Bearer => {
            let value = call.bearer().ok_or(Reason::Unauthorized)?;
            let token = world.token(value).cloned().ok_or(Reason::InvalidToken)?;
            match token.state {
                TokenState::Live => {}
                TokenState::Replaced => return Err(Reason::InvalidToken.into()),
                TokenState::Disconnected => return Err(Reason::Disconnected.into()),
            }
            operate(world, call, Some(&token))
        }
    }
}

/// The scope an endpoint needs (Finch API reference).
fn scope(product: Product) -> Option<&'static str> {
    match product {
        Product::Company => Some("company"),
        Product::Directory => Some("directory"),
        Product::Individual => Some("individual"),
        Product::Employment => Some("employment"),
        Product::Payment | Product::PayGroups => Some("payment"),
        Product::PayStatement | Product::PayStatementItem => Some("pay_statement"),
        Product::Documents => Some("documents"),
        Product::Benefits => Some("benefits"),
        Product::Connect
        | Product::Auth
        | Product::Providers
        | Product::Introspect
        | Product::Disconnect
        | Product::Forward
        | Product::Jobs
        | Product::Sandbox => None,
    }
}

/// Whether the call reads or writes the employer's data, so that the state of the login matters.
fn needs_login(product: Product) -> bool {
    match product {
        Product::Forward | Product::Jobs => true,
        other => scope(other).is_some(),
    }
}

/// What a state does to data calls (Finch Connect guide).
fn ready(status: Status, product: Product) -> Result<(), Refusal> {
    match status {
        Status::Connected => Ok(()),
        // Company and directory can be read before the first sync is done (Finch integration checklist).
        Status::Processing => match product {
            Product::Company | Product::Directory | Product::Jobs => Ok(()),
            _ => Err(Reason::Accepted.into()),
        },
        Status::Pending => Err(Reason::Accepted.into()),
        Status::ErrorNoAccountSetup => Err(Reason::AccountSetupRequired.into()),
        Status::ErrorPermissions => Err(Reason::Permissions.into()),
        Status::Reauth => Err(Reason::Reauth.into()),
        Status::Disconnected => Err(Reason::Disconnected.into()),
    }
}

/// Which entity is meant (Finch API reference).
fn entity(connection: &Connection, call: &Call<'_>) -> Result<usize, Refusal> {
    let wrong = |why: &str| Err(Refusal::because(Reason::InvalidRequest, why));
    let place = match call.params("entity_ids").as_slice() {
        [] if connection.entities.len() > 1 => {
            return wrong("entity_ids[] is required: the connection has several entities");
        }
        [] => 0,
        [id] => connection
            .entities
            .iter()
            .position(|e| e.id == *id)
            .ok_or_else(|| Refusal::because(Reason::NotFound, "No such entity"))?,
        _ => return wrong("entity_ids[] takes one id"),
    };
    ready(connection.entities[place].status, call.endpoint.product)?;
    Ok(place)
}

fn may(world: &World, call: &Call<'_>, token: &Token) -> Result<usize, Refusal> {
    let (connection, product) = (&world.connections[token.connection], call.endpoint.product);
    if let Some(scope) = scope(product) {
        let covers = |p: &String| p == scope || (scope == "benefits" && p == "deduction");
        if !token.products.iter().any(covers) {
            return Err(Refusal::because(
                Reason::InsufficientScope,
                format!("The access token does not cover {scope}"),
            ));
        }
    }
    if needs_login(product) {
        ready(connection.status, product)?;
    }
    match call.endpoint.takes_entity {
        true => entity(connection, call),
        false => Ok(0),
    }
}

fn operate(world: &mut World, call: &Call<'_>, token: Option<&Token>) -> Outcome {
    let Some(token) = token else { return outside(world, call) };
    let at = may(world, call, token)?;
    let place = token.connection;
    match call.endpoint.operation {
        Operation::Introspect => account::introspect(world, token),
        Operation::Disconnect => account::disconnect(world, place),
        Operation::DisconnectEntity => account::disconnect_entities(world, place, call),
        Operation::Forward => account::forward(world, place, call),
        Operation::SandboxUpdateAccount => sandbox::update_account(world, place, call, &token.products),
        Operation::SandboxCreatePayment => sandbox::create_payment(world, place, call),
        _ => {
            let connection = &mut world.connections[place];
            let mut answer = inside(connection, call, at, &token.products)?;
            if call.endpoint.takes_entity {
                answer.freshness = Some(Freshness {
                    retrieved: connection.synced,
                    attempted: connection.synced,
                    result: "success",
                });
            }
            Ok(answer)
        }
    }
}

/// The operations that need no connection.
fn outside(world: &mut World, call: &Call<'_>) -> Outcome {
    match call.endpoint.operation {
        Operation::CreateSession => connect::create_session(world, call),
        Operation::ReauthenticateSession => connect::reauthenticate_session(world, call),
        Operation::CreateAccessToken => connect::create_access_token(world, call),
        Operation::ListProviders => account::providers(),
        Operation::SandboxCreateConnection => sandbox::create_connection(world, call),
        Operation::SandboxCreateAccount => sandbox::create_account(world, call),
        _ => Err(Reason::Unauthorized.into()),
    }
}

/// The operations on one connection.
fn inside(connection: &mut Connection, call: &Call<'_>, at: usize, scopes: &[String]) -> Outcome {
    let entity = &connection.entities[at];
    match call.endpoint.operation {
        Operation::GetCompany => employer::company(connection, at),
        Operation::ListDirectory => employer::directory(entity, call),
        Operation::ReadIndividuals => employer::individuals(entity, call, scopes),
        Operation::ReadEmployments => employer::employments(entity, call),
        Operation::ListPayments => pay::payments(entity, call),
        Operation::ReadPayStatements => pay::statements(entity, call),
        Operation::ListPayGroups => pay::groups(entity, call),
        Operation::GetPayGroup => pay::group(entity, call),
        Operation::ListPayStatementItems => items::list_items(call),
        Operation::ListRules => connection.rules.list(),
        Operation::CreateRule => connection.rules.create(call),
        Operation::UpdateRule => connection.rules.update(call),
        Operation::DeleteRule => connection.rules.delete(call),
        Operation::ListDocuments => employer::list_documents(entity, call),
        Operation::GetDocument => employer::document(entity, call),
        Operation::ListBenefits => benefits::list(connection),
        Operation::CreateBenefit => benefits::create(connection, call),
        Operation::ListBenefitsMeta => benefits::meta(connection),
        Operation::RegisterBenefit => benefits::register(connection, call),
        Operation::GetBenefit => benefits::get(connection, call),
        Operation::UpdateBenefit => benefits::update(connection, call),
        Operation::ListEnrolled => benefits::enrolled(connection, call),
        Operation::ReadEnrollments => benefits::enrollments(connection, call, at),
        Operation::EnrollIndividuals => benefits::enroll(connection, call, at),
        Operation::UnenrollIndividuals => benefits::unenroll(connection, call),
        Operation::ListAutomatedJobs => connection.jobs.list(call),
        Operation::CreateAutomatedJob => jobs::create(connection, call),
        Operation::GetAutomatedJob => connection.jobs.get(call),
        Operation::GetManualJob => connection.jobs.get_manual(call),
        Operation::SandboxUpdateCompany => sandbox::update_company(connection, call),
        Operation::SandboxCreateDirectory => sandbox::create_directory(connection, call),
        Operation::SandboxUpdateIndividual => sandbox::update_individual(connection, call),
        Operation::SandboxUpdateEmployment => sandbox::update_employment(connection, call),
        Operation::SandboxCreateJob => jobs::create_in_sandbox(connection, call),
        Operation::SandboxGetJobConfiguration => connection.jobs.configuration(),
        Operation::SandboxUpdateJobConfiguration => connection.jobs.configure(call),
        // The rest is answered before this point; named so that a new operation cannot be forgotten.
        Operation::CreateSession
        | Operation::ReauthenticateSession
        | Operation::CreateAccessToken
        | Operation::ListProviders
        | Operation::Introspect
        | Operation::Disconnect
        | Operation::DisconnectEntity
        | Operation::Forward
        | Operation::SandboxCreateConnection
        | Operation::SandboxCreateAccount
        | Operation::SandboxUpdateAccount
        | Operation::SandboxCreatePayment => Err(Reason::NotFound.into()),
    }
}

/// The answer to a path or method that Finch does not have.
pub(super) fn no_such_route(method: &str, path: &str) -> Answer {
    Refusal::because(Reason::NotFound, format!("Cannot {method} {path}")).into()
}
