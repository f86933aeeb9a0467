//! perch's own errors: whatever stands in them, each is one JSON object with all that a client's code reads.

use super::input::Input;
use perch::policy::Proof;
use perch::policy::brake::PauseScope;
use perch::policy::problem::Evidence;
use perch::policy::refusal::{Choice, Forbidden, Refusal};
use perch::policy::resend::Resend;
use perch::policy::rollout::Outside;
use perch::types::{ConnectionId, CustomerId, Environment, FinchRequestId, Product, RequestId, UnixMillis};
use serde_json::Value;
use std::time::Duration;

/// Decisions.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let refusal = refusal(&mut input);
    let problem = refusal.problem();
    let request_id = RequestId::new("r").expect("an id");
    let (customer, connection) =
        (CustomerId::new(input.text(40)).ok(), ConnectionId::new(input.text(40)).ok());
    let evidence = Evidence {
        request_id: &request_id,
        finch_request_id: None,
        customer: customer.as_ref(),
        connection_id: connection.as_ref(),
        attempts: input.byte().into(),
        now: UnixMillis(1_790_000_000_000),
    };
    let body = problem.to_body(evidence);
    assert!(body.iter().all(|byte| *byte >= b' '), "a raw control character");
    let read: Value = serde_json::from_slice(&body).unwrap_or_else(|why| panic!("{why}: {refusal:?}"));
    assert_eq!(read["code"].as_u64(), Some(problem.status.into()));
    assert!((400..600).contains(&problem.status));
    assert!(read["finch_code"].as_str().is_some_and(|code| code.starts_with("perch_")));
    assert!(read["name"].is_string() && read["message"].as_str().is_some_and(|text| !text.is_empty()));
    let perch = &read["perch"];
    assert_eq!((&perch["origin"], &perch["class"]), (&"perch".into(), &problem.class.as_str().into()));
    assert_eq!(perch["retryable"].as_bool(), Some(problem.resend.is_retryable()));
    assert_eq!(perch["customer"].as_str(), customer.as_ref().map(CustomerId::as_str));
    assert_eq!(perch.get("retry_at").is_some(), problem.wait.is_some());
    match problem.resend {
        Resend::After(seconds) => assert!((1..=60).contains(&seconds)),
        Resend::Yes | Resend::AsYouLike => assert!(!refusal.is_after_sending(), "{refusal:?}"),
        Resend::No | Resend::Later => {}
    }
    assert!(
        !refusal.is_after_sending() || !problem.resend.invites(),
        "what may have been done is invited again"
    );
}

const WHY: [&str; 3] = ["reset", "a header line ends in a bare line feed", "\"\\\u{1}\u{e9}"];

fn refusal(input: &mut Input<'_>) -> Refusal {
    use Refusal as R;
    let customer =
        CustomerId::new(input.text(60)).unwrap_or_else(|_| CustomerId::new("acme").expect("an id"));
    let connection =
        ConnectionId::new(input.text(60)).unwrap_or_else(|_| ConnectionId::new("c").expect("an id"));
    let (text, why) = (input.text(200), input.pick(&WHY));
    let wait = Duration::new(input.number() >> input.below(64), input.below(1 << 16) as u32);
    let (product, flag) = (input.pick(&Product::ALL), input.flag());
    let environment = input.pick(&Environment::ALL);
    let proof = input.pick(&[Proof::Key, Proof::Certificate, Proof::Uid]);
    let choice = |at: u8| Choice {
        connection_id: format!("{connection}{at}"),
        provider_id: at.is_multiple_of(2).then(|| text.clone()),
    };
    let all = [
        R::Malformed(why),
        R::DoubledHeader("Host"),
        R::BadHeader { header: "Perch-Customer", why: text.clone() },
        R::UnknownPath { nearest: text.clone() },
        R::WrongMethod { allowed: text.clone() },
        R::BodyTooLarge { max: wait.subsec_nanos() as usize },
        R::AppRefused(proof),
        R::AppForbidden(if flag { Forbidden::Product(product) } else { Forbidden::Customer }),
        R::UnknownCustomer(customer.clone()),
        R::UnknownConnection(text.clone()),
        R::Ambiguous {
            customer: flag.then(|| customer.clone()),
            choices: (0..input.byte() % 5).map(choice).collect(),
        },
        R::NotRolledOut(if flag { Outside::Customer } else { Outside::Provider }),
        R::Paused { scope: input.pick(&PauseScope::ALL), name: text.clone() },
        R::OtherEnvironment { name: text.clone(), stored: environment, configured: Environment::Sandbox },
        R::Held { connection: connection.clone(), why: text.clone() },
        R::Disconnected(connection.clone()),
        R::Limited { product, scope: "product", wait },
        R::ApplicationBlocked { wait },
        R::ProviderLimited { wait },
        R::RefreshQuotaSpent { wait },
        R::QueueFull { product },
        R::NoLedger { wait },
        R::TokenUnreadable(connection.clone()),
        R::Unreachable(why),
        R::Broken(why),
        R::BadAnswer(why),
        R::ExchangedForAnother { connection: connection.clone(), is_held: flag },
        R::ExchangedForForbidden { is_held: flag },
        R::ExchangedElsewhere {
            connection: connection.clone(),
            environment: text.clone(),
            configured: environment,
        },
        R::ExchangeNotStored { connection: flag.then(|| connection.clone()), why: text.clone() },
        R::DisconnectPending { connection, why: text.clone() },
        R::OutcomeLost(FinchRequestId::new(text).ok()),
        R::Draining,
        R::TimedOut,
        R::Fault,
    ];
    let at = input.below(all.len());
    all.into_iter().nth(at).expect("it is below its length")
}
