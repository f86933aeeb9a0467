//! The whole gateway under the bytes of any client: no panic, an answer or an end, and nothing reaches Finch but lawful
//! requests with the token of a customer that was named.

use super::rig::{
    CUSTOMERS, MOMENT, Rig, Whole, answers, assert_lawful, assert_shows, tells_a_secret, token_of,
};
use std::sync::OnceLock;

/// One gateway for all inputs: each of them leaves it as it was.
static RIG: OnceLock<Rig> = OnceLock::new();

/// What a client sends before it closes its half.
pub fn target(data: &[u8]) {
    let rig = RIG.get_or_init(|| Rig::start(MOMENT));
    let heard = rig.send(data);
    assert!(!tells_a_secret(&heard), "a secret");
    // A HEAD is answered without a body, which only its client can know.
    let may_be_bodiless = data.windows(4).any(|window| window == b"HEAD");
    let answers = if may_be_bodiless { Vec::new() } else { answers(&heard, Whole::ButTheLast) };
    let heads = data.windows(2).filter(|window| *window == b"\n\n" || *window == b"\n\r").count() + 1;
    assert!(answers.len() <= heads, "{} answers to {heads} requests", answers.len());
    let came = rig.came();
    assert!(came.len() <= heads, "{} requests out of {heads}", came.len());
    for request in &came {
        let wanted = assert_lawful(request);
        let is_named =
            |customer: &str| data.windows(customer.len()).any(|window| window == customer.as_bytes());
        assert_shows(request, wanted, is_named);
        let text = String::from_utf8_lossy(request).into_owned();
        for customer in CUSTOMERS {
            assert!(
                is_named(customer) || !text.contains(&token_of(customer)),
                "the token of somebody who was not named"
            );
        }
    }
}
