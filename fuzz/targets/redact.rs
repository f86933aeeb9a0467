//! Secrets in an answer: whichever way it comes in pieces, none passes, and nothing else is changed.

use super::input::Input;
use perch::policy::redact::{Secrets, Strainer};

/// Two secrets, how the pieces are cut, and the body.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let secrets = [input.bytes(40), input.bytes(6)];
    // Tokens have no asterisk, which is what they are covered with.
    if secrets.iter().any(|secret| secret.contains(&b'*')) {
        return;
    }
    let known = || Secrets::new(secrets);
    let cuts: Vec<usize> = (0..8).map(|_| input.below(40)).collect();
    let body = input.rest();
    let stands = |text: &[u8]| {
        secrets
            .iter()
            .any(|secret| !secret.is_empty() && text.windows(secret.len()).any(|part| part == *secret))
    };
    assert_eq!(known().are_in(body), stands(body));
    let mut whole = body.to_vec();
    assert_eq!(known().take_out_of_body(&mut whole), stands(body));
    covered(body, &whole);
    assert!(!stands(&whole));
    let mut strainer = Strainer::new(known());
    let (mut passed, mut rest, mut is_found) = (Vec::new(), body, false);
    for cut in cuts.into_iter().cycle() {
        let (piece, more) = rest.split_at((cut + 1).min(rest.len()));
        let (clean, found) = strainer.pass(piece);
        passed.extend(clean);
        is_found |= found;
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    passed.extend(strainer.finish());
    covered(body, &passed);
    assert!(!stands(&passed), "a secret passed in pieces");
    assert_eq!(is_found, stands(body));
}

/// The same, but for asterisks.
fn covered(before: &[u8], after: &[u8]) {
    assert_eq!(before.len(), after.len());
    assert!(before.iter().zip(after).all(|(before, after)| before == after || *after == b'*'));
}
