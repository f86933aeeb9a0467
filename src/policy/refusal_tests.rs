//! What some refusals say about sending again.

use super::*;

#[test]
fn a_refusal_that_may_have_been_sent_never_invites_a_repetition() {
    for refusal in [Refusal::Broken("reset"), Refusal::TimedOut, Refusal::BadAnswer("x"), Refusal::Fault] {
        assert_eq!(refusal.problem().resend, Resend::No, "{refusal:?}");
    }
    assert_eq!(Refusal::Draining.problem().resend, Resend::Yes);
}

#[test]
fn a_long_wait_has_no_retry_after() {
    let limited = |secs| Refusal::Limited {
        product: Product::Directory,
        scope: "product",
        wait: Duration::from_secs(secs),
    };
    assert_eq!(limited(9).problem().resend, Resend::After(9));
    assert_eq!(limited(3600).problem().resend, Resend::Later);
    assert_eq!(limited(3600).problem().wait, Some(Duration::from_secs(3600)));
}
