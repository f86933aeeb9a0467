//! Sealed blobs: what was sealed opens, in its place and under its key only; whatever else is read opens nothing.

use super::input::Input;
use perch::vault::seal::{OVERHEAD_BYTES, Place, key_id, open, seal};

/// Decisions; the rest is a secret, or a blob that nobody sealed.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let mut key = [7; 32];
    key[0] = input.byte();
    let (store_id, customer, connection) = ([input.byte(); 16], input.text(20), input.text(20));
    let place = Place {
        store_id: &store_id,
        dek_id: input.number(),
        table: "connection",
        column: "token",
        application: "app",
        environment: "sandbox",
        customer_id: &customer,
        connection_id: &connection,
        version: input.number(),
    };
    let aad = place.aad();
    if mode.is_multiple_of(2) {
        // Nobody has this key: nothing opens.
        assert!(open(&key, key_id(input.rest()).unwrap_or(1), &aad, input.rest()).is_err(), "a forgery");
        return;
    }
    let (random, at, bit) = ([input.byte(); 32], input.number(), input.below(8));
    let secret = input.rest();
    let id = place.dek_id;
    let Ok(blob) = seal(&key, id, &aad, secret, &random) else {
        return assert!(secret.len() > 64 * 1024);
    };
    assert_eq!((blob.len(), key_id(&blob)), (secret.len() + OVERHEAD_BYTES, Some(id)));
    assert!(open(&key, id, &aad, &blob).is_ok_and(|opened| *opened == secret), "it does not open");
    assert!(
        secret.len() < 8 || !blob[42..].windows(secret.len()).any(|window| window == secret),
        "it stands there"
    );
    let at = usize::try_from(at % blob.len() as u64).expect("a place in it");
    let mut altered = blob.clone();
    altered[at] ^= 1 << bit;
    let mut longer = blob.clone();
    longer.push(bit as u8);
    for forged in [&altered[..], &blob[..at], &blob[at..], &longer] {
        assert!(forged == blob || open(&key, id, &aad, forged).is_err(), "an altered blob opens");
    }
    let others = [
        Place { version: place.version ^ 1, ..place },
        Place { customer_id: "somebody else", connection_id: &customer, ..place },
        Place { column: "tokens", ..place },
    ];
    for other in others {
        assert!(open(&key, id, &other.aad(), &blob).is_err(), "it opens elsewhere");
    }
    // Two places are never one, however their names are cut.
    let glued = format!("{customer}{connection}");
    let cut = Place { customer_id: &glued, connection_id: "", ..place };
    assert!(connection.is_empty() || cut.aad() != aad);
    key[31] ^= 1;
    assert!(
        open(&key, id, &aad, &blob).is_err() && open(&[7; 32], id ^ 1, &aad, &blob).is_err(),
        "another key"
    );
}
