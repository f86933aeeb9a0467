//! Questions in the script's words, and what its answers mean.

use super::*;
use crate::limit::beat::Incarnation;
use crate::types::Priority;

fn rules() -> Rules {
    let limit = |p: Product| p.is_metered().then(|| NonZeroU32::new(12).expect("not zero"));
    Rules::with_limits(PerProduct::from_fn(limit))
}

fn text(words: &str) -> Reply {
    Reply::Text(words.as_bytes().to_vec())
}

/// Numbers as numbers, everything else as text.
fn list(words: &[&str]) -> Reply {
    Reply::List(words.iter().map(|word| word.parse().map_or_else(|_| text(word), Reply::Int)).collect())
}

fn shown(call: &Call) -> Vec<String> {
    call.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn of(n: u64) -> Ticket {
    Ticket::new(Incarnation(0xAB), n)
}

fn ask_of(customer: Option<&str>) -> Ask {
    Ask {
        ticket: of(7),
        product: Product::Individual,
        customer: customer.map(|name| CustomerId::new(name).expect("an id")),
        priority: Priority::Batch,
        weight: NonZeroU32::MIN,
        patience: Duration::MAX,
        tag: Some(Tag(9)),
    }
}

#[test]
fn an_ask_names_its_customer_only_by_a_hash() {
    let words = shown(&ask(&ask_of(Some("abc"))));
    let ticket = "00000000000000ab0000000000000007";
    // The first digits of SHA-256("abc"), from FIPS 180-2.
    assert_eq!(words, ["ask", ticket, "2", "1", "ba7816bf8f01cfea", "1", "4503599627370496", "9"]);
    let words = shown(&ask(&Ask { tag: None, ..ask_of(None) }));
    assert_eq!((words[4].as_str(), words[7].as_str()), ("----------------", "-1"));
}

#[test]
fn the_operation_comes_first_then_what_all_share_then_its_own() {
    let (head, call) = (head("run", 5, b"1 2"), cancel(of(1)));
    let words: Vec<_> = args(&head, &call).into_iter().map(|word| std::str::from_utf8(word)).collect();
    assert_eq!(words, [Ok("cancel"), Ok("run"), Ok("5"), Ok("1 2"), Ok("00000000000000ab0000000000000001")]);
    let rules = String::from_utf8(super::rules(&rules())).expect("text");
    assert_eq!(
        rules,
        "60000000 100000 6000000 400000000 1 10000 200 500000 6000000 600000000 100000 50 800 300000000 \
         12 12 12 12 12 12 12 12 12 12 0 0 0 0 0 0 0 0"
    );
}

#[test]
fn every_operation_has_its_arguments() {
    let (ticket, product) = ("00000000000000ab0000000000000002", Product::Directory);
    for (call, words) in [
        (extend(of(2), product), vec!["extend", ticket, "1"]),
        (arrived(of(2), product, true), vec!["arrived", ticket, "1", "1"]),
        (refund(of(2), product), vec!["refund", ticket, "1"]),
        (limited(product, None), vec!["limited", "1", "0"]),
        (limited(product, Some(Duration::from_millis(3))), vec!["limited", "1", "3000"]),
        (hold(Scope::Product(product), Duration::from_secs(1)), vec!["hold", "1", "1000000"]),
        (hold(Scope::EgressIp, Duration::MAX), vec!["hold", "-1", "4503599627370496"]),
        (skew(), vec!["skew"]),
    ] {
        assert_eq!(shown(&call), words);
    }
}

fn heartbeat() -> Beat {
    let mut lease = Pools::none();
    (lease.products[Product::Company], lease.ip) = (3, 40);
    let sent = |n, age| Sent { ticket: of(n), product: Product::Auth, priority: Priority::Batch, age };
    Beat {
        member: "pod 1".to_owned(),
        incarnation: Incarnation(u64::MAX),
        number: 4,
        acked: 3,
        stance: Stance::Apart,
        lease,
        demand: Pools::none(),
        uptime: Duration::from_secs(9),
        peers: 2,
        away: (Pools::none(), Duration::from_micros(5)),
        replay: Some(vec![sent(1, None), sent(2, Some(Duration::from_nanos(7_900)))]),
    }
}

#[test]
fn a_heartbeat_is_flat() {
    let none = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
    let lease = "3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 40";
    let replay = "00000000000000ab0000000000000001:11:1:-1 00000000000000ab0000000000000002:11:1:7";
    let words = shown(&beat(&heartbeat()));
    assert_eq!(
        words,
        ["beat", "pod 1", "ffffffffffffffff", "4", "3", "1", "9000000", "2", "5", lease, none, none, replay]
    );
    let words = shown(&beat(&Beat { replay: None, ..heartbeat() }));
    assert_eq!(words[12], "-");
    let words = shown(&beat(&Beat { replay: Some(Vec::new()), ..heartbeat() }));
    assert_eq!(words[12], "", "nothing was sent: a replay all the same");
}

fn told<T>(what: T) -> Heard<T> {
    Heard::Told(Told { now: 77, what })
}

#[test]
fn a_verdict_is_read_with_its_standing() {
    let rules = rules();
    let read = |words: &[&str]| read_ask(&list(words), Product::Individual, &rules);
    let free = Standing {
        limit: 12,
        used: 5,
        remaining: 7,
        window: rules.window,
        next_free_in: Duration::from_micros(31),
    };
    let (micros, tag) = (Duration::from_micros, Tag(720_720));
    let held = Standing { remaining: 0, next_free_in: micros(9), ..free };
    for (words, admission, standing, is_ip_open) in [
        (["77", "G", "0", "720720", "0", "0", "12", "5", "0", "31"], Admission::Granted { tag }, free, true),
        (
            ["77", "W", "88", "720720", "0", "1", "12", "5", "9", "31"],
            Admission::Wait { after: micros(88), tag },
            held,
            false,
        ),
        (
            ["77", "R", "88", "1", "2", "1", "12", "5", "0", "31"],
            Admission::Refused { after: micros(88), scope: Scope::EgressIp, reason: Reason::Learning },
            free,
            false,
        ),
        (
            ["77", "R", "88", "0", "4", "0", "12", "5", "0", "31"],
            Admission::Refused {
                after: micros(88),
                scope: Scope::Product(Product::Individual),
                reason: Reason::CustomerQueueFull,
            },
            free,
            true,
        ),
    ] {
        assert_eq!(read(&words), Ok(told((admission, Some(standing), is_ip_open))));
        assert_eq!(
            read_ask(&list(&words), Product::Auth, &rules).map(|heard| match heard {
                Heard::Told(told) => told.what.1,
                Heard::Skewed { .. } => panic!("not skewed"),
            }),
            Ok(None),
            "a product without a limit has no standing"
        );
    }
    assert_eq!(read(&["78", "S"]), Ok(Heard::Skewed { now: 78 }));
    assert_eq!(
        read_arrived(&list(&["77", "ok", "12", "5", "0", "31"]), Product::Company, &rules),
        Ok(told(Some(free)))
    );
}

#[test]
fn small_answers_are_read() {
    assert_eq!(read_flag(&list(&["77", "1"])), Ok(told(true)));
    assert_eq!(read_flag(&list(&["77", "0"])), Ok(told(false)));
    assert_eq!(read_done(&list(&["77", "ok"])), Ok(told(())));
    assert_eq!(read_done(&list(&["77", "S"])), Ok(Heard::Skewed { now: 77 }));
}

fn pulse_words() -> Vec<Reply> {
    let lease = "1 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 20";
    let wakes = "00000000000000ab0000000000000001 00000000000000ab0000000000000002";
    let standings = format!("12 5 8 31 8 {}800 7 0 6 0", "12 5 0 31 0 ".repeat(17));
    let (n, none) = (Reply::Int, text(""));
    vec![n(77), n(1), text(lease), n(3), none, n(44), n(1), n(55), text(wakes), text(&standings)]
}

#[test]
fn a_pulse_is_read_with_all_standings() {
    let rules = rules();
    let Ok(Heard::Told(Told { now: 77, what: (pulse, all) })) =
        read_beat(&Reply::List(pulse_words()), &rules)
    else {
        panic!("not read")
    };
    assert!(pulse.is_known && pulse.wants_replay);
    assert_eq!((pulse.lease.products[Product::Directory], pulse.lease.ip, pulse.peers), (2, 20, 3));
    assert_eq!(pulse.away, (Pools::none(), Duration::from_micros(44)));
    assert_eq!((pulse.learns_for.as_micros(), pulse.wakes), (55, vec![of(1), of(2)]));
    let first = all.products[Product::Company].expect("a limit");
    assert_eq!((first.used, first.remaining, first.next_free_in.as_micros()), (5, 0, 8));
    assert_eq!(all.products[Product::Sandbox], None);
    assert_eq!((all.ip.limit, all.ip.remaining, all.ip.window), (800, 793, rules.ip.window));
    assert_eq!(all.holds, [(Scope::Product(Product::Company), Duration::from_micros(8))]);

    let mut words = pulse_words();
    words[1] = Reply::Int(0);
    let Ok(Heard::Told(Told { what: (pulse, _), .. })) = read_beat(&Reply::List(words), &rules) else {
        panic!("not read")
    };
    assert_eq!(pulse, Pulse::unknown());
}

#[test]
fn what_the_script_cannot_say_is_an_error() {
    let rules = rules();
    let junk = || {
        let huge = Reply::Text(b"99999999999999999999999".to_vec());
        let bytes = Reply::Text(vec![0xff, b'S']);
        [Reply::Nil, Reply::Int(-1), Reply::Int(i64::MAX), huge, bytes, text("-"), Reply::List(Vec::new())]
    };
    let good = [
        pulse_words(),
        list(&["77", "R", "88", "1", "2", "0", "12", "5", "0", "31"]).as_list().expect("a list").to_vec(),
        list(&["77", "ok", "12", "5", "0", "31"]).as_list().expect("a list").to_vec(),
        list(&["77", "1"]).as_list().expect("a list").to_vec(),
    ];
    for words in good {
        for at in 0..=words.len() {
            for junk in junk() {
                let mut broken = words.clone();
                broken.truncate(at);
                broken.push(junk);
                broken.extend(words.iter().skip(at + 1).cloned());
                // Some of these can be read. None may panic.
                let reply = Reply::List(broken);
                let _ = (read_ask(&reply, Product::Auth, &rules), read_flag(&reply), read_done(&reply));
                let _ = (read_arrived(&reply, Product::Auth, &rules), read_beat(&reply, &rules));
            }
        }
        let short = Reply::List(words[..words.len() - 1].to_vec());
        let long = Reply::List([&words[..], &[Reply::Int(0)]].concat());
        for reply in [short, long] {
            assert!(read_flag(&reply).is_err() && read_done(&reply).is_err());
            assert!(read_beat(&reply, &rules).is_err());
            assert!(read_ask(&reply, Product::Auth, &rules).is_err());
        }
    }
    for reply in junk() {
        assert!(matches!(read_done(&reply), Err(LinkError::BadReply(_))), "{reply:?}");
    }
    for words in [["77", "R", "1", "2", "0"], ["77", "R", "1", "0", "5"], ["77", "X", "1", "0", "0"]] {
        let words = [&words[..], &["0", "0", "0", "0", "0"]].concat();
        assert!(read_ask(&list(&words), Product::Auth, &rules).is_err(), "{words:?}");
    }
}
