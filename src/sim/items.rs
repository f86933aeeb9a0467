//! The names on pay statements, and the rules an application lays over them.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::refusal::{Reason, Refusal};
use super::seed::Seed;
use serde_json::{Value, json};

/// The most rules of one connection.
const RULES_MAX: usize = 1000;

/// The rules of one connection.
#[derive(Debug)]
pub(super) struct Rules {
    seed: u64,
    connection: String,
    made: u64,
    rules: Vec<Value>,
}

/// `GET /employer/pay-statement-item`
pub(super) fn list_items(call: &Call<'_>) -> Outcome {
    let all = [
        ("Salary", "earnings", json!({ "type": "salary", "metadata": {} })),
        ("Overtime", "earnings", json!({ "type": "overtime", "metadata": {} })),
        ("Federal Income Tax", "taxes", json!({ "type": "federal", "employer": false, "metadata": {} })),
        ("Medicare", "taxes", json!({ "type": "fica", "employer": true, "metadata": {} })),
        ("401k", "employee_deductions", json!({ "type": "401k", "pre_tax": true, "metadata": {} })),
        ("401k match", "employer_contributions", json!({ "type": "401k", "metadata": {} })),
    ];
    let (categories, name, kind) = (call.params("categories"), call.param("name"), call.param("type"));
    let fitting = all.into_iter().filter(|(item, category, attributes)| {
        (categories.is_empty() || categories.contains(category))
            && name.is_none_or(|n| n == *item)
            && kind.is_none_or(|k| attributes["type"] == k)
    });
    let rows: Vec<Value> = fitting
        .map(|(name, category, attributes)| json!({ "name": name, "category": category, "attributes": attributes }))
        .collect();
    Ok(Answer::ok(json!({ "responses": rows })))
}

impl Rules {
    /// None yet.
    pub(super) fn new(seed: u64, connection: &str) -> Self {
        Self { seed, connection: connection.to_owned(), made: 0, rules: Vec::new() }
    }

    /// `GET /employer/pay-statement-item/rule`
    pub(super) fn list(&self) -> Outcome {
        Ok(Answer::ok(json!({ "responses": self.rules })))
    }

    /// `POST /employer/pay-statement-item/rule`: each call makes one more.
    pub(super) fn create(&mut self, call: &Call<'_>) -> Outcome {
        if self.rules.len() >= RULES_MAX {
            return Err(Refusal::because(Reason::BadRequest, format!("{RULES_MAX} rules is the most")));
        }
        let body = call.object()?;
        let given = |name: &str| body.get(name).cloned().unwrap_or(Value::Null);
        self.made += 1;
        let rule = json!({
            "id": Seed::of(self.seed, &["rule", &self.connection, &self.made.to_string()]).uuid(),
            "attributes": given("attributes"),
            "conditions": given("conditions"),
            "effective_start_date": given("effective_start_date"),
            "effective_end_date": given("effective_end_date"),
            "entity_type": given("entity_type"),
            "priority": self.made,
            "created_at": call.wall, "updated_at": call.wall,
        });
        self.rules.push(rule.clone());
        Ok(Answer::ok(rule))
    }

    /// `PUT /employer/pay-statement-item/rule/{rule_id}`
    pub(super) fn update(&mut self, call: &Call<'_>) -> Outcome {
        let body = call.object()?;
        let rule = self.rules.iter_mut().find(|r| r["id"] == call.id.as_str()).ok_or(Reason::NotFound)?;
        if let Some(property) = body.get("optionalProperty") {
            rule["optionalProperty"] = property.clone();
        }
        rule["updated_at"] = json!(call.wall);
        Ok(Answer::ok(rule.clone()))
    }

    /// `DELETE /employer/pay-statement-item/rule/{rule_id}`: the second time it is gone.
    pub(super) fn delete(&mut self, call: &Call<'_>) -> Outcome {
        let place = self.rules.iter().position(|r| r["id"] == call.id.as_str()).ok_or(Reason::NotFound)?;
        let mut gone = self.rules.remove(place);
        gone["deleted_at"] = json!(call.wall);
        Ok(Answer::ok(gone))
    }
}
