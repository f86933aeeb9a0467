//! What Finch may bill for a month, held against what it bills: which connections were there, which were called, which
//! were billed, and where the three disagree.
//!
//! Finch bills for each connection from its beginning until it is disconnected. So a connection is active in a month when
//! it was connected before the month's end and not disconnected before its beginning.

pub mod bill;
pub mod csv;
mod month;
#[cfg(test)]
mod tests;

pub use month::{InvalidMonth, Month};

use crate::types::{CompanyId, ConnectionId, CustomerId, ProviderId, UnixMillis};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A connection of the vault's, of any status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Finch's name for it.
    pub connection_id: ConnectionId,
    /// The company behind it, when it is known.
    pub company_id: Option<CompanyId>,
    /// Whose it is.
    pub customer: Option<CustomerId>,
    /// The employment system.
    pub provider: Option<ProviderId>,
    /// When perch first stored it.
    pub connected_at: UnixMillis,
    /// When it was disconnected; none while it is not.
    pub disconnected_at: Option<UnixMillis>,
}

/// What a connection was used for in the month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Which one.
    pub connection_id: ConnectionId,
    /// As in [`Held`].
    pub company_id: Option<CompanyId>,
    /// As in [`Held`].
    pub customer: Option<CustomerId>,
    /// As in [`Held`].
    pub provider: Option<ProviderId>,
    /// Calls of apps, whatever became of them.
    pub calls: u64,
    /// Requests sent to Finch for it, those of perch and of operators too.
    pub attempts: u64,
    /// The first call.
    pub first: UnixMillis,
    /// The last call.
    pub last: UnixMillis,
}

/// What is known of a month's calls.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What connections were used for.
    pub used: &'a [Used],
    /// The first moment of which calls are known; none while there was no call.
    pub since: Option<UnixMillis>,
    /// Whether apps may bring tokens of their own: such a call names no connection.
    pub has_unnamed: bool,
}

impl Known<'_> {
    /// Whether every call for a connection is known, from that moment on.
    fn is_whole_from(&self, moment: UnixMillis) -> bool {
        !self.has_unnamed && self.since.is_some_and(|since| since <= moment)
    }
}

/// Where the vault, the calls and the bill disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// It is billable, and nobody called for it; only where every call since its beginning in the month is known.
    Unused,
    /// It is in the bill or was called for, and the vault does not know it.
    Unknown,
    /// It was active, and the bill does not have it.
    NotBilled,
    /// It was disconnected before the month, and the bill has it.
    DisconnectedButBilled,
    /// perch stored it after the month, and the bill has it; an import tells perch later than Finch.
    ConnectedLaterButBilled,
}

impl Flag {
    /// Every flag.
    pub const ALL: [Flag; 5] = [
        Flag::Unused,
        Flag::Unknown,
        Flag::NotBilled,
        Flag::DisconnectedButBilled,
        Flag::ConnectedLaterButBilled,
    ];

    /// The word in tables, CSV and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Flag::Unused => "unused",
            Flag::Unknown => "unknown",
            Flag::NotBilled => "not_billed",
            Flag::DisconnectedButBilled => "disconnected_but_billed",
            Flag::ConnectedLaterButBilled => "connected_later_but_billed",
        }
    }
}

impl Serialize for Flag {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// One connection in the month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The company, when it is known.
    pub company_id: Option<CompanyId>,
    /// Whose it is.
    pub customer: Option<CustomerId>,
    /// Finch's name for it; a bill's own text where it is no id that perch knows.
    pub connection_id: String,
    /// The employment system.
    pub provider: Option<ProviderId>,
    /// Whether Finch may bill for it.
    pub is_active: bool,
    /// Whether the bill has it; none without a bill.
    pub is_billed: Option<bool>,
    /// When perch first stored it.
    pub connected_at: Option<UnixMillis>,
    /// When it was disconnected.
    pub disconnected_at: Option<UnixMillis>,
    /// Calls in the month.
    pub calls: u64,
    /// How often they were sent to Finch.
    pub attempts: u64,
    /// The first call of the month, perch's own included.
    pub first_call: Option<UnixMillis>,
    /// The last one.
    pub last_call: Option<UnixMillis>,
    /// What to look at.
    pub flags: Vec<Flag>,
}

/// One company in the month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Company {
    /// Finch's name for it; none for the connections of which that is not known.
    pub company_id: Option<CompanyId>,
    /// How many connections Finch may bill for.
    pub active: u64,
    /// How many the bill has; none without a bill.
    pub billed: Option<u64>,
    /// Calls in the month.
    pub calls: u64,
    /// How often they were sent to Finch.
    pub attempts: u64,
}

/// A month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Which one, such as `2026-11`, in UTC.
    pub month: Month,
    /// Whether it is over: until then more may come.
    pub is_over: bool,
    /// Whether calls are known: there is a request ledger.
    pub has_calls: bool,
    /// The first moment of which calls are known, in any month; none while there was none.
    pub calls_since: Option<UnixMillis>,
    /// Whether apps may bring tokens of their own: their calls name no connection, and nothing is called unused.
    pub has_unnamed_calls: bool,
    /// All connections together.
    pub total: Totals,
    /// Per company.
    pub companies: Vec<Company>,
    /// Per connection, by company.
    pub connections: Vec<Line>,
}

/// All connections of a month together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many connections Finch may bill for.
    pub active: u64,
    /// How many the bill has; none without a bill.
    pub billed: Option<u64>,
    /// Calls.
    pub calls: u64,
    /// Attempts.
    pub attempts: u64,
    /// How many connections have each flag.
    pub flags: BTreeMap<&'static str, u64>,
}

/// Reckons a month up. Without a bill nothing is said about bills, and without a ledger of calls nothing about use.
pub fn reckon(
    month: Month,
    held: &[Held],
    known: Option<Known<'_>>,
    bill: Option<&BTreeSet<String>>,
    now: UnixMillis,
) -> Usage {
    let used = known.map_or(&[][..], |known| known.used);
    let mut used: BTreeMap<&str, &Used> =
        used.iter().map(|used| (used.connection_id.as_str(), used)).collect();
    let is_billed = |id: &str| bill.map(|bill| bill.contains(id));
    let mut lines: Vec<Line> = held
        .iter()
        .filter_map(|held| {
            let id = held.connection_id.as_str();
            line_of(month, held, (known, used.remove(id)), is_billed(id))
        })
        .collect();
    let in_vault: BTreeSet<&str> = held.iter().map(|held| held.connection_id.as_str()).collect();
    lines.extend(used.values().map(|used| stranger(used, is_billed(used.connection_id.as_str()))));
    let billed_only = bill
        .into_iter()
        .flatten()
        .filter(|id| !in_vault.contains(id.as_str()) && !used.contains_key(id.as_str()));
    lines.extend(billed_only.map(|id| nobody(id)));
    lines.sort_by(|a, b| order(a).cmp(&order(b)));
    Usage {
        month,
        is_over: now >= month.end(),
        has_calls: known.is_some(),
        calls_since: known.and_then(|known| known.since),
        has_unnamed_calls: known.is_some_and(|known| known.has_unnamed),
        total: total(&lines, bill.is_some()),
        companies: companies(&lines, bill.is_some()),
        connections: lines,
    }
}

/// What is known of a connection of the vault's; none when the month has nothing to do with it.
fn line_of(
    month: Month,
    held: &Held,
    (known, used): (Option<Known<'_>>, Option<&Used>),
    is_billed: Option<bool>,
) -> Option<Line> {
    let is_gone = held.disconnected_at.is_some_and(|at| at < month.begin());
    let is_later = held.connected_at >= month.end();
    let is_active = !is_gone && !is_later;
    if !is_active && used.is_none() && is_billed != Some(true) {
        return None;
    }
    let calls = used.map_or(0, |used| used.calls);
    let from = month.begin().max(held.connected_at);
    let is_known = known.is_some_and(|known| known.is_whole_from(from));
    let flags = [
        (is_active && is_known && calls == 0, Flag::Unused),
        (is_active && is_billed == Some(false), Flag::NotBilled),
        (is_gone && is_billed == Some(true), Flag::DisconnectedButBilled),
        (is_later && is_billed == Some(true), Flag::ConnectedLaterButBilled),
    ];
    Some(Line {
        company_id: held.company_id.clone().or_else(|| used?.company_id.clone()),
        customer: held.customer.clone(),
        connection_id: held.connection_id.to_string(),
        provider: held.provider.clone(),
        is_active,
        is_billed,
        connected_at: Some(held.connected_at),
        disconnected_at: held.disconnected_at,
        calls,
        attempts: used.map_or(0, |used| used.attempts),
        first_call: used.map(|used| used.first),
        last_call: used.map(|used| used.last),
        flags: flags.into_iter().filter_map(|(holds, flag)| holds.then_some(flag)).collect(),
    })
}

/// A connection that was called for and is not in the vault.
fn stranger(used: &Used, is_billed: Option<bool>) -> Line {
    Line {
        company_id: used.company_id.clone(),
        customer: used.customer.clone(),
        provider: used.provider.clone(),
        is_billed,
        calls: used.calls,
        attempts: used.attempts,
        first_call: Some(used.first),
        last_call: Some(used.last),
        ..nobody(used.connection_id.as_str())
    }
}

/// A connection that is in the bill alone.
fn nobody(id: &str) -> Line {
    Line {
        company_id: None,
        customer: None,
        connection_id: id.to_owned(),
        provider: None,
        is_active: false,
        is_billed: Some(true),
        connected_at: None,
        disconnected_at: None,
        calls: 0,
        attempts: 0,
        first_call: None,
        last_call: None,
        flags: vec![Flag::Unknown],
    }
}

/// By company, those of which none is known last; then by customer and connection.
fn order(line: &Line) -> (bool, Option<&CompanyId>, Option<&CustomerId>, &str) {
    (line.company_id.is_none(), line.company_id.as_ref(), line.customer.as_ref(), &line.connection_id)
}

fn total(lines: &[Line], has_bill: bool) -> Totals {
    let mut flags = BTreeMap::new();
    for flag in lines.iter().flat_map(|line| &line.flags) {
        *flags.entry(flag.as_str()).or_default() += 1;
    }
    Totals {
        active: count(lines, |line| line.is_active),
        billed: has_bill.then(|| count(lines, |line| line.is_billed == Some(true))),
        calls: lines.iter().map(|line| line.calls).sum(),
        attempts: lines.iter().map(|line| line.attempts).sum(),
        flags,
    }
}

fn companies(lines: &[Line], has_bill: bool) -> Vec<Company> {
    lines
        .chunk_by(|a, b| a.company_id == b.company_id)
        .map(|lines| Company {
            company_id: lines.first().and_then(|line| line.company_id.clone()),
            active: count(lines, |line| line.is_active),
            billed: has_bill.then(|| count(lines, |line| line.is_billed == Some(true))),
            calls: lines.iter().map(|line| line.calls).sum(),
            attempts: lines.iter().map(|line| line.attempts).sum(),
        })
        .collect()
}

fn count(lines: &[Line], holds: impl Fn(&Line) -> bool) -> u64 {
    lines.iter().filter(|line| holds(line)).count() as u64
}

impl Usage {
    /// Every connection as CSV, for a spreadsheet.
    pub fn to_csv(&self) -> String {
        let headings = [
            "month",
            "company_id",
            "customer",
            "connection_id",
            "provider",
            "active",
            "billed",
            "connected_at",
            "disconnected_at",
            "calls",
            "attempts",
            "first_call",
            "last_call",
            "flags",
        ];
        let mut out = csv::row(headings);
        for line in &self.connections {
            let flags: Vec<&str> = line.flags.iter().map(|flag| flag.as_str()).collect();
            let yes_no = |flag: bool| if flag { "yes" } else { "no" };
            let count = |n: u64| if self.has_calls { n.to_string() } else { String::new() };
            out.push_str(&csv::row([
                &*self.month.to_string(),
                line.company_id.as_ref().map_or("", |id| id.as_str()),
                line.customer.as_ref().map_or("", |id| id.as_str()),
                &line.connection_id,
                line.provider.as_ref().map_or("", |id| id.as_str()),
                yes_no(line.is_active),
                line.is_billed.map_or("", yes_no),
                &text(line.connected_at),
                &text(line.disconnected_at),
                &count(line.calls),
                &count(line.attempts),
                &text(line.first_call),
                &text(line.last_call),
                &flags.join(" "),
            ]));
        }
        out
    }
}

fn text(at: Option<UnixMillis>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}
