//! Who has signed in. A session is a random name in a cookie; here only its digest is kept, in memory, so that neither a
//! dump of this list nor a restart lets anybody in. Bounded in number, age and idleness; time is an argument.

use super::Told;
use crate::types::Moment;
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// The most sessions at once; one more takes the place of the one that was silent longest.
const SESSIONS_MAX: usize = 64;
/// The longest life of a session: a working day.
const AGE_MAX: Duration = Duration::from_secs(8 * 60 * 60);
/// The longest silence.
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Wrong tokens that are listened to in one minute.
const WRONG_MAX: u32 = 20;
/// How often a place for one more wrong token comes back.
const WRONG_EVERY: Duration = Duration::from_secs(60 / WRONG_MAX as u64);

/// Bytes that nobody can guess.
pub(super) type Chance = [u8; 32];

/// Everybody who has signed in, and how many have tried in vain.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<Vec<Session>>,
    wrong: Mutex<Wrong>,
}

struct Session {
    digest: [u8; 32],
    /// The key of what its forms carry.
    key: Chance,
    began: Moment,
    seen: Moment,
    /// What the next page shall say.
    told: Option<Told>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(…)")
    }
}

#[derive(Debug, Default)]
struct Wrong {
    used: u32,
    since: Moment,
}

/// Somebody who has signed in, for the time of one request.
#[derive(Clone)]
pub(super) struct Visit {
    digest: [u8; 32],
    key: Chance,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visit(…)")
    }
}

impl Visit {
    /// What a form for this deed has to carry: it fits this session and this deed, and no other.
    pub(super) fn seal_of(&self, deed: &str) -> String {
        hex(&self.mac(deed).finalize().into_bytes())
    }

    /// Whether a form for this deed carries what it has to.
    pub(super) fn fits(&self, deed: &str, shown: &str) -> bool {
        self.seal_of(deed).as_bytes().ct_eq(shown.as_bytes()).into()
    }

    fn mac(&self, deed: &str) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.key).expect("a key of any length is one");
        mac.update(deed.as_bytes());
        mac
    }
}

impl Sessions {
    /// Opens a session and tells its name, which is not kept.
    pub(super) fn open(&self, name: &Chance, key: Chance, now: Moment) -> String {
        let name = hex(name);
        let mut open = self.open.lock();
        open.retain(|session| session.is_alive(now));
        if open.len() >= SESSIONS_MAX
            && let Some(oldest) = (0..open.len()).min_by_key(|nth| open[*nth].seen)
        {
            open.swap_remove(oldest);
        }
        open.push(Session { digest: digest(&name), key, began: now, seen: now, told: None });
        name
    }

    /// Whose name this is. A visit ends the silence, unless it is a script's: a page that renews itself is nobody's hand.
    pub(super) fn visit(&self, name: &str, is_by_hand: bool, now: Moment) -> Option<Visit> {
        let digest = digest(name);
        let mut open = self.open.lock();
        open.retain(|session| session.is_alive(now));
        // Digests of guesses are compared: how long that takes tells nothing of a name.
        let session = open.iter_mut().find(|session| session.digest == digest)?;
        if is_by_hand {
            session.seen = now;
        }
        Some(Visit { digest, key: session.key })
    }

    /// Ends a session.
    pub(super) fn close(&self, visit: &Visit) {
        self.open.lock().retain(|session| session.digest != visit.digest);
    }

    /// Leaves a word for the next page of this session.
    pub(super) fn tell(&self, visit: &Visit, told: Told) {
        let mut open = self.open.lock();
        if let Some(session) = open.iter_mut().find(|session| session.digest == visit.digest) {
            session.told = Some(told);
        }
    }

    /// Takes the word that was left.
    pub(super) fn take_told(&self, visit: &Visit) -> Option<Told> {
        let mut open = self.open.lock();
        open.iter_mut().find(|session| session.digest == visit.digest)?.told.take()
    }

    /// Counts a wrong token. `Some` when there were too many lately: how long until one more is listened to. It never
    /// keeps the right one out, so nobody can lock the operators out.
    pub(super) fn wrong_token(&self, now: Moment) -> Option<Duration> {
        let mut wrong = self.wrong.lock();
        let back = now.since(wrong.since).as_secs() / WRONG_EVERY.as_secs();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        if back > 0 {
            wrong.used = wrong.used.saturating_sub(back);
            wrong.since = match wrong.used {
                0 => now,
                _ => wrong.since + WRONG_EVERY * back,
            };
        }
        if wrong.used >= WRONG_MAX {
            return Some(WRONG_EVERY.saturating_sub(now.since(wrong.since)).max(Duration::from_secs(1)));
        }
        wrong.used += 1;
        None
    }
}

impl Session {
    fn is_alive(&self, now: Moment) -> bool {
        now.since(self.began) < AGE_MAX && now.since(self.seen) < IDLE_MAX
    }
}

fn digest(name: &str) -> [u8; 32] {
    Sha256::digest(name.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A `String` takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_ends_by_silence_by_age_and_by_its_owner() {
        let sessions = Sessions::default();
        let name = sessions.open(&[1; 32], [2; 32], at(0));
        assert_eq!(name.len(), 64);
        assert!(
            sessions.visit("", true, at(1)).is_none() && sessions.visit(&name[..63], true, at(1)).is_none()
        );
        assert!(sessions.visit(&name, true, at(30 * 60 - 1)).is_some());
        assert!(sessions.visit(&name, true, at(2 * 30 * 60 - 2)).is_some(), "each visit ends the silence");
        assert!(sessions.visit(&name, true, at(3 * 30 * 60 - 2)).is_none(), "silent for too long");
        assert!(sessions.visit(&name, true, at(1)).is_none(), "and gone for good");

        let name = sessions.open(&[1; 32], [2; 32], at(0));
        for minute in (20..480).step_by(20) {
            assert!(sessions.visit(&name, true, at(minute * 60)).is_some(), "minute {minute}");
        }
        assert!(sessions.visit(&name, true, at(480 * 60)).is_none(), "a working day is over");

        let name = sessions.open(&[1; 32], [2; 32], at(0));
        for minute in 0..30 {
            assert!(sessions.visit(&name, false, at(minute * 60)).is_some(), "minute {minute}");
        }
        assert!(
            sessions.visit(&name, false, at(30 * 60)).is_none(),
            "a page that renews itself is nobody's hand"
        );

        let name = sessions.open(&[1; 32], [2; 32], at(0));
        let visit = sessions.visit(&name, true, at(1)).expect("it is open");
        sessions.close(&visit);
        assert!(sessions.visit(&name, true, at(1)).is_none());
    }

    #[test]
    fn there_are_so_many_sessions_and_the_most_silent_one_goes() {
        let sessions = Sessions::default();
        let names: Vec<String> =
            (0..=SESSIONS_MAX as u64).map(|n| sessions.open(&[n as u8; 32], [0; 32], at(n))).collect();
        assert_eq!(sessions.open.lock().len(), SESSIONS_MAX);
        assert!(sessions.visit(&names[0], true, at(100)).is_none());
        assert!(sessions.visit(&names[1], true, at(100)).is_some());
    }

    #[test]
    fn what_a_form_carries_fits_one_session_and_one_deed() {
        let sessions = Sessions::default();
        let [one, other] = [[3; 32], [4; 32]].map(|key| {
            let name = sessions.open(&key, key, at(0));
            sessions.visit(&name, true, at(0)).expect("it is open")
        });
        let seal = one.seal_of("/connections/c1/disconnect");
        assert!(one.fits("/connections/c1/disconnect", &seal));
        assert!(!one.fits("/connections/c2/disconnect", &seal));
        assert!(!other.fits("/connections/c1/disconnect", &seal));
        assert!(!one.fits("/connections/c1/disconnect", ""));
    }

    #[test]
    fn wrong_tokens_are_slowed_to_their_rate() {
        let sessions = Sessions::default();
        for _ in 0..WRONG_MAX {
            assert_eq!(sessions.wrong_token(at(0)), None);
        }
        assert_eq!(sessions.wrong_token(at(0)), Some(WRONG_EVERY));
        assert_eq!(sessions.wrong_token(at(2)), Some(Duration::from_secs(1)));
        assert_eq!(sessions.wrong_token(at(3)), None, "one place came back");
        assert!(sessions.wrong_token(at(3)).is_some());
        for _ in 0..WRONG_MAX {
            assert_eq!(sessions.wrong_token(at(1000)), None);
        }
        assert!(sessions.wrong_token(at(1000)).is_some());
    }

    #[test]
    fn a_word_for_the_next_page_is_said_once() {
        let sessions = Sessions::default();
        let name = sessions.open(&[1; 32], [2; 32], at(0));
        let visit = sessions.visit(&name, true, at(0)).expect("it is open");
        sessions.tell(&visit, Told::done("done"));
        assert_eq!(sessions.take_told(&visit), Some(Told::done("done")));
        assert_eq!(sessions.take_told(&visit), None);
    }
}
