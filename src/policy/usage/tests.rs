//! Which connections are billable, and what is flagged.

use super::*;

const NOVEMBER: &str = "2026-11";

fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<jiff::Timestamp>().expect("a time").as_millisecond())
}

fn held(id: &str, from: &str, to: Option<&str>) -> Held {
    Held {
        connection_id: ConnectionId::new(id).expect("an id"),
        company_id: Some(CompanyId::new("co-1").expect("an id")),
        customer: Some(CustomerId::new("acme").expect("an id")),
        provider: None,
        connected_at: at(from),
        disconnected_at: to.map(at),
    }
}

fn used(id: &str, calls: u64) -> Used {
    Used {
        connection_id: ConnectionId::new(id).expect("an id"),
        company_id: None,
        customer: None,
        provider: None,
        calls,
        attempts: calls + 1,
        first: at("2026-11-02T00:00:00Z"),
        last: at("2026-11-03T00:00:00Z"),
    }
}

fn bill(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn november(held: &[Held], used: &[Used], bill: Option<&BTreeSet<String>>) -> Usage {
    let known = Known { used, since: Some(at("2026-10-01T00:00:00Z")), has_unnamed: false };
    reckon(Month::parse(NOVEMBER).expect("a month"), held, Some(known), bill, at("2026-11-23T00:00:00Z"))
}

#[test]
fn a_connection_is_active_from_its_beginning_until_it_is_disconnected() {
    const BEFORE: &str = "2026-10-31T23:59:59.999Z";
    const FIRST: &str = "2026-11-01T00:00:00Z";
    const LAST: &str = "2026-11-30T23:59:59.999Z";
    const AFTER: &str = "2026-12-01T00:00:00Z";
    for (from, to, is_active) in [
        (BEFORE, None, true),
        (LAST, None, true),
        (AFTER, None, false),
        (BEFORE, Some(BEFORE), false),
        (BEFORE, Some(FIRST), true),
        (BEFORE, Some(AFTER), true),
        (FIRST, Some(LAST), true),
    ] {
        let usage = november(&[held("c1", from, to)], &[], None);
        assert_eq!(usage.total.active, u64::from(is_active), "{from} {to:?}");
        assert_eq!(usage.connections.len(), usize::from(is_active), "who is not active is not listed");
    }
}

#[test]
fn each_disagreement_has_its_flag() {
    let held = [
        held("called", "2026-01-01T00:00:00Z", None),
        held("idle", "2026-01-01T00:00:00Z", None),
        held("gone", "2026-01-01T00:00:00Z", Some("2026-10-05T00:00:00Z")),
        held("later", "2026-12-05T00:00:00Z", None),
        held("forgotten", "2026-01-01T00:00:00Z", Some("2026-11-05T00:00:00Z")),
    ];
    let used = [used("called", 3), used("stranger", 1)];
    let flags = |bill: Option<&BTreeSet<String>>| -> Vec<(String, Vec<&'static str>)> {
        let usage = november(&held, &used, bill);
        usage
            .connections
            .iter()
            .map(|l| (l.connection_id.clone(), l.flags.iter().map(|f| f.as_str()).collect()))
            .collect()
    };
    let line = |id: &str, flags: &[&'static str]| (id.to_owned(), flags.to_vec());
    let billed = bill(&["called", "idle", "gone", "later", "ghost"]);
    assert_eq!(
        flags(Some(&billed)),
        [
            line("called", &[]),
            line("forgotten", &["unused", "not_billed"]),
            line("gone", &["disconnected_but_billed"]),
            line("idle", &["unused"]),
            line("later", &["connected_later_but_billed"]),
            line("ghost", &["unknown"]),
            line("stranger", &["unknown"]),
        ]
    );
    assert_eq!(
        flags(None),
        [
            line("called", &[]),
            line("forgotten", &["unused"]),
            line("idle", &["unused"]),
            line("stranger", &["unknown"])
        ]
    );
    let usage = november(&held, &used, Some(&billed));
    assert_eq!(
        (usage.total.active, usage.total.billed, usage.total.calls, usage.total.attempts),
        (3, Some(5), 4, 6)
    );
    assert_eq!(usage.total.flags["unknown"], 2);
    let companies: Vec<_> = usage
        .companies
        .iter()
        .map(|c| (c.company_id.as_ref().map(|id| id.as_str()), c.active, c.billed, c.calls))
        .collect();
    assert_eq!(companies, [(Some("co-1"), 3, Some(4), 3), (None, 0, Some(1), 1)]);
    assert!(!usage.is_over);
}

#[test]
fn the_bill_is_only_spoken_of_when_there_is_one() {
    let usage = november(&[held("c1", "2026-01-01T00:00:00Z", None)], &[], None);
    assert_eq!((usage.total.billed, usage.connections[0].is_billed), (None, None));
    let usage = november(&[held("c1", "2026-01-01T00:00:00Z", None)], &[], Some(&bill(&[])));
    assert_eq!((usage.total.billed, usage.connections[0].is_billed), (Some(0), Some(false)));
}

#[test]
fn it_can_be_opened_in_a_spreadsheet() {
    let mut evil = held("=HYPERLINK(1)", "2026-01-01T00:00:00Z", None);
    evil.customer = Some(CustomerId::new("a,\"b\"").expect("an id"));
    let table = november(&[evil], &[used("c2", 1)], Some(&bill(&["@x"]))).to_csv();
    let rows = csv::read(&table, ',');
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row.len() == 14), "{table}");
    assert_eq!(rows[1][..6], ["2026-11", "co-1", "a,\"b\"", "'=HYPERLINK(1)", "", "yes"]);
    assert_eq!((&rows[2][3], &rows[2][13]), (&"'@x".to_owned(), &"unknown".to_owned()));
    assert!(table.ends_with("\r\n"));
}

#[test]
fn every_flag_has_a_word_of_its_own() {
    let words: BTreeSet<&str> = Flag::ALL.iter().map(|flag| flag.as_str()).collect();
    assert_eq!(words.len(), Flag::ALL.len());
}

#[test]
fn without_a_ledger_nobody_is_said_to_be_unused() {
    let held = [held("c1", "2026-01-01T00:00:00Z", None)];
    let month = Month::parse(NOVEMBER).expect("a month");
    let usage = reckon(month, &held, None, None, at("2026-12-01T00:00:00Z"));
    assert_eq!((usage.has_calls, usage.is_over, usage.total.active), (false, true, 1));
    assert!(usage.connections[0].flags.is_empty());
    let rows = csv::read(&usage.to_csv(), ',');
    assert_eq!(rows[1][9..11], ["", ""], "that nothing is known is not that nothing was called");
}

#[test]
fn nobody_is_said_to_be_unused_of_whom_not_every_call_is_known() {
    let flags = |connected: &str, since: Option<&str>, has_unnamed: bool| {
        let held = [held("c1", connected, None)];
        let known = Known { used: &[], since: since.map(at), has_unnamed };
        let month = Month::parse(NOVEMBER).expect("a month");
        let usage = reckon(month, &held, Some(known), None, at("2026-12-01T00:00:00Z"));
        assert_eq!((usage.calls_since, usage.has_unnamed_calls), (since.map(at), has_unnamed));
        usage.connections[0].flags.clone()
    };
    const OLD: &str = "2026-01-01T00:00:00Z";
    assert_eq!(flags(OLD, Some("2026-11-01T00:00:00Z"), false), [Flag::Unused]);
    assert_eq!(flags(OLD, Some("2026-11-01T00:00:00.001Z"), false), []);
    // What was connected after calls began to be counted.
    assert_eq!(flags("2026-11-10T00:00:00Z", Some("2026-11-09T00:00:00Z"), false), [Flag::Unused]);
    assert_eq!(flags("2026-11-10T00:00:00Z", Some("2026-11-11T00:00:00Z"), false), []);
    assert_eq!(flags(OLD, None, false), []);
    // A call with a token of the app's own names no connection.
    assert_eq!(flags(OLD, Some("2026-10-01T00:00:00Z"), true), []);
}
