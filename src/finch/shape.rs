//! The known shape of Finch's answers, as data: which fields there are, what they hold, and which words they may hold
//! (Finch API reference, as the types of Finch's own Python SDK 2.9.1 write it down). Finch adds fields and words without
//! notice, so nothing is refused by a shape: it only tells what is new.

mod account;
mod pay;
mod people;

use super::endpoints::Operation;

/// What stands in one place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What it is, when it is not null.
    pub kind: Kind,
    /// Whether Finch says that it may be null.
    pub nullable: bool,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number, whole or not: Finch writes the same field as either.
    Number,
    /// True or false.
    Flag,
    /// Whatever the employer put there; nobody looks inside.
    Anything,
    /// A list of these.
    List(&'static Shape),
    /// An object with these fields.
    Object(&'static [Field]),
    /// An item of a batch: an object whose `body` is data only when its `code` says so.
    Item(&'static [Field]),
}

impl Kind {
    /// What it is in JSON.
    pub const fn sort(&self) -> Sort {
        match self {
            Kind::Text | Kind::Word(_) => Sort::Text,
            Kind::Number => Sort::Number,
            Kind::Flag => Sort::Flag,
            Kind::Anything => Sort::Anything,
            Kind::List(_) => Sort::List,
            Kind::Object(_) | Kind::Item(_) => Sort::Object,
        }
    }
}

/// What a value of JSON can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// No value.
    Null,
    /// True or false.
    Flag,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A list.
    List,
    /// An object.
    Object,
    /// Any of them; said of what is expected, never of what is found.
    Anything,
}

/// A named place of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Finch's name for it.
    pub name: &'static str,
    /// What stands there.
    pub shape: Shape,
}

impl Field {
    /// Finch says that it is always there.
    const fn always(mut self) -> Self {
        self.shape.nullable = false;
        self
    }
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, shape: Shape { kind, nullable: true } }
}

const fn text(name: &'static str) -> Field {
    field(name, Kind::Text)
}

const fn number(name: &'static str) -> Field {
    field(name, Kind::Number)
}

const fn flag(name: &'static str) -> Field {
    field(name, Kind::Flag)
}

const fn anything(name: &'static str) -> Field {
    field(name, Kind::Anything)
}

const fn word(name: &'static str, words: &'static [&'static str]) -> Field {
    field(name, Kind::Word(words))
}

const fn object(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Object(fields))
}

const fn list(name: &'static str, of: &'static Shape) -> Field {
    field(name, Kind::List(of))
}

const fn some(kind: Kind) -> Shape {
    Shape { kind, nullable: false }
}

const fn perhaps(kind: Kind) -> Shape {
    Shape { kind, nullable: true }
}

const TEXT: Shape = some(Kind::Text);
const PAGING: &[Field] = &[number("offset").always(), number("count")];

/// The shape of a good answer of this operation; `None` where none is known, or where a job answers instead of data.
pub const fn of(operation: Operation) -> Option<&'static Shape> {
    match operation {
        Operation::GetCompany => Some(&people::COMPANY),
        Operation::ListDirectory => Some(&people::DIRECTORY),
        Operation::ReadIndividuals => Some(&people::INDIVIDUALS),
        Operation::ReadEmployments => Some(&people::EMPLOYMENTS),
        Operation::ListPayments => Some(&pay::PAYMENTS),
        Operation::ReadPayStatements => Some(&pay::PAY_STATEMENTS),
        Operation::ListPayGroups => Some(&pay::PAY_GROUPS),
        Operation::GetPayGroup => Some(&pay::PAY_GROUP),
        Operation::ListDocuments => Some(&account::DOCUMENTS),
        Operation::ListBenefits => Some(&account::BENEFITS),
        Operation::GetBenefit => Some(&account::BENEFIT),
        Operation::ListEnrolled => Some(&account::ENROLLED),
        Operation::ReadEnrollments => Some(&account::ENROLLMENTS),
        Operation::Introspect => Some(&account::INTROSPECTION),
        Operation::CreateSession
        | Operation::ReauthenticateSession
        | Operation::CreateAccessToken
        | Operation::ListPayStatementItems
        | Operation::ListRules
        | Operation::CreateRule
        | Operation::UpdateRule
        | Operation::DeleteRule
        | Operation::GetDocument
        | Operation::CreateBenefit
        | Operation::ListBenefitsMeta
        | Operation::RegisterBenefit
        | Operation::UpdateBenefit
        | Operation::EnrollIndividuals
        | Operation::UnenrollIndividuals
        | Operation::ListProviders
        | Operation::Disconnect
        | Operation::DisconnectEntity
        | Operation::Forward
        | Operation::ListAutomatedJobs
        | Operation::CreateAutomatedJob
        | Operation::GetAutomatedJob
        | Operation::GetManualJob
        | Operation::SandboxCreateConnection
        | Operation::SandboxCreateAccount
        | Operation::SandboxUpdateAccount
        | Operation::SandboxUpdateCompany
        | Operation::SandboxCreateDirectory
        | Operation::SandboxUpdateIndividual
        | Operation::SandboxUpdateEmployment
        | Operation::SandboxCreatePayment
        | Operation::SandboxCreateJob
        | Operation::SandboxGetJobConfiguration
        | Operation::SandboxUpdateJobConfiguration => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finch::endpoints::ENDPOINTS;

    /// Every object of a shape, and how deep it lies.
    fn objects(shape: &Shape, depth: usize, found: &mut Vec<(&'static [Field], usize)>) {
        match shape.kind {
            Kind::List(of) => objects(of, depth + 1, found),
            Kind::Object(fields) | Kind::Item(fields) => {
                found.push((fields, depth));
                fields.iter().for_each(|field| objects(&field.shape, depth + 1, found));
            }
            Kind::Text | Kind::Word(_) | Kind::Number | Kind::Flag | Kind::Anything => {}
        }
    }

    #[test]
    fn no_object_names_a_field_twice_and_no_shape_is_deep() {
        let mut known = 0;
        for shape in ENDPOINTS.iter().filter_map(|endpoint| of(endpoint.operation)) {
            known += 1;
            let mut found = Vec::new();
            objects(shape, 0, &mut found);
            for (fields, depth) in found {
                let mut names: Vec<_> = fields.iter().map(|field| field.name).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), fields.len(), "{names:?}");
                assert!(depth < 16, "{depth}");
            }
        }
        assert_eq!(known, 14);
    }

    #[test]
    fn what_answers_in_a_batch_has_the_shape_of_a_batch() {
        for endpoint in &ENDPOINTS {
            let (Some(batch), Some(shape)) = (endpoint.batch, of(endpoint.operation)) else { continue };
            let items = match (batch.wrapped, shape.kind) {
                (true, Kind::Object([Field { name: "responses", shape }])) => shape.kind,
                (false, list) => list,
                (true, other) => panic!("{}: {other:?}", endpoint.path),
            };
            let Kind::List(Shape { kind: Kind::Item(fields), nullable: false }) = items else {
                panic!("{}: {items:?}", endpoint.path)
            };
            assert_eq!(fields.first().map(|field| field.name), Some(batch.key), "{}", endpoint.path);
        }
    }
}
