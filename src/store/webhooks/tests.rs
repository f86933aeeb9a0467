//! The life of an event in SQL.

use super::*;
use crate::store::Older;
use crate::store::schema::{STORE, migrate};
use crate::types::{ApplicationId, Environment};
use rusqlite::Connection;

fn event(id: &str, connection: Option<&str>) -> Arrived {
    Arrived {
        event_id: EventId::new(id).unwrap(),
        timestamp: "1700000000".to_owned(),
        sent_at: UnixMillis(1_700_000_000_000),
        signature: "v1,x".to_owned(),
        event_type: "test".to_owned(),
        connection_id: connection.map(|id| ConnectionId::new(id).unwrap()),
        company_id: None,
        entity_id: None,
        body: b"{}".to_vec(),
    }
}

fn with(work: impl FnOnce(&Tx<'_>, &Scope)) {
    let mut db = Connection::open_in_memory().unwrap();
    migrate(&mut db, &STORE, Older::Renew).unwrap();
    let scope = Scope { application: ApplicationId::new("app").unwrap(), environment: Environment::Sandbox };
    work(&Tx::Sqlite(&db.transaction().unwrap()), &scope);
}

fn keep(tx: &Tx<'_>, scope: &Scope, id: &str, lane: Option<&str>, at: i64) -> Put {
    put(tx, scope, &event(id, lane), (10, UnixMillis(at - 100)), UnixMillis(at)).unwrap()
}

#[test]
fn an_event_that_comes_twice_is_kept_once_and_in_each_scope_by_itself() {
    with(|tx, scope| {
        assert_eq!(keep(tx, scope, "msg_1", None, 1), Put::Kept { dropped: 0 });
        assert_eq!(keep(tx, scope, "msg_1", None, 2), Put::Duplicate);
        let other = Scope { environment: Environment::Production, ..scope.clone() };
        assert_eq!(keep(tx, &other, "msg_1", None, 2), Put::Kept { dropped: 0 });
        let kept = fresh(tx, scope, 9).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].arrived, event("msg_1", None));
        done(tx, kept[0].seq).unwrap();
        assert_eq!(keep(tx, scope, "msg_1", None, 3), Put::Duplicate, "done is still known");
    });
}

#[test]
fn one_event_of_each_connection_is_due_at_a_time() {
    with(|tx, scope| {
        for (id, lane) in
            [("m1", Some("a")), ("m2", Some("a")), ("m3", Some("b")), ("m4", None), ("m5", None)]
        {
            keep(tx, scope, id, lane, 1);
        }
        let all = fresh(tx, scope, 9).unwrap();
        assert_eq!(due(tx, scope, UnixMillis(99), 9).unwrap(), [], "nothing before it was acted on");
        all.iter().for_each(|kept| acted(tx, kept.seq, Some(UnixMillis(10))).unwrap());
        let ids = |now, limit| -> Vec<String> {
            let due = due(tx, scope, UnixMillis(now), limit).unwrap();
            due.iter().map(|kept| kept.arrived.event_id.to_string()).collect()
        };
        assert_eq!(ids(9, 9), Vec::<String>::new());
        assert_eq!(next_due(tx, scope, UnixMillis(9)).unwrap(), Some(UnixMillis(10)));
        assert_eq!(ids(10, 9), ["m1", "m3", "m4", "m5"]);
        assert_eq!(ids(10, 2), ["m1", "m3"]);
        failed(tx, all[0].seq, Some(UnixMillis(50)), "it answered 500").unwrap();
        done(tx, all[2].seq).unwrap();
        assert_eq!(ids(10, 9), ["m2", "m4", "m5"], "one that waits longer holds up nobody");
        assert_eq!(next_due(tx, scope, UnixMillis(10)).unwrap(), Some(UnixMillis(50)));
        assert_eq!(depth(tx, scope).unwrap(), Depth { new: 0, waiting: 4, dead: 0 });
    });
}

#[test]
fn a_dead_letter_keeps_its_body_and_can_be_revived() {
    with(|tx, scope| {
        keep(tx, scope, "m1", None, 1);
        keep(tx, scope, "m2", None, 1);
        for kept in fresh(tx, scope, 9).unwrap() {
            acted(tx, kept.seq, Some(UnixMillis(1))).unwrap();
            failed(tx, kept.seq, None, "it refused the connection").unwrap();
        }
        let dead = list(tx, scope, Some(State::Dead), 9).unwrap();
        assert_eq!((dead.len(), dead[0].event_id.as_str(), dead[0].attempts), (2, "m2", 1));
        assert_eq!(dead[0].failure.as_deref(), Some("it refused the connection"));
        let m1 = EventId::new("m1").unwrap();
        assert_eq!(revive(tx, scope, Some(&m1), UnixMillis(7)).unwrap(), 1);
        assert_eq!(revive(tx, scope, Some(&m1), UnixMillis(7)).unwrap(), 0);
        assert_eq!(state_of(tx, scope, &m1).unwrap(), Some(State::Waiting));
        let again = due(tx, scope, UnixMillis(7), 9).unwrap();
        assert_eq!(
            (again.len(), again[0].attempts, again[0].arrived.body.as_slice()),
            (1, 0, b"{}" as &[u8])
        );
        done(tx, again[0].seq).unwrap();
        assert_eq!(revive(tx, scope, None, UnixMillis(8)).unwrap(), 1, "m2 alone is dead");
        assert_eq!(give_up_waiting(tx, scope, "nowhere").unwrap(), 1);
        // What another gateway has delivered meanwhile is not offered again, and has no body to offer.
        failed(tx, again[0].seq, Some(UnixMillis(9)), "too late").unwrap();
        assert_eq!(state_of(tx, scope, &m1).unwrap(), Some(State::Done));
        assert_eq!(state_of(tx, scope, &EventId::new("m9").unwrap()).unwrap(), None);
    });
}

#[test]
fn the_queue_has_a_bound_and_what_is_still_needed_goes_last() {
    with(|tx, scope| {
        (0..10)
            .for_each(|n| assert_eq!(keep(tx, scope, &format!("m{n}"), None, n), Put::Kept { dropped: 0 }));
        assert_eq!(keep(tx, scope, "x1", None, 500), Put::Full, "none of them was acted on");
        let all = fresh(tx, scope, 99).unwrap();
        done(tx, all[0].seq).unwrap();
        done(tx, all[9].seq).unwrap();
        failed(tx, all[4].seq, None, "dead").unwrap();
        failed(tx, all[5].seq, None, "dead").unwrap();
        // m9 is done, but so young that Finch's message could be played again.
        let put_at = |id: &str, before: i64| {
            put(tx, scope, &event(id, None), (10, UnixMillis(before)), UnixMillis(500)).unwrap()
        };
        assert_eq!(put_at("x1", 9), Put::Kept { dropped: 0 });
        assert_eq!(put_at("x2", 9), Put::Kept { dropped: 1 }, "the oldest dead letter");
        assert_eq!(state_of(tx, scope, &EventId::new("m4").unwrap()).unwrap(), None);
        assert_eq!(put_at("x3", 9), Put::Kept { dropped: 1 });
        assert_eq!(put_at("x4", 9), Put::Full);
        assert_eq!(put_at("m9", 9), Put::Duplicate);
        assert_eq!(put_at("x5", 10), Put::Kept { dropped: 0 });
    });
}

#[test]
fn a_sweep_takes_what_is_old_and_settled() {
    with(|tx, scope| {
        (0..4).for_each(|n| assert_eq!(keep(tx, scope, &format!("m{n}"), None, n), Put::Kept { dropped: 0 }));
        let all = fresh(tx, scope, 9).unwrap();
        done(tx, all[0].seq).unwrap();
        failed(tx, all[1].seq, None, "dead").unwrap();
        done(tx, all[2].seq).unwrap();
        assert_eq!(sweep(tx, scope, UnixMillis(2), UnixMillis(1)).unwrap(), 0);
        assert_eq!(sweep(tx, scope, UnixMillis(2), UnixMillis(2)).unwrap(), 1);
        let left: Vec<String> = list(tx, scope, None, 9).unwrap().into_iter().map(|l| l.event_id).collect();
        assert_eq!(left, ["m3", "m2"]);
    });
}
