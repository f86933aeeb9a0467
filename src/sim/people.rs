//! The people of an entity. Only their ids are kept; a record is invented again each time it is asked for.

use super::company::{DEPARTMENTS, address, patch, phone};
use super::seed::Seed;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

const FIRST: [&str; 16] = [
    "Ana", "Bo", "Chidi", "Dara", "Elif", "Femi", "Greta", "Hiro", "Ines", "Jonas", "Kavya", "Luca", "Mei",
    "Noor", "Omar", "Priya",
];
const LAST: [&str; 16] = [
    "Almeida", "Berg", "Castro", "Dubois", "Eriksen", "Fischer", "Garcia", "Huang", "Ivanov", "Jensen",
    "Kim", "Lopez", "Moreau", "Nakamura", "Okafor", "Patel",
];

/// Everyone in one entity.
#[derive(Debug)]
pub(super) struct People {
    seed: u64,
    entity: String,
    ids: Vec<String>,
    places: HashMap<String, usize>,
    individuals: HashMap<String, Map<String, Value>>,
    employments: HashMap<String, Map<String, Value>>,
}

impl People {
    /// Invents this many people.
    pub(super) fn invent(seed: u64, entity: &str, count: usize) -> Self {
        let ids: Vec<String> =
            (0..count).map(|n| Seed::of(seed, &["person", entity, &n.to_string()]).uuid()).collect();
        Self {
            seed,
            entity: entity.to_owned(),
            places: ids.iter().cloned().enumerate().map(|(n, id)| (id, n)).collect(),
            ids,
            individuals: HashMap::new(),
            employments: HashMap::new(),
        }
    }

    /// Their ids, in the order of the directory.
    pub(super) fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Where a person stands in the directory.
    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// Adds a person from one record with the members of both.
    pub(super) fn add(&mut self, id: String, fields: Map<String, Value>) {
        self.places.insert(id.clone(), self.ids.len());
        self.ids.push(id.clone());
        self.individuals.insert(id.clone(), fields.clone());
        self.employments.insert(id, fields);
    }

    /// Changes members of a person.
    pub(super) fn change_individual(&mut self, id: &str, fields: Map<String, Value>) {
        self.individuals.entry(id.to_owned()).or_default().extend(fields);
    }

    /// Changes members of an employment.
    pub(super) fn change_employment(&mut self, id: &str, fields: Map<String, Value>) {
        self.employments.entry(id.to_owned()).or_default().extend(fields);
    }

    fn chance(&self, id: &str, what: &str) -> Seed {
        Seed::of(self.seed, &[what, &self.entity, id])
    }

    fn name(&self, id: &str) -> (String, Option<String>, String) {
        let mut chance = self.chance(id, "name");
        let first = chance.pick(&FIRST).to_owned();
        let middle = chance.chance(25).then(|| chance.pick(&FIRST).to_owned());
        (first, middle, chance.pick(&LAST).to_owned())
    }

    fn department(&self, id: &str) -> Value {
        let mut chance = self.chance(id, "department");
        if chance.chance(10) { Value::Null } else { json!({ "name": chance.pick(&DEPARTMENTS) }) }
    }

    fn manager(&self, id: &str) -> Value {
        // The first person leads; each other one reports to someone before.
        match self.place(id) {
            Some(place) if place > 0 => {
                let before = self.chance(id, "manager").below(place.min(8) as u64) as usize;
                self.ids.get(before).map_or(Value::Null, |boss| json!({ "id": boss }))
            }
            _ => Value::Null,
        }
    }

    /// A row of the directory.
    pub(super) fn row(&self, id: &str) -> Value {
        let (first, middle, last) = self.name(id);
        let mut row = json!({
            "id": id, "first_name": first, "middle_name": middle, "last_name": last,
            "department": self.department(id), "manager": self.manager(id),
            "is_active": !self.chance(id, "left").chance(8),
        });
        if let (Value::Object(row), Some(changes)) = (&mut row, self.individuals.get(id)) {
            for (name, value) in changes {
                row.entry(name.clone()).and_modify(|old| old.clone_from(value));
            }
        }
        row
    }

    /// A person (`/employer/individual`).
    pub(super) fn individual(&self, id: &str, with_ssn: bool) -> Value {
        let (first, middle, last) = self.name(id);
        let mut chance = self.chance(id, "individual");
        let mail = format!("{}.{}@example.com", first.to_lowercase(), last.to_lowercase());
        let mut person = json!({
            "id": id, "first_name": first, "middle_name": middle, "last_name": last,
            "preferred_name": if chance.chance(80) { Value::Null } else { json!(&first) },
            "emails": if chance.chance(15) { Value::Null } else { json!([{ "data": mail, "type": "work" }]) },
            "phone_numbers": match chance.below(10) {
                0 => Value::Null,
                1 => json!([null]),
                _ => json!([{ "data": phone(&mut chance), "type": "personal" }]),
            },
            "gender": chance.pick(&["female", "male", "other", "decline_to_specify"]),
            "ethnicity": if chance.chance(50) { json!("decline_to_specify") } else { Value::Null },
            "dob": if chance.chance(5) {
                Value::Null
            } else {
                json!(format!("{}-{:02}-{:02}", 1960 + chance.below(44), 1 + chance.below(12), 1 + chance.below(28)))
            },
            "residence": if chance.chance(10) { Value::Null } else { address(&mut chance) },
        });
        if with_ssn {
            // 900 to 999 is never given out as the first group.
            person["ssn"] = format!("9{:08}", chance.below(100_000_000)).into();
            person["encrypted_ssn"] = Value::Null;
        }
        if let Some(changes) = self.individuals.get(id) {
            patch(&mut person, changes);
            person["id"] = id.into();
        }
        person
    }

    /// An employment (`/employer/employment`).
    pub(super) fn employment(&self, id: &str) -> Value {
        let (first, middle, last) = self.name(id);
        let mut chance = self.chance(id, "employment");
        let hourly = chance.chance(30);
        let income = json!({
            "amount": if hourly { 1800 + chance.below(4000) } else { 4_500_000 + chance.below(12_000_000) },
            "currency": "usd",
            "unit": if hourly { "hourly" } else { "yearly" },
            "effective_date": format!("2025-{:02}-01", 1 + chance.below(12)),
        });
        let active = !self.chance(id, "left").chance(8);
        let mut employment = json!({
            "id": id, "first_name": first, "middle_name": middle, "last_name": last,
            "title": if chance.chance(10) {
                Value::Null
            } else {
                json!(chance.pick(&["Associate", "Engineer", "Manager", "Analyst", "Technician"]))
            },
            "manager": self.manager(id),
            "department": self.department(id),
            "employment": { "type": "employee", "subtype": if chance.chance(80) { "full_time" } else { "part_time" } },
            "employment_status": if active { "active" } else { "terminated" },
            "start_date": format!("{}-{:02}-{:02}", 2015 + chance.below(10), 1 + chance.below(12), 1 + chance.below(28)),
            "latest_rehire_date": null,
            "end_date": if active { Value::Null } else { json!("2026-01-31") },
            "is_active": active,
            "class_code": null,
            "location": if chance.chance(20) { Value::Null } else { address(&mut chance) },
            "income": income,
            "income_history": [income, null],
            "custom_fields": if chance.chance(50) {
                Value::Null
            } else {
                json!([{ "name": "badge", "value": chance.below(9000) }, { "name": "remote", "value": chance.chance(50) }])
            },
            "flsa_status": if hourly { "non_exempt" } else { "exempt" },
            "source_id": chance.below(1_000_000).to_string(),
            "work_id": null,
        });
        if let Some(changes) = self.employments.get(id) {
            patch(&mut employment, changes);
            employment["id"] = id.into();
        }
        employment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_the_same_each_time_and_nobody_is_complete_everywhere() {
        let people = People::invent(1, "e", 200);
        let again = People::invent(1, "e", 200);
        let all: Vec<Value> = people.ids().iter().map(|id| people.individual(id, false)).collect();
        assert_eq!(all, again.ids().iter().map(|id| again.individual(id, false)).collect::<Vec<_>>());
        for field in ["emails", "phone_numbers", "residence", "middle_name"] {
            let nulls = all.iter().filter(|p| p[field].is_null()).count();
            assert!(nulls > 0 && nulls < all.len(), "{field}: {nulls}");
        }
        assert!(all.iter().all(|p| p.get("ssn").is_none()));
        assert!(people.individual(&people.ids()[0], true)["ssn"].is_string());
    }
}
