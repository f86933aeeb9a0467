//! The whole gateway under the bytes of any Finch: the app gets exactly one whole answer, never the token, and the next
//! call gets its own answer and nothing that was left of this one.

use super::rig::{PATIENCE, Rig, Whole, answers, tells_a_secret};
use std::sync::Mutex;

/// A gateway that an answer may have taught not to call any more; then there is a new one.
static RIG: Mutex<Option<Rig>> = Mutex::new(None);

const CALLS: [&str; 4] = [
    "GET /employer/directory HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n\r\n",
    "POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 58\r\n\r\n{\"requests\":[{\"individual_id\":\"a\"},{\"individual_id\":\"b\"}]}",
    "POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nPerch-Repair: pending\r\nConnection: close\r\nContent-Length: 58\r\n\r\n{\"requests\":[{\"individual_id\":\"a\"},{\"individual_id\":\"b\"}]}",
    "GET /providers HTTP/1.1\r\nHost: perch\r\nConnection: close\r\n\r\n",
];

/// Which call, and what Finch says to it before it closes.
pub fn target(data: &[u8]) {
    let Some((which, said)) = data.split_first() else { return };
    let call = CALLS[usize::from(*which) % CALLS.len()];
    let mut guard = RIG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut rig = guard.take().unwrap_or_else(|| Rig::start(PATIENCE));
    let mut heard = ask(&rig, call, said);
    if rig.is_unsaid() {
        rig = Rig::start(PATIENCE);
        heard = ask(&rig, call, said);
    }
    assert!(!tells_a_secret(&heard), "the token, or the secret");
    assert_eq!(answers(&heard, Whole::All).len(), 1, "{}", String::from_utf8_lossy(&heard));
    let is_kept = !rig.is_unsaid();
    let next = rig.send(b"GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: globex\r\nConnection: close\r\n\r\n");
    let [(status, body)] = &answers(&next, Whole::All)[..] else {
        panic!("{}", String::from_utf8_lossy(&next))
    };
    assert!(
        *status != 200 || body == b"{\"id\":\"c\"}",
        "another's answer: {}",
        String::from_utf8_lossy(body)
    );
    rig.came();
    *guard = is_kept.then_some(rig);
}

fn ask(rig: &Rig, call: &str, said: &[u8]) -> Vec<u8> {
    rig.says(said);
    rig.send(call.as_bytes())
}
