//! The connection itself: introspection, its end, requests forwarded to the provider, and the providers there are.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::connect::connection_type;
use super::refusal::{Reason, Refusal};
use super::scenario::Authentication;
use super::world::{Status, Token, World};
use serde_json::{Value, json};

const PROVIDERS: [(&str, &str); 6] = [
    ("gusto", "Gusto"),
    ("adp_run", "RUN Powered by ADP"),
    ("bamboo_hr", "BambooHR"),
    ("paychex_flex", "Paychex Flex"),
    ("quickbooks", "QuickBooks Payroll"),
    ("justworks", "Justworks"),
];

/// `GET /providers`
pub(super) fn providers() -> Outcome {
    let row = |(id, name): (&str, &str)| {
        json!({
            "id": id, "display_name": name, "icon": null, "logo": null, "primary_color": "#335577",
            "beta": false, "manual": false, "mfa_required": id == "paychex_flex",
            "products": ["company", "directory", "individual", "employment", "payment", "pay_statement", "benefits"],
            "authentication_methods": [{
                "type": "oauth",
                "products": ["company", "directory", "individual", "employment", "payment", "pay_statement"],
                "benefits_support": { "supported_features": {}, "supported_benefits": ["401k"] },
            }],
        })
    };
    Ok(Answer::ok(PROVIDERS.map(row).into_iter().collect()))
}

/// `GET /introspect`: every field of the Finch Connect guide.
pub(super) fn introspect(world: &World, token: &Token) -> Outcome {
    let connection = &world.connections[token.connection];
    let status = json!({
        "status": connection.status.as_str(),
        "message": if connection.status == Status::Connected { Value::Null } else { json!("See the status") },
        "last_successful_sync": connection.synced,
    });
    let entities: Vec<Value> = connection
        .entities
        .iter()
        .map(|e| {
            let status = if connection.status == Status::Connected { e.status } else { connection.status };
            json!({ "id": e.id, "name": e.name, "source_id": e.source_id, "status": status.as_str() })
        })
        .collect();
    Ok(Answer::ok(json!({
        "id": token.id,
        "client_id": world.client_id,
        "client_type": world.environment.as_str(),
        "connection_id": connection.id,
        "connection_type": connection_type(world),
        "connection_status": status,
        "products": token.products,
        "provider_id": connection.provider,
        "payroll_provider_id": connection.provider,
        "authentication_methods": [{
            "type": connection.authentication.as_str(), "connection_status": status, "products": token.products,
        }],
        "entities": entities,
        "company_id": connection.company_id,
        "account_id": connection.account_id,
        "customer_id": connection.customer_id,
        "customer_name": connection.customer_name,
        "customer_email": connection.customer_email,
        "username": null,
        "manual": connection.authentication == Authentication::Assisted,
    })))
}

/// `POST /disconnect`
pub(super) fn disconnect(world: &mut World, connection: usize) -> Outcome {
    world.disconnect(connection);
    Ok(Answer::ok(json!({ "status": "success" })))
}

/// `POST /disconnect-entity`
pub(super) fn disconnect_entities(world: &mut World, connection: usize, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let ids = body.get("entity_ids").and_then(Value::as_array).filter(|ids| !ids.is_empty());
    let ids =
        ids.ok_or_else(|| Refusal::because(Reason::InvalidRequest, "entity_ids must be a list of ids"))?;
    let entities = &mut world.connections[connection].entities;
    let known = |id: &Value| entities.iter().any(|e| id == e.id.as_str());
    if !ids.iter().all(known) {
        return Err(Refusal::because(Reason::NotFound, "No such entity"));
    }
    for entity in entities.iter_mut().filter(|e| ids.iter().any(|id| id == e.id.as_str())) {
        entity.status = Status::Disconnected;
    }
    // A connection without entities has nothing left to give.
    if entities.iter().all(|e| e.status == Status::Disconnected) {
        world.disconnect(connection);
    }
    Ok(Answer::ok(json!({ "status": "success" })))
}

/// `POST /forward`: 200 whatever the provider says. A route ending in `/status/NNN` is answered with NNN.
pub(super) fn forward(world: &World, connection: usize, call: &Call<'_>) -> Outcome {
    let wrong = |why: &str| Refusal::because(Reason::InvalidRequest, why);
    let body = call.object()?;
    let method = body.get("method").and_then(Value::as_str).ok_or_else(|| wrong("method is required"))?;
    let route = body.get("route").and_then(Value::as_str).ok_or_else(|| wrong("route is required"))?;
    if !route.starts_with('/') || !route.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/".contains(&b)) {
        return Err(wrong("route must begin with / and hold letters, digits, - and _"));
    }
    match world.connections[connection].authentication {
        Authentication::Assisted | Authentication::Credential => {
            return Err(Reason::NotSupportedByProvider.into());
        }
        Authentication::ApiToken | Authentication::ApiCredential | Authentication::Oauth => {}
    }
    let asked = route.rsplit_once("/status/").and_then(|(_, code)| code.parse::<u16>().ok());
    let status = asked.filter(|code| (100..=599).contains(code)).unwrap_or(200);
    let given = |name: &str| body.get(name).cloned().unwrap_or(Value::Null);
    let headers = match given("request_headers") {
        Value::Null => given("headers"),
        headers => headers,
    };
    Ok(Answer::ok(json!({
        "request": { "method": method, "route": route, "data": given("data"), "params": given("params"), "headers": headers },
        "statusCode": status,
        "headers": { "content-type": "application/json" },
        "data": json!({ "provider": world.connections[connection].provider, "route": route }).to_string(),
    })))
}
