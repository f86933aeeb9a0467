//! What a call reads that an operator does not let through: its customer is not rolled out, or paused.

use crate::policy::brake::PauseScope;
use crate::policy::class::Class;
use crate::policy::problem::Problem;
use crate::policy::resend::Resend;
use crate::policy::rollout::Outside;

/// perch does not work for this one yet.
pub(super) fn not_rolled_out(outside: Outside) -> Problem {
    let (who, setting) = match outside {
        Outside::Customer => ("this customer", outside.setting()),
        Outside::Provider => ("this connection's provider", outside.setting()),
    };
    let message = format!(
        "perch does not work for {who} yet ({setting}); nothing was sent; an operator adds it there, or the app calls Finch \
         as before"
    );
    Problem::new(403, "perch_not_rolled_out", Class::CallerRefused, message)
}

/// An operator has set a brake.
pub(super) fn paused(scope: PauseScope, name: &str) -> Problem {
    let message = format!(
        "{scope} {name} is paused; nothing was sent; an operator ends it with `perch resume {scope} {name}` (see `perch pauses`)"
    );
    Problem::new(503, "perch_paused", Class::PerchUnavailable, message)
        .resend(Resend::Later)
        .scoped(scope.as_str())
}
