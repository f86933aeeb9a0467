//! Invitations to connect, and the codes of those who accepted: each is good once, for ten minutes.

use super::refusal::{Reason, Refusal};
use super::scenario::Authentication;
use crate::types::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// How long an authorization code may be exchanged (Finch Connect guide).
const CODE_LIFE: Duration = Duration::from_secs(600);
/// The most sessions and codes remembered; the oldest go.
const SESSIONS_MAX: usize = 10_000;

/// What an employer was invited to do.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// Connect for the first time, or once more.
    Connect { customer_id: String, customer_name: String, customer_email: Option<String> },
    /// Repair this connection.
    Reauthenticate { connection: usize },
}

/// An invitation.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) purpose: Purpose,
    pub(super) products: Vec<String>,
    pub(super) provider: Option<String>,
    pub(super) authentication: Option<Authentication>,
    pub(super) redirect_uri: Option<String>,
    pub(super) expires: Moment,
}

/// What came of it, for ten minutes.
#[derive(Debug)]
struct Code {
    code: String,
    session: Session,
    expires: Moment,
    spent: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Invitations {
    sessions: VecDeque<Session>,
    codes: VecDeque<Code>,
}

impl Invitations {
    /// Remembers an invitation; the oldest goes when there are too many.
    pub(super) fn invite(&mut self, session: Session) {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.pop_front();
        }
        self.sessions.push_back(session);
    }

    /// The invitation of this id, unless it is too old.
    pub(super) fn session(&self, id: &str, now: Moment) -> Option<Session> {
        self.sessions.iter().find(|s| s.id == id && now < s.expires).cloned()
    }

    /// The code for an employer who accepted.
    pub(super) fn accept(&mut self, session: Session, code: String, now: Moment) -> String {
        if self.codes.len() >= SESSIONS_MAX {
            self.codes.pop_front();
        }
        self.codes.push_back(Code { code: code.clone(), session, expires: now + CODE_LIFE, spent: false });
        code
    }

    /// Takes a code's invitation out, once, within ten minutes, for the same redirect.
    pub(super) fn spend(
        &mut self,
        code: &str,
        redirect_uri: Option<&str>,
        now: Moment,
    ) -> Result<Session, Refusal> {
        let wrong = |why: &str| Refusal::because(Reason::InvalidGrant, why);
        let Some(known) = self.codes.iter_mut().find(|c| c.code == code) else {
            return Err(wrong("The authorization code is unknown"));
        };
        if known.spent {
            return Err(wrong("The authorization code was used already"));
        }
        if now >= known.expires {
            return Err(wrong("The authorization code is older than 10 minutes"));
        }
        if known.session.redirect_uri.as_deref() != redirect_uri {
            return Err(wrong("The redirect_uri is not the session's"));
        }
        known.spent = true;
        Ok(known.session.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> Invitations {
        let session = Session {
            id: "s".to_owned(),
            purpose: Purpose::Reauthenticate { connection: 0 },
            products: Vec::new(),
            provider: None,
            authentication: None,
            redirect_uri: None,
            expires: Moment::at(Duration::from_secs(60)),
        };
        let mut invitations = Invitations::default();
        invitations.invite(session.clone());
        invitations.accept(session, "c".to_owned(), Moment::ZERO);
        invitations
    }

    #[test]
    fn a_code_is_good_once_and_for_ten_minutes() {
        let late = Moment::ZERO + CODE_LIFE;
        let just = Moment::at(CODE_LIFE - Duration::from_millis(1));
        assert!(accepted().spend("c", None, late).is_err());
        let mut invitations = accepted();
        assert!(invitations.spend("other", None, just).is_err());
        assert!(invitations.spend("c", Some("http://localhost"), just).is_err());
        assert!(invitations.spend("c", None, just).is_ok());
        assert!(invitations.spend("c", None, just).is_err());
    }

    #[test]
    fn a_session_ends() {
        let at = |s| accepted().session("s", Moment::at(Duration::from_secs(s))).is_some();
        assert!(at(59) && !at(60));
    }
}
