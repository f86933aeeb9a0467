//! A legal entity: its company record, its departments, and how many people it has.

use super::people::People;
use super::seed::Seed;
use super::world::Status;
use serde_json::{Map, Value, json};

/// The most changes made through the sandbox that wait for a sync.
const STAGED_MAX: usize = 10_000;

const NAMES: [&str; 12] = [
    "Harbor", "Juniper", "Quarry", "Lantern", "Meadow", "Copper", "Saffron", "Granite", "Willow", "Beacon",
    "Orchard", "Tundra",
];
const TRADES: [&str; 8] =
    ["Bakery", "Logistics", "Dental", "Robotics", "Brewing", "Textiles", "Consulting", "Fitness"];

/// A department's name by its number.
pub(super) const DEPARTMENTS: [&str; 5] = ["Operations", "Engineering", "Sales", "Finance", "People"];

/// A change made through the sandbox: invisible until the next sync (Finch sandbox guide).
#[derive(Debug)]
pub(super) enum Change {
    Company(Map<String, Value>),
    Individual(String, Map<String, Value>),
    Employment(String, Map<String, Value>),
    /// A new person of this id.
    Person(String, Map<String, Value>),
    Payment(Value),
}

/// One legal entity of a connection.
#[derive(Debug)]
pub(super) struct Entity {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) source_id: String,
    pub(super) status: Status,
    pub(super) people: People,
    /// Payments made through the sandbox, beside the invented ones.
    pub(super) payments: Vec<Value>,
    patch: Map<String, Value>,
    staged: Vec<Change>,
    seed: u64,
}

impl Entity {
    /// Invents the `at`-th entity of a connection.
    pub(super) fn invent(seed: u64, connection: &str, at: usize, employees: usize) -> Self {
        let mut chance = Seed::of(seed, &["entity", connection, &at.to_string()]);
        let id = chance.uuid();
        Self {
            name: format!("{} {}", chance.pick(&NAMES), chance.pick(&TRADES)),
            source_id: chance.below(1_000_000).to_string(),
            status: Status::Connected,
            people: People::invent(seed, &id, employees),
            payments: Vec::new(),
            patch: Map::new(),
            staged: Vec::new(),
            seed,
            id,
        }
    }

    /// The stream of chance for one thing of this entity.
    pub(super) fn chance(&self, words: &[&str]) -> Seed {
        let mut all = vec![self.id.as_str()];
        all.extend_from_slice(words);
        Seed::of(self.seed, &all)
    }

    /// The company record (`/employer/company`).
    pub(super) fn company(&self, company_id: &str) -> Value {
        let mut chance = self.chance(&["company"]);
        let departments: Vec<Value> = DEPARTMENTS
            .iter()
            .enumerate()
            .map(|(at, name)| {
                json!({
                    "name": name,
                    "parent": if at == 0 { Value::Null } else { json!({ "name": DEPARTMENTS[0] }) },
                })
            })
            .collect();
        let mut company = json!({
            "id": company_id,
            "legal_name": format!("{}, Inc.", self.name),
            "ein": format!("{:09}", chance.below(1_000_000_000)),
            "entity": match chance.below(3) {
                0 => json!({ "type": "llc", "subtype": null }),
                1 => json!({ "type": "corporation", "subtype": "s_corporation" }),
                _ => json!({ "type": "corporation", "subtype": "c_corporation" }),
            },
            "primary_email": if chance.chance(20) {
                Value::Null
            } else {
                json!(format!("office@{}.example", self.name.replace(' ', "-").to_lowercase()))
            },
            "primary_phone_number": if chance.chance(20) { Value::Null } else { json!(phone(&mut chance)) },
            "departments": departments,
            "locations": [address(&mut chance), null],
            "accounts": [{
                "account_name": "Payroll", "account_number": format!("{:010}", chance.below(10_000_000_000)),
                "account_type": "checking", "institution_name": null, "routing_number": "021000021",
            }],
        });
        patch(&mut company, &self.patch);
        company
    }

    /// Notes a change for the next sync. `false`: too many wait already.
    pub(super) fn stage(&mut self, change: Change) -> bool {
        let room = self.staged.len() < STAGED_MAX;
        if room {
            self.staged.push(change);
        }
        room
    }

    /// A sync: what was staged becomes visible.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.staged) {
            match change {
                Change::Company(fields) => self.patch.extend(fields),
                Change::Individual(id, fields) => self.people.change_individual(&id, fields),
                Change::Employment(id, fields) => self.people.change_employment(&id, fields),
                Change::Person(id, fields) => self.people.add(id, fields),
                Change::Payment(payment) => self.payments.push(payment),
            }
        }
    }

    /// Whether a person is on the books or about to be.
    pub(super) fn employs(&self, id: &str) -> bool {
        let staged = |c: &Change| matches!(c, Change::Person(new, _) if new == id);
        self.people.place(id).is_some() || self.staged.iter().any(staged)
    }
}

/// Lays changed members over a record.
pub(super) fn patch(record: &mut Value, changes: &Map<String, Value>) {
    if let Value::Object(members) = record {
        members.extend(changes.iter().map(|(n, v)| (n.clone(), v.clone())));
    }
}

/// A telephone number of a range that is never given out.
pub(super) fn phone(chance: &mut Seed) -> String {
    format!("+1415555{:04}", chance.below(10_000))
}

/// An address.
pub(super) fn address(chance: &mut Seed) -> Value {
    json!({
        "line1": format!("{} {} Street", 1 + chance.below(900), chance.pick(&NAMES)),
        "line2": if chance.chance(70) { Value::Null } else { json!(format!("Unit {}", 1 + chance.below(40))) },
        "city": chance.pick(&["Portland", "Austin", "Denver", "Columbus"]),
        "state": chance.pick(&["OR", "TX", "CO", "OH"]),
        "postal_code": format!("{:05}", 10_000 + chance.below(80_000)),
        "country": "US",
    })
}
