//! Codes that were exchanged for somebody else than the caller meant, in words.

use crate::policy::class::Class;
use crate::policy::problem::Problem;
use crate::types::ConnectionId;

/// For another customer than the one named.
pub(super) fn for_another(connection: &ConnectionId, is_held: bool) -> Problem {
    mismatch(match is_held {
        true => format!(
            "the code belongs to another customer than the one named. The token is sealed and held as connection \
             {connection}; an operator decides with `perch connections assign {connection} --customer <id>`"
        ),
        false => format!(
            "the code belongs to another customer than the one named. The token is sealed for the customer that \
             connection {connection} already belongs to"
        ),
    })
}

/// For a customer whom the app may not act for; whose it is, is not said.
pub(super) fn for_forbidden(is_held: bool) -> Problem {
    let text = match is_held {
        true => {
            "the code belongs to a customer whom this app may not act for. The token is sealed and held; an \
             operator decides with `perch connections list` and `perch connections assign`"
        }
        false => {
            "the code belongs to a customer whom this app may not act for. The token is sealed for that customer"
        }
    };
    mismatch(text.to_owned())
}

fn mismatch(text: String) -> Problem {
    Problem::new(403, "perch_exchange_customer_mismatch", Class::CallerRefused, text)
}
