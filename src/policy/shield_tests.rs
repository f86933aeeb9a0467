//! The shield, decision by decision.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn login(connection: &str, entity: Option<&str>) -> Login {
    Login {
        connection: ConnectionId::new(connection).expect("an id"),
        entity: entity.map(|id| EntityId::new(id).expect("an id")),
    }
}

fn minutes(n: u32) -> (Moment, UnixMillis) {
    (Moment::at(MINUTE * n), UnixMillis(i64::from(n) * 60_000))
}

fn ill(shield: &mut Shield, login: &Login, version: u64, at: u32) -> bool {
    shield.fell_ill(login.clone(), (Ailment::Reauthentication, version), minutes(at))
}

#[test]
fn a_dead_login_is_asked_about_at_growing_intervals() {
    let mut shield = Shield::new(5 * MINUTE);
    let a = login("a", None);
    assert!(ill(&mut shield, &a, 1, 0));
    assert!(!ill(&mut shield, &a, 1, 0), "no news");
    let mut probes = Vec::new();
    for minute in 0..600 {
        match shield.advise(&a, 1, true, minutes(minute).0) {
            Advice::Answer(case) => assert_eq!(case.since, UnixMillis(0)),
            Advice::Ask(_) => probes.push((minute, "ask")),
            Advice::Try(_) => probes.push((minute, "try")),
            Advice::Send => panic!("nobody said that it is well"),
        }
    }
    let expected = [
        (5, "ask"),
        (15, "ask"),
        (35, "ask"),
        (75, "try"),
        (135, "ask"),
        (195, "ask"),
        (255, "ask"),
        (315, "try"),
    ];
    assert_eq!(probes[..8], expected);
    assert!(matches!(shield.advise(&a, 1, false, minutes(9_000).0), Advice::Ask(_)), "a write is no probe");
    assert!(shield.recovered(&a, 1, minutes(9_000).0));
    assert_eq!(shield.advise(&a, 1, true, minutes(9_001).0), Advice::Send);
}

#[test]
fn a_new_token_closes_the_case_of_the_old_one() {
    let mut shield = Shield::new(5 * MINUTE);
    let a = login("a", None);
    ill(&mut shield, &a, 3, 0);
    assert!(matches!(shield.advise(&a, 3, true, minutes(1).0), Advice::Answer(_)));
    assert_eq!(shield.advise(&a, 4, true, minutes(1).0), Advice::Send);
    assert!(shield.is_empty());
}

#[test]
fn entities_fail_apart_and_a_whole_connection_covers_them() {
    let mut shield = Shield::new(5 * MINUTE);
    let (whole, one, two) = (login("a", None), login("a", Some("e1")), login("a", Some("e2")));
    ill(&mut shield, &one, 1, 0);
    assert!(shield.case(&one, 1).is_some());
    assert!(shield.case(&two, 1).is_none() && shield.case(&whole, 1).is_none());
    ill(&mut shield, &whole, 1, 0);
    assert!(shield.case(&two, 1).is_some());
    assert!(shield.case(&login("b", None), 1).is_none());
    shield.recovered(&two, 1, minutes(0).0);
    assert!(shield.case(&two, 1).is_none(), "it works, whatever the others do");
    assert!(shield.case(&whole, 1).is_some() && shield.case(&one, 1).is_some());
    shield.recovered(&whole, 1, minutes(0).0);
    assert!(shield.case(&whole, 1).is_none() && shield.case(&one, 1).is_some());
    assert!(shield.renewed(&one.connection));
    assert!(shield.is_empty());
}

#[test]
fn an_entity_is_asked_about_before_it_suffers_for_its_connection() {
    let mut shield = Shield::new(5 * MINUTE);
    let (whole, one, two) = (login("a", None), login("a", Some("e1")), login("a", Some("e2")));
    shield.remembered(&whole.connection, 1, minutes(0));
    for entity in [&one, &two] {
        assert!(matches!(shield.advise(entity, 1, true, minutes(0).0), Advice::Ask(_)));
        assert!(matches!(shield.advise(entity, 1, true, minutes(1).0), Advice::Answer(_)), "once");
    }
    assert!(shield.recovered(&two, 1, minutes(1).0));
    for minute in 1..60 {
        // As every call does while the vault remembers.
        shield.remembered(&whole.connection, 1, minutes(minute));
        assert_eq!(shield.advise(&two, 1, true, minutes(minute).0), Advice::Send);
        assert_ne!(shield.advise(&one, 1, true, minutes(minute).0), Advice::Send);
    }
    // What was only the connection's ends with it; what was found at the entity does not.
    shield.recovered(&whole, 1, minutes(60).0);
    assert!(shield.is_empty());
    ill(&mut shield, &whole, 1, 61);
    assert!(matches!(shield.advise(&one, 1, true, minutes(61).0), Advice::Ask(_)));
    ill(&mut shield, &one, 1, 61);
    shield.recovered(&whole, 1, minutes(62).0);
    assert!(shield.case(&one, 1).is_some() && shield.case(&two, 1).is_none());
}

#[test]
fn a_connection_that_is_gone_is_gone_for_all_its_entities_until_one_is_served() {
    let mut shield = Shield::new(5 * MINUTE);
    let (whole, one) = (login("a", None), login("a", Some("e1")));
    shield.fell_ill(whole.clone(), (Ailment::Disconnected, 1), minutes(0));
    assert!(matches!(shield.advise(&one, 1, true, minutes(1).0), Advice::Answer(_)));
    assert!(shield.recovered(&one, 1, minutes(2).0));
    assert_eq!(shield.advise(&whole, 1, true, minutes(2).0), Advice::Send);
}

#[test]
fn what_the_vault_remembers_is_looked_into_at_once() {
    let mut shield = Shield::new(5 * MINUTE);
    let a = login("a", None);
    shield.remembered(&a.connection, 1, minutes(0));
    assert!(matches!(shield.advise(&a, 1, true, minutes(0).0), Advice::Ask(_)));
    shield.remembered(&a.connection, 1, minutes(0));
    assert!(matches!(shield.advise(&a, 1, true, minutes(0).0), Advice::Answer(_)), "once");
    // Finch says that it is well, and the vault cannot be told.
    shield.recovered(&a, 1, minutes(1).0);
    shield.remembered(&a.connection, 1, minutes(2));
    assert_eq!(shield.advise(&a, 1, true, minutes(2).0), Advice::Send);
    ill(&mut shield, &a, 1, 3);
    assert!(matches!(shield.advise(&a, 1, true, minutes(3).0), Advice::Answer(_)));
}

#[test]
fn a_run_of_500s_is_asked_about_once_in_a_while() {
    let mut shield = Shield::new(5 * MINUTE);
    let a = login("a", None);
    let asked: Vec<u32> = (0..25).filter(|n| shield.failed(&a, minutes(*n).0)).collect();
    assert_eq!(asked, [2, 12, 22]);
    shield.recovered(&a, 1, minutes(29).0);
    assert!(!shield.failed(&a, minutes(30).0), "a good answer ends the run");
    assert!(!shield.failed(&login("b", None), minutes(30).0));
}

#[test]
fn finchs_words_are_read_old_and_new() {
    use Ailment::{AccountSetup, Disconnected, Reauthentication};
    for (word, health) in [
        ("connected", Health::Well),
        ("pending", Health::Well),
        ("processing", Health::Well),
        ("error_permissions", Health::Well),
        ("reauth", Health::Ill(Reauthentication)),
        ("error_reauth", Health::Ill(Reauthentication)),
        ("error_no_account_setup", Health::Ill(AccountSetup)),
        ("disconnected", Health::Ill(Disconnected)),
        ("brand_new", Health::Unknown),
    ] {
        assert_eq!(Health::of_word(word), health, "{word}");
    }
    assert_eq!(Health::of_words(Some("connected"), ["reauth"]), Health::Ill(Reauthentication));
    assert_eq!(Health::of_words(Some("reauth"), ["connected"]), Health::Ill(Reauthentication));
    assert_eq!(Health::of_words(Some("connected"), ["new", "connected"]), Health::Well);
    assert_eq!(Health::of_words(None, ["connected"]), Health::Unknown);
}

#[test]
fn an_entity_is_read_as_the_sdks_write_it() {
    let named = |query: &str| entity_in(query).map(|id| id.to_string());
    assert_eq!(named("a=b&entity_ids%5B%5D=e-1").as_deref(), Some("e-1"));
    assert_eq!(named("entity_ids[]=e-1&limit=2").as_deref(), Some("e-1"));
    assert_eq!(named("Entity_ids%5b%5d=e-1").as_deref(), Some("e-1"));
    assert_eq!(named("entity_ids=e-1").as_deref(), Some("e-1"));
    assert_eq!(named("entity=e-1&x"), None);
    assert_eq!(named("entity_ids[]="), None);
}

#[test]
fn there_is_a_bound() {
    let mut shield = Shield::new(MINUTE);
    for n in 0..CASES_MAX as u32 + 10 {
        ill(&mut shield, &login(&format!("c{n}"), None), 1, n);
        shield.failed(&login(&format!("d{n}"), None), minutes(n).0);
    }
    assert_eq!((shield.cases.len(), shield.runs.len()), (CASES_MAX, CASES_MAX));
    assert!(shield.case(&login("c0", None), 1).is_none(), "the oldest made room");
}
