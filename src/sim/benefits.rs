//! Benefits and who is enrolled. Writes are jobs; reads are live and, for many people, HTTP 207.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::employer::failed;
use super::refusal::{Reason, Refusal};
use super::scenario::Authentication;
use super::seed::Seed;
use super::world::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most benefits of one connection.
const BENEFITS_MAX: usize = 1000;

#[derive(Debug)]
struct Benefit {
    id: String,
    kind: String,
    frequency: Value,
    description: Value,
    company_contribution: Value,
    enrolled: BTreeMap<String, Value>,
}

impl Benefit {
    fn shown(&self) -> Value {
        json!({
            "benefit_id": self.id, "type": self.kind, "frequency": self.frequency,
            "description": self.description, "company_contribution": self.company_contribution,
        })
    }
}

/// The benefits of one connection.
#[derive(Debug)]
pub(super) struct Benefits {
    seed: u64,
    connection: String,
    made: u64,
    all: Vec<Benefit>,
}

impl Benefits {
    /// Most companies have a pension plan already.
    pub(super) fn invent(seed: u64, connection: &str) -> Self {
        let mut benefits = Self { seed, connection: connection.to_owned(), made: 0, all: Vec::new() };
        benefits.add("401k".to_owned(), json!("every_paycheck"), json!("Retirement plan"), Value::Null);
        benefits
    }

    fn add(
        &mut self,
        kind: String,
        frequency: Value,
        description: Value,
        company_contribution: Value,
    ) -> String {
        self.made += 1;
        let id = Seed::of(self.seed, &["benefit", &self.connection, &self.made.to_string()]).uuid();
        let enrolled = BTreeMap::new();
        self.all.push(Benefit {
            id: id.clone(),
            kind,
            frequency,
            description,
            company_contribution,
            enrolled,
        });
        id
    }

    fn find(&mut self, id: &str) -> Result<&mut Benefit, Refusal> {
        self.all.iter_mut().find(|b| b.id == id).ok_or(Reason::BenefitNotFound.into())
    }
}

fn wrong(message: &str) -> Refusal {
    Refusal::because(Reason::InvalidRequest, message)
}

/// Reads are calls to the provider, which assisted connections do not have (Finch API reference).
fn live(connection: &Connection) -> Result<(), Refusal> {
    match connection.authentication {
        Authentication::Assisted => Err(Reason::NotImplemented.into()),
        Authentication::Credential
        | Authentication::ApiToken
        | Authentication::ApiCredential
        | Authentication::Oauth => Ok(()),
    }
}

/// `GET /employer/benefits`
pub(super) fn list(connection: &Connection) -> Outcome {
    live(connection)?;
    Ok(Answer::ok(connection.benefits.all.iter().map(Benefit::shown).collect()))
}

/// `GET /employer/benefits/{benefit_id}`
pub(super) fn get(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    live(connection)?;
    Ok(Answer::ok(connection.benefits.find(&call.id)?.shown()))
}

/// `GET /employer/benefits/meta`
pub(super) fn meta(connection: &Connection) -> Outcome {
    live(connection)?;
    Ok(Answer::ok(json!([{
        "type": "401k", "description": null, "frequencies": ["every_paycheck"],
        "employee_deduction": ["fixed", "percent"], "company_contribution": ["fixed", "percent"],
        "catch_up": true, "annual_maximum": true, "hsa_contribution_limit": null,
    }])))
}

/// `POST /employer/benefits`: the same type, frequency and description are the same benefit.
pub(super) fn create(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let given = |name: &str| body.get(name).cloned().unwrap_or(Value::Null);
    let Some(kind) = given("type").as_str().map(str::to_owned) else { return Err(wrong("type is required")) };
    let (frequency, description) = (given("frequency"), given("description"));
    let same = connection
        .benefits
        .all
        .iter()
        .find(|b| b.kind == kind && b.frequency == frequency && b.description == description);
    let id = match same {
        Some(benefit) => benefit.id.clone(),
        None if connection.benefits.all.len() >= BENEFITS_MAX => {
            return Err(Refusal::because(Reason::BadRequest, format!("{BENEFITS_MAX} benefits is the most")));
        }
        None => connection.benefits.add(kind, frequency, description, given("company_contribution")),
    };
    Ok(written(201, connection, call, &id))
}

/// `POST /employer/benefits/{benefit_id}`
pub(super) fn update(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let benefit = connection.benefits.find(&call.id)?;
    if let Some(description) = body.get("description") {
        benefit.description = description.clone();
    }
    Ok(written(200, connection, call, &call.id))
}

/// `POST /employer/benefits/register`: for assisted connections only.
pub(super) fn register(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    if connection.authentication != Authentication::Assisted {
        return Err(Refusal::because(Reason::BadRequest, "Only assisted connections register benefits"));
    }
    create(connection, call)
}

fn written(status: u16, connection: &mut Connection, call: &Call<'_>, benefit: &str) -> Answer {
    let job = connection.jobs.note_manual(json!([]), call);
    Answer::json(status, json!({ "benefit_id": benefit, "job_id": job }))
}

/// `GET /employer/benefits/{benefit_id}/enrolled`
pub(super) fn enrolled(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    live(connection)?;
    let benefit = connection.benefits.find(&call.id)?;
    Ok(Answer::ok(
        json!({ "benefit_id": benefit.id, "individual_ids": benefit.enrolled.keys().collect::<Vec<_>>() }),
    ))
}

/// `GET /employer/benefits/{benefit_id}/individuals`: 207 and a bare list.
pub(super) fn enrollments(connection: &mut Connection, call: &Call<'_>, entity: usize) -> Outcome {
    live(connection)?;
    let people = &connection.entities[entity].people;
    let benefit = connection.benefits.all.iter().find(|b| b.id == call.id).ok_or(Reason::BenefitNotFound)?;
    let asked: Vec<String> = match call.param("individual_ids") {
        Some(joined) => joined.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        None => benefit.enrolled.keys().cloned().collect(),
    };
    let rows: Vec<Value> = asked
        .iter()
        .map(|id| match benefit.enrolled.get(id) {
            Some(configuration) => json!({ "individual_id": id, "code": 200, "body": configuration }),
            None if people.place(id).is_some() => failed("individual_id", id, Reason::EnrollmentNotFound),
            None => failed("individual_id", id, Reason::IndividualNotFound),
        })
        .collect();
    Ok(Answer::json(207, rows.into()))
}

/// `POST /employer/benefits/{benefit_id}/individuals`: the body is a bare list.
pub(super) fn enroll(connection: &mut Connection, call: &Call<'_>, entity: usize) -> Outcome {
    let Value::Array(items) = call.json()? else { return Err(wrong("The body must be a list")) };
    let people = &connection.entities[entity].people;
    let benefit = connection.benefits.find(&call.id)?;
    let mut results = Vec::new();
    for item in items {
        let id = item["individual_id"].as_str().ok_or_else(|| wrong("each item needs an individual_id"))?;
        if people.place(id).is_none() {
            results.push(json!({ "individual_id": id, "code": 404, "message": "No such individual" }));
            continue;
        }
        let configuration = item.get("configuration").cloned().unwrap_or_else(|| json!({}));
        let (code, word) = match benefit.enrolled.insert(id.to_owned(), configuration) {
            None => (201, "enrolled_new_benefit"),
            Some(_) => (200, "updated_existing_enrollment"),
        };
        results.push(json!({ "individual_id": id, "code": code, "message": word }));
    }
    let job = connection.jobs.note_manual(results.into(), call);
    Ok(Answer::ok(json!({ "job_id": job })))
}

/// `DELETE /employer/benefits/{benefit_id}/individuals`: the ids stand in the body.
pub(super) fn unenroll(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let ids = body.get("individual_ids").and_then(Value::as_array);
    let ids = ids.ok_or_else(|| wrong("individual_ids must be a list"))?;
    let benefit = connection.benefits.find(&call.id)?;
    let results = ids.iter().filter_map(Value::as_str).map(|id| match benefit.enrolled.remove(id) {
        Some(_) => json!({ "individual_id": id, "code": 200, "message": "unenrolled_individual_benefit" }),
        None => json!({ "individual_id": id, "code": 404, "message": "enrollment_not_found" }),
    });
    let results: Vec<Value> = results.collect();
    let job = connection.jobs.note_manual(results.into(), call);
    Ok(Answer::ok(json!({ "job_id": job })))
}
