//! Who works there: company, directory, individual, employment, and documents.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::company::Entity;
use super::refusal::{Reason, Refusal};
use super::world::Connection;
use serde_json::{Map, Value, json};

/// The default page (Finch API reference).
const PAGE: usize = 100;
/// The largest page of the directory.
const DIRECTORY_PAGE_MAX: usize = 10_000;

/// `GET /employer/company`
pub(super) fn company(connection: &Connection, entity: usize) -> Outcome {
    Ok(Answer::ok(connection.entities[entity].company(&connection.company_id)))
}

/// `GET /employer/directory`
pub(super) fn directory(entity: &Entity, call: &Call<'_>) -> Outcome {
    let limit = call.number("limit", PAGE, DIRECTORY_PAGE_MAX)?;
    let offset = call.number("offset", 0, usize::MAX)?;
    let ids = entity.people.ids();
    let page: Vec<Value> = ids.iter().skip(offset).take(limit).map(|id| entity.people.row(id)).collect();
    Ok(Answer::ok(json!({ "paging": { "count": ids.len(), "offset": offset }, "individuals": page })))
}

/// `POST /employer/individual`
pub(super) fn individuals(entity: &Entity, call: &Call<'_>, scopes: &[String]) -> Outcome {
    let body = call.object()?;
    let include = body.get("options").and_then(|o| o.get("include")).and_then(Value::as_array);
    let with_ssn = include.is_some_and(|list| list.iter().any(|word| word == "ssn"));
    if with_ssn && !scopes.iter().any(|s| s == "ssn") {
        return Err(Reason::InsufficientScope.into());
    }
    people(entity, call, &body, |id| entity.people.individual(id, with_ssn))
}

/// `POST /employer/employment`
pub(super) fn employments(entity: &Entity, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    people(entity, call, &body, |id| entity.people.employment(id))
}

fn people(
    entity: &Entity,
    call: &Call<'_>,
    body: &Map<String, Value>,
    record: impl Fn(&str) -> Value,
) -> Outcome {
    let responses: Vec<Value> = requested(call, body)?
        .iter()
        .map(|(id, _)| match entity.people.place(id) {
            Some(_) => json!({ "individual_id": id, "code": 200, "body": record(id) }),
            None => failed("individual_id", id, Reason::IndividualNotFound),
        })
        .collect();
    Ok(Answer::ok(json!({ "responses": responses })))
}

/// A batch item that failed.
pub(super) fn failed(key: &str, id: &str, reason: Reason) -> Value {
    json!({ key: id, "code": reason.status(), "body": reason.body(None) })
}

/// The ids of a batch request with what was said about each, no more than Finch takes.
pub(super) fn requested(call: &Call<'_>, body: &Map<String, Value>) -> Result<Vec<(String, Value)>, Refusal> {
    let wrong = |why: String| Refusal::because(Reason::InvalidRequest, why);
    let batch = call.endpoint.batch.ok_or(Reason::ServerError)?;
    let requests = body
        .get("requests")
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("requests must be a list".to_owned()))?;
    if batch.items_max.is_some_and(|max| requests.len() > max) {
        let max = batch.items_max.unwrap_or_default();
        return Err(wrong(format!("requests has {} items; {max} is the most", requests.len())));
    }
    requests
        .iter()
        .map(|item| {
            let id = item.get(batch.key).and_then(Value::as_str);
            id.map(|id| (id.to_owned(), item.clone()))
                .ok_or_else(|| wrong(format!("each request needs a {}", batch.key)))
        })
        .collect()
}

/// Every third person has filed a W-4.
fn documents(entity: &Entity) -> impl Iterator<Item = (String, &String, &'static str)> {
    entity.people.ids().iter().step_by(3).enumerate().map(|(at, person)| {
        let kind = if at % 4 == 0 { "w4_2005" } else { "w4_2020" };
        (entity.chance(&["document", person]).uuid(), person, kind)
    })
}

/// `GET /employer/documents`
pub(super) fn list_documents(entity: &Entity, call: &Call<'_>) -> Outcome {
    // Unlike the directory, all of them is the default (endpoints.json, note).
    let limit = call.number("limit", usize::MAX, usize::MAX)?;
    let offset = call.number("offset", 0, usize::MAX)?;
    let (people, kinds) = (call.params("individual_ids"), call.params("types"));
    let fitting: Vec<Value> = documents(entity)
        .filter(|(_, person, kind)| {
            (people.is_empty() || people.contains(&person.as_str()))
                && (kinds.is_empty() || kinds.contains(kind))
        })
        .map(|(id, person, kind)| {
            let url = format!("{}/employer/documents/{id}", call.base_url);
            json!({ "id": id, "individual_id": person, "type": kind, "url": url, "year": 2025.0 })
        })
        .collect();
    let page: Vec<&Value> = fitting.iter().skip(offset).take(limit).collect();
    Ok(Answer::ok(json!({ "paging": { "count": fitting.len(), "offset": offset }, "documents": page })))
}

/// `GET /employer/documents/{document_id}`
pub(super) fn document(entity: &Entity, call: &Call<'_>) -> Outcome {
    let (id, person, kind) =
        documents(entity).find(|(id, ..)| *id == call.id).ok_or(Refusal::from(Reason::NotFound))?;
    let mut chance = entity.chance(&["w4", &id]);
    let data = if kind == "w4_2020" {
        json!({
            "individual_id": person,
            "filing_status": chance.pick(&["single_or_married_filing_separately", "head_of_household"]),
            "amount_for_other_dependents": chance.below(5) * 50_000,
            "amount_for_qualifying_children_under_17": chance.below(4) * 200_000,
            "deductions": null, "extra_withholding": null, "other_income": null,
            "total_claim_dependent_and_other_credits": null,
        })
    } else {
        json!({
            "individual_id": person, "filing_status": "single", "exemption": null,
            "total_number_of_allowances": chance.below(6), "additional_withholding": null,
        })
    };
    Ok(Answer::ok(json!({ "type": kind, "year": 2025.0, "data": data })))
}
