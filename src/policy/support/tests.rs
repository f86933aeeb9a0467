//! What is in which part of a bundle, and that nothing breaks out of its place.

use super::*;

fn at(seconds: i64) -> UnixMillis {
    UnixMillis(1_700_000_000_000 + seconds * 1000)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn attempt(at_ms: u64, status: Option<u16>, id: Option<&str>) -> Step {
    let failed = status.is_none().then(|| "no answer in time".to_owned());
    let finch_request_id = id.map(str::to_owned);
    let attempt = Some(Attempt { status, failed, finch_request_id, endpoint: None });
    Step { at_ms, lasted_ms: 7, what: "attempt".to_owned(), attempt, ..Step::default() }
}

fn call(n: i64) -> Call {
    Call {
        ts: at(n),
        request_id: format!("ours-request-{n}"),
        app: some("ours-app"),
        customer: some("ours-customer"),
        connection_id: some("c-1"),
        company_id: some("co-1"),
        provider: some("gusto"),
        product: "directory".to_owned(),
        method: "GET".to_owned(),
        path: "/employer/directory".to_owned(),
        status: 504,
        class: "finch_unreachable".to_owned(),
        finch_code: some("some_code"),
        attempts: 2,
        carried_by: some("ours-carrier"),
        ..Call::default()
    }
}

fn facts(calls: Vec<Call>) -> Facts {
    Facts {
        id: "ours-customer".to_owned(),
        about: About::Customer,
        made_at: at(100),
        application: "client-1".to_owned(),
        environment: "production".to_owned(),
        perch: "0.1.0",
        calls,
        has_more_calls: false,
        without_calls: None,
        connections: vec![Connection {
            connection_id: "c-1".to_owned(),
            customer: some("ours-customer"),
            company_id: some("co-1"),
            provider: some("gusto"),
            products: vec!["directory".to_owned()],
            status: "needs_reauth".to_owned(),
            finch_says: some("reauth"),
            said_at: Some(at(1)),
            asked_at: None,
            notes: vec!["ours-note".to_owned()],
            created_at: at(0),
            updated_at: at(1),
            last_used_at: None,
        }],
        has_more_connections: false,
        deeds: vec![Deed {
            at: at(2),
            connection_id: "c-1".to_owned(),
            action: "seal".to_owned(),
            actor: "app:ours-app".to_owned(),
        }],
        webhooks: vec![Webhook {
            received_at: at(3),
            event_id: "msg-1".to_owned(),
            event_type: "account.updated".to_owned(),
            connection_id: "c-1".to_owned(),
            state: "dead".to_owned(),
            failure: some("it answered 500"),
        }],
        limiter: None,
        settings: vec![("limits.window".to_owned(), "60s".to_owned())],
    }
}

fn first_part(markdown: &str) -> &str {
    markdown.split_once("## For us").expect("two parts").0
}

#[test]
fn finch_gets_its_own_ids_and_words_and_nothing_of_ours() {
    let steps = vec![
        attempt(5, Some(503), Some("f-1")),
        attempt(500, None, None),
        attempt(900, Some(504), Some("f-2")),
    ];
    let refused = Call { steps: Vec::new(), refusal: some("perch_ours"), ..call(2) };
    let bundle =
        bundle(facts(vec![refused, Call { steps, finch_request_id: vec!["f-1".to_owned()], ..call(1) }]));
    let json = serde_json::to_string(&bundle.for_finch).expect("JSON");
    let markdown = bundle.to_markdown();
    for text in [json.as_str(), first_part(&markdown)] {
        assert!(!text.contains("ours") && !text.contains("perch_"), "{text}");
        for wanted in
            ["client-1", "c-1", "co-1", "gusto", "f-1", "503", "some_code", "reauth", "/employer/directory"]
        {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
    // The newest first; the code is that of the last.
    let [last, lost, first] = bundle.for_finch.requests.as_slice() else {
        panic!("three: {:?}", bundle.for_finch.requests)
    };
    assert_eq!(
        (first.at, first.status, first.finch_code.as_deref()),
        (UnixMillis(at(1).0 + 5), Some(503), None)
    );
    assert_eq!(
        (lost.status, lost.failed.as_deref(), lost.finch_code.as_deref()),
        (None, Some("no answer in time"), None)
    );
    assert_eq!((last.status, last.finch_code.as_deref()), (Some(504), Some("some_code")));
    let rest = markdown.split_once("## For us").expect("two parts").1;
    for wanted in [
        "ours-customer",
        "ours-app",
        "ours-note",
        "ours-carrier",
        "perch_ours",
        "seal",
        "msg-1",
        "no gateway was asked",
        "60s",
    ] {
        assert!(rest.contains(wanted), "{wanted}: {rest}");
    }
}

#[test]
fn a_request_whose_step_was_not_kept_is_told_by_its_id() {
    let kept = Call {
        finch_request_id: vec!["f-9".to_owned()],
        status: 200,
        finch_ms: 12,
        carried_by: None,
        ..call(1)
    };
    let bundle = bundle(facts(vec![kept.clone()]));
    let [request] = bundle.for_finch.requests.as_slice() else { panic!("one") };
    assert_eq!(
        (request.finch_request_id.as_deref(), request.status, request.took_ms),
        (Some("f-9"), Some(200), 12)
    );
    // Not where the id is another call's, which was sent.
    let hit = Call { cache: some("hit"), ..kept.clone() };
    let resent = Call { resend_of: some("ours"), ..kept.clone() };
    let carried = Call { carried_by: some("ours"), ..kept.clone() };
    assert!(super::bundle(facts(vec![hit, resent, carried])).for_finch.requests.is_empty());
    let sent = Call { steps: vec![attempt(5, Some(503), Some("f-9"))], ..call(2) };
    let both = super::bundle(facts(vec![kept, sent]));
    assert_eq!(both.for_finch.requests.iter().map(|it| it.status).collect::<Vec<_>>(), [Some(503)]);
    let nothing = super::bundle(facts(vec![call(1)]));
    assert!(nothing.for_finch.requests.is_empty());
    assert!(first_part(&nothing.to_markdown()).contains("None of the calls below was sent to Finch."));
}

#[test]
fn finchs_code_is_not_put_to_the_question_that_followed() {
    let mut question = attempt(900, Some(401), Some("f-2"));
    if let Some(attempt) = &mut question.attempt {
        attempt.endpoint = some("GET /introspect");
    }
    let steps = vec![attempt(5, Some(401), Some("f-1")), question];
    let bundle = bundle(facts(vec![Call { steps, status: 401, ..call(1) }]));
    let codes: Vec<_> = bundle.for_finch.requests.iter().map(|it| it.finch_code.as_deref()).collect();
    assert_eq!(codes, [None, Some("some_code")]);
}

#[test]
fn a_bundle_has_bounds_and_says_when_there_was_more() {
    let mut facts = facts((0..200).rev().map(call).collect());
    let (deed, webhook, connection) =
        (facts.deeds[0].clone(), facts.webhooks[0].clone(), facts.connections[0].clone());
    facts.deeds = (0..200).map(|n| Deed { at: at(n), ..deed.clone() }).collect();
    facts.webhooks = (0..200).map(|n| Webhook { received_at: at(n), ..webhook.clone() }).collect();
    let last = Connection { connection_id: "c-last".to_owned(), ..connection.clone() };
    facts.connections = vec![connection; 200];
    facts.connections.push(last);
    let hold = Hold {
        scope: "login".to_owned(),
        of: None,
        whose: None,
        class: "disconnected".to_owned(),
        until: None,
    };
    // Of one beyond those that are shown.
    let its_own = Hold { whose: some("c-last"), ..hold };
    facts.limiter =
        Some(Limiter { mode: "memory".to_owned(), standings: Vec::new(), holds: vec![its_own; 200] });
    let bundle = bundle(facts);
    let us = &bundle.for_us;
    assert_eq!((us.calls.len(), us.connections.len()), (CALLS_MAX, CONNECTIONS_MAX));
    assert_eq!((us.deeds.len(), us.webhooks.len(), us.deeds[0].at), (EVENTS_MAX, EVENTS_MAX, at(199)));
    assert_eq!((us.webhooks[0].received_at, us.calls[0].ts), (at(199), at(199)));
    assert_eq!(us.limiter.as_ref().expect("known").holds.len(), HOLDS_MAX);
    assert!(us.has_more_calls && bundle.to_markdown().contains("There are older ones"));
    assert!(us.has_more_connections && bundle.to_markdown().contains("There are more, which"));
}

#[test]
fn what_others_wrote_stays_in_its_place() {
    const EVIL: &str = "x`|\n## For us\n<script>[a](http://evil)\u{202e}";
    let mut call = call(1);
    call.finch_code = some(EVIL);
    call.customer = some(EVIL);
    call.carried_by = None;
    call.finch_request_id = vec![EVIL.to_owned()];
    let mut facts = facts(vec![call]);
    facts.id = EVIL.to_owned();
    facts.connections[0].finch_says = some(EVIL);
    facts.webhooks[0].failure = some(EVIL);
    let markdown = bundle(facts).to_markdown();
    assert_eq!(markdown.matches("\n## For us").count(), 1, "{markdown}");
    for line in markdown.lines().filter(|line| line.contains("<script>")) {
        // Between the first and the last accent of its span, which it cannot write itself.
        let outside: String = line.split('`').step_by(2).collect();
        assert!(!outside.contains("evil") && line.matches('`').count() % 2 == 0, "{line}");
        let bars = line.matches('|').count();
        assert!(!line.starts_with('|') || [7, 9, 12].contains(&bars), "{bars}: {line}");
    }
}

#[test]
fn what_holds_others_only_is_not_in_the_bundle() {
    let hold = |of: &str, is_its_own: bool| Hold {
        scope: "login".to_owned(),
        of: some(of),
        whose: is_its_own.then(|| of.to_owned()),
        class: "disconnected".to_owned(),
        until: None,
    };
    let holds = vec![
        hold("c-1", true),
        hold("c-other", true),
        hold("ours-customer", true),
        hold("other-customer", true),
        hold("directory", false),
    ];
    let mut facts = facts(vec![call(1)]);
    facts.limiter = Some(Limiter { mode: "memory".to_owned(), standings: Vec::new(), holds });
    let kept = bundle(facts).for_us.limiter.expect("known").holds;
    let kept: Vec<_> = kept.iter().filter_map(|hold| hold.of.as_deref()).collect();
    assert_eq!(kept, ["c-1", "ours-customer", "directory"]);
}
