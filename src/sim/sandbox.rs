//! Finch's sandbox: connections out of nothing, a status by order, and edited data.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::company::Change;
use super::connect::{needed, scopes, token_answer};
use super::pay::day;
use super::refusal::{Reason, Refusal};
use super::scenario::Authentication;
use super::world::{Connection, Status, World};
use serde_json::{Map, Value, json};

/// People of a connection when nothing is said (Finch sandbox guide).
const EMPLOYEES: u64 = 20;
const EMPLOYEES_MAX: u64 = 10_000;
/// The most people added by one request.
const NEW_PEOPLE_MAX: usize = 1000;
/// The most people of an entity, however they came.
const PEOPLE_MAX: usize = 100_000;
/// The most payments made by hand in an entity.
const PAYMENTS_MAX: usize = 10_000;

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::because(Reason::InvalidRequest, message)
}

fn authentication(body: &Map<String, Value>) -> Result<Option<Authentication>, Refusal> {
    let Some(word) = body.get("authentication_type").and_then(Value::as_str) else { return Ok(None) };
    // The sandbox writes `oauth` and `credential`; an unknown word is a mistake of the caller.
    Authentication::parse(word).map(Some).ok_or_else(|| wrong(format!("{word:?} is no authentication_type")))
}

fn answer(world: &World, place: usize, token: &str) -> Answer {
    let mut body = token_answer(world, token);
    let connection = &world.connections[place];
    body["entity_id"] = json!(connection.entities.first().map(|e| &e.id));
    body["authentication_type"] = json!(connection.authentication.as_str());
    Answer::json(201, body)
}

/// `POST /sandbox/connections`
pub(super) fn create_connection(world: &mut World, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let provider = needed(&body, "provider_id")?;
    let size = match body.get("employee_size").filter(|v| !v.is_null()) {
        None => EMPLOYEES,
        Some(size) => size
            .as_u64()
            .filter(|n| *n <= EMPLOYEES_MAX)
            .ok_or_else(|| wrong(format!("employee_size must be a number up to {EMPLOYEES_MAX}")))?,
    };
    let products = scopes(&body)?.unwrap_or_default();
    let nobody = (None, None, None);
    let place =
        world.connect(nobody, &provider, authentication(&body)?, usize::try_from(size).ok(), call.wall)?;
    let token = world.issue(place, products, None)?;
    Ok(answer(world, place, &token))
}

/// `POST /sandbox/connections/accounts`
pub(super) fn create_account(world: &mut World, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let wanted = body.get("connection_id").or_else(|| body.get("company_id")).and_then(Value::as_str);
    let wanted = wanted.ok_or_else(|| wrong("company_id is required"))?;
    let place = world
        .connections
        .iter()
        .position(|c| (c.id == wanted || c.company_id == wanted) && c.status != Status::Disconnected)
        .ok_or_else(|| Refusal::because(Reason::NotFound, "No such company"))?;
    let products = scopes(&body)?.unwrap_or_default();
    if let Some(authentication) = authentication(&body)? {
        world.connections[place].authentication = authentication;
    }
    let token = world.issue(place, products, None)?;
    Ok(answer(world, place, &token))
}

/// `PUT /sandbox/connections/accounts`
pub(super) fn update_account(
    world: &mut World,
    place: usize,
    call: &Call<'_>,
    products: &[String],
) -> Outcome {
    let body = call.object()?;
    if let Some(word) = body.get("connection_status").filter(|s| !s.is_null()) {
        let status: Status = serde_json::from_value(word.clone())
            .map_err(|_| wrong(format!("{word} is no connection_status")))?;
        if status == Status::Disconnected {
            world.disconnect(place);
        } else {
            world.connections[place].status = status;
        }
    }
    let connection = &world.connections[place];
    Ok(Answer::ok(json!({
        "connection_id": connection.id, "company_id": connection.company_id, "account_id": connection.account_id,
        "provider_id": connection.provider, "products": products,
        "authentication_type": connection.authentication.as_str(), "connection_status": connection.status.as_str(),
    })))
}

fn stage(connection: &mut Connection, entity: usize, change: Change) -> Result<(), Refusal> {
    match connection.entities[entity].stage(change) {
        true => Ok(()),
        false => Err(Refusal::because(Reason::BadRequest, "Too many changes wait for POST /sandbox/jobs")),
    }
}

/// `PUT /sandbox/company`
pub(super) fn update_company(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let mut body = call.object()?;
    body.remove("id");
    stage(connection, 0, Change::Company(body.clone()))?;
    let mut company = connection.entities[0].company(&connection.company_id);
    super::company::patch(&mut company, &body);
    Ok(Answer::ok(company))
}

/// `POST /sandbox/directory`
pub(super) fn create_directory(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let people = match call.json()? {
        Value::Array(people) if people.len() <= NEW_PEOPLE_MAX => people,
        _ => return Err(wrong(format!("The body must be a list of at most {NEW_PEOPLE_MAX} people"))),
    };
    let people: Result<Vec<Map<String, Value>>, Refusal> = people
        .into_iter()
        .map(|person| match person {
            Value::Object(fields) => Ok(fields),
            _ => Err(wrong("each person must be an object")),
        })
        .collect();
    if connection.entities[0].people.ids().len() >= PEOPLE_MAX {
        return Err(Refusal::because(Reason::BadRequest, format!("{PEOPLE_MAX} people is the most")));
    }
    let mut made = Vec::new();
    for fields in people? {
        let at = call.wall.0.to_string();
        let mut n = made.len();
        // The same millisecond may bring two requests, so the id is tried until it is new.
        let id = loop {
            let id = connection.entities[0].chance(&["new person", &at, &n.to_string()]).uuid();
            if !connection.entities[0].employs(&id) {
                break id;
            }
            n += 1;
        };
        stage(connection, 0, Change::Person(id.clone(), fields))?;
        made.push(json!({ "individual_id": id }));
    }
    Ok(Answer::json(201, made.into()))
}

fn employed(connection: &Connection, id: &str) -> Result<usize, Refusal> {
    connection.entities.iter().position(|e| e.employs(id)).ok_or(Reason::IndividualNotFound.into())
}

/// `PUT /sandbox/individual/{individual_id}`
pub(super) fn update_individual(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let (body, entity) = (call.object()?, employed(connection, &call.id)?);
    stage(connection, entity, Change::Individual(call.id.clone(), body.clone()))?;
    let mut person = connection.entities[entity].people.individual(&call.id, false);
    super::company::patch(&mut person, &body);
    Ok(Answer::ok(person))
}

/// `PUT /sandbox/employment/{individual_id}`
pub(super) fn update_employment(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let (body, entity) = (call.object()?, employed(connection, &call.id)?);
    stage(connection, entity, Change::Employment(call.id.clone(), body.clone()))?;
    let mut employment = connection.entities[entity].people.employment(&call.id);
    super::company::patch(&mut employment, &body);
    Ok(Answer::ok(employment))
}

/// `POST /sandbox/payment`
pub(super) fn create_payment(world: &mut World, place: usize, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let date = |name: &str| match body.get(name).and_then(Value::as_str) {
        Some(text) => day(text).map(Some),
        None => Ok(None),
    };
    let end = date("end_date")?.unwrap_or_else(|| super::pay::today(call.wall));
    let start = date("start_date")?.unwrap_or_else(|| end.first_of_month());
    if world.connections[place].entities[0].payments.len() >= PAYMENTS_MAX {
        return Err(Refusal::because(Reason::BadRequest, format!("{PAYMENTS_MAX} payments is the most")));
    }
    let statements = body.get("pay_statements").cloned().unwrap_or_else(|| json!([]));
    let people: Vec<&Value> = statements
        .as_array()
        .into_iter()
        .flatten()
        .map(|s| &s["individual_id"])
        .filter(|i| i.is_string())
        .collect();
    let id = world.new_id("payment");
    let payment = json!({
        "id": id,
        "pay_period": { "start_date": start.to_string(), "end_date": end.to_string() },
        "pay_date": end.to_string(), "debit_date": null, "company_debit": null,
        "gross_pay": null, "net_pay": null, "employer_taxes": null, "employee_taxes": null,
        "individual_ids": people, "pay_group_ids": null, "pay_frequencies": null,
        "pay_statements": statements,
    });
    stage(&mut world.connections[place], 0, Change::Payment(payment))?;
    Ok(Answer::json(201, json!({ "payment_id": id, "pay_date": end.to_string() })))
}
