//! What they are paid: payments twice a month for two years, their statements, and pay groups.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::company::Entity;
use super::employer::{failed, requested};
use super::refusal::{Reason, Refusal};
use crate::types::UnixMillis;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::{Value, json};

/// The default and the largest page of one payment's statements (Finch API reference).
const STATEMENTS: usize = 100;
const STATEMENTS_MAX: usize = 5000;
/// How far the history goes back.
const MONTHS: i32 = 24;
const GROUPS: [(&str, &str); 2] = [("Salaried", "semi_monthly"), ("Hourly", "bi_weekly")];

/// The day in UTC.
pub(super) fn today(wall: UnixMillis) -> Date {
    let now = Timestamp::from_millisecond(wall.0).unwrap_or(Timestamp::UNIX_EPOCH);
    now.to_zoned(TimeZone::UTC).date()
}

/// Reads a day.
pub(super) fn day(text: &str) -> Result<Date, Refusal> {
    text.parse()
        .map_err(|_| Refusal::because(Reason::InvalidRequest, format!("{text:?} is no date (YYYY-MM-DD)")))
}

/// The pay dates up to today: the 15th and the last of each month.
fn pay_dates(today: Date) -> Vec<Date> {
    let first = today.first_of_month();
    (0..=MONTHS)
        .rev()
        .filter_map(|back| first.checked_sub(back.months()).ok())
        .flat_map(|month| [month.checked_add(14.days()).unwrap_or(month), month.last_of_month()])
        .filter(|date| *date <= today)
        .collect()
}

/// The newest payment's id and pay date.
pub(super) fn newest(entity: &Entity, wall: UnixMillis) -> Option<(String, String)> {
    let date = pay_dates(today(wall)).pop()?;
    Some((payment_id(entity, date), date.to_string()))
}

fn payment_id(entity: &Entity, date: Date) -> String {
    entity.chance(&["payment", &date.to_string()]).uuid()
}

fn group_id(entity: &Entity, group: usize) -> String {
    entity.chance(&["pay group", GROUPS[group].0]).uuid()
}

/// Which group a person is in.
fn group_of(entity: &Entity, person: &str) -> usize {
    usize::from(entity.people.employment(person)["flsa_status"] == "non_exempt")
}

fn money(amount: u64) -> Value {
    json!({ "amount": amount, "currency": "usd" })
}

fn payment(entity: &Entity, date: Date) -> Value {
    let gross = entity.people.ids().len() as u64 * 310_000;
    let start =
        if date.day() > 15 { date.first_of_month().saturating_add(15.days()) } else { date.first_of_month() };
    json!({
        "id": payment_id(entity, date),
        "pay_period": { "start_date": start.to_string(), "end_date": date.to_string() },
        "pay_date": date.to_string(),
        "debit_date": if date.day() > 15 { Value::Null } else { json!(date.saturating_sub(2.days()).to_string()) },
        "company_debit": money(gross * 108 / 100),
        "gross_pay": money(gross),
        "net_pay": money(gross * 72 / 100),
        "employer_taxes": money(gross * 8 / 100),
        "employee_taxes": money(gross * 20 / 100),
        "individual_ids": entity.people.ids(),
        "pay_group_ids": (0..GROUPS.len()).map(|g| group_id(entity, g)).collect::<Vec<_>>(),
        "pay_frequencies": ["semi_monthly"],
    })
}

/// `GET /employer/payment`
pub(super) fn payments(entity: &Entity, call: &Call<'_>) -> Outcome {
    let bound = |name: &str| match call.param(name) {
        Some(text) => day(text),
        None => Err(Refusal::because(Reason::InvalidRequest, format!("{name} is required"))),
    };
    let (start, end) = (bound("start_date")?, bound("end_date")?);
    if start > end {
        return Err(Refusal::because(Reason::InvalidRequest, "start_date is after end_date"));
    }
    let inside = |date: &Date| (start..=end).contains(date);
    let invented = pay_dates(today(call.wall)).into_iter().filter(inside).map(|date| payment(entity, date));
    let made = entity
        .payments
        .iter()
        .filter(|p| p["pay_date"].as_str().and_then(|d| d.parse().ok()).is_some_and(|d| inside(&d)));
    let made = made.map(|p| {
        let mut shown = p.clone();
        if let Some(shown) = shown.as_object_mut() {
            shown.remove("pay_statements");
        }
        shown
    });
    Ok(Answer::ok(invented.chain(made).collect()))
}

fn statement(entity: &Entity, payment_id: &str, person: &str) -> Value {
    let mut chance = entity.chance(&["statement", payment_id, person]);
    let gross = 180_000 + chance.below(300_000);
    json!({
        "individual_id": person,
        "type": "regular_payroll",
        "payment_method": if chance.chance(85) { json!("direct_deposit") } else { Value::Null },
        "total_hours": if chance.chance(20) { Value::Null } else { json!(80) },
        "gross_pay": money(gross),
        "net_pay": money(gross * 72 / 100),
        "earnings": [
            { "type": "salary", "name": "Salary", "amount": gross, "currency": "usd", "hours": 80, "attributes": null },
            null,
        ],
        "taxes": [
            { "type": "federal", "name": "Federal Income Tax", "employer": false, "amount": gross * 14 / 100, "currency": "usd", "attributes": null },
            { "type": "fica", "name": "Medicare", "employer": true, "amount": gross / 69, "currency": "usd", "attributes": null },
        ],
        "employee_deductions": if chance.chance(40) { Value::Null } else { json!([
            { "name": "401k", "type": "401k", "amount": gross / 20, "currency": "usd", "pre_tax": true, "attributes": null },
        ]) },
        "employer_contributions": if chance.chance(60) { Value::Null } else { json!([
            { "name": "401k match", "type": "401k", "amount": gross / 40, "currency": "usd", "attributes": null },
        ]) },
    })
}

/// `POST /employer/pay-statement`
pub(super) fn statements(entity: &Entity, call: &Call<'_>) -> Outcome {
    let known: Vec<String> =
        pay_dates(today(call.wall)).into_iter().map(|date| payment_id(entity, date)).collect();
    let mut responses = Vec::new();
    for (id, item) in requested(call, &call.object()?)? {
        let limit = page(&item, "limit", STATEMENTS, STATEMENTS_MAX)?;
        let offset = page(&item, "offset", 0, usize::MAX)?;
        let made = entity.payments.iter().find(|p| p["id"] == id.as_str());
        let (count, rows): (usize, Vec<Value>) = match made {
            Some(made) => {
                let all = made["pay_statements"].as_array().map(Vec::as_slice).unwrap_or_default();
                (all.len(), all.iter().skip(offset).take(limit).cloned().collect())
            }
            None if known.contains(&id) => {
                let people = entity.people.ids();
                let rows =
                    people.iter().skip(offset).take(limit).map(|p| statement(entity, &id, p)).collect();
                (people.len(), rows)
            }
            None => {
                responses.push(failed("payment_id", &id, Reason::PaymentNotFound));
                continue;
            }
        };
        let body = json!({ "paging": { "count": count, "offset": offset }, "pay_statements": rows });
        responses.push(json!({ "payment_id": id, "code": 200, "body": body }));
    }
    Ok(Answer::ok(json!({ "responses": responses })))
}

fn page(item: &Value, name: &str, default: usize, max: usize) -> Result<usize, Refusal> {
    match item.get(name).filter(|v| !v.is_null()) {
        None => Ok(default),
        Some(value) => {
            value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= max).ok_or_else(|| {
                Refusal::because(Reason::InvalidRequest, format!("{name} must be a number up to {max}"))
            })
        }
    }
}

/// `GET /employer/pay-groups`
pub(super) fn groups(entity: &Entity, call: &Call<'_>) -> Outcome {
    let (person, frequencies) = (call.param("individual_id"), call.params("pay_frequencies"));
    let fits = |group: &usize| {
        person.is_none_or(|p| entity.people.place(p).is_some() && group_of(entity, p) == *group)
            && (frequencies.is_empty() || frequencies.contains(&GROUPS[*group].1))
    };
    let rows = (0..GROUPS.len()).filter(fits).map(|group| {
        let (name, frequency) = GROUPS[group];
        json!({ "id": group_id(entity, group), "name": name, "pay_frequencies": [frequency] })
    });
    Ok(Answer::ok(rows.collect()))
}

/// `GET /employer/pay-groups/{pay_group_id}`
pub(super) fn group(entity: &Entity, call: &Call<'_>) -> Outcome {
    let group =
        (0..GROUPS.len()).find(|g| group_id(entity, *g) == call.id).ok_or(Refusal::from(Reason::NotFound))?;
    let (name, frequency) = GROUPS[group];
    let people: Vec<&String> = entity.people.ids().iter().filter(|p| group_of(entity, p) == group).collect();
    Ok(Answer::ok(json!({
        "id": call.id, "name": name, "pay_frequencies": [frequency], "individual_ids": people,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn history_is_two_years_of_half_months_and_never_the_future() {
        let dates = pay_dates(date(2026, 3, 14));
        assert_eq!(dates.last(), Some(&date(2026, 2, 28)));
        assert_eq!(dates.first(), Some(&date(2024, 3, 15)));
        assert_eq!(dates.len(), 48);
        assert_eq!(pay_dates(date(2026, 3, 15)).len(), 49);
    }
}
