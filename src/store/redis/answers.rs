//! Answers that replicas pass to each other, in the words of `answers.lua`.

use super::reply::{LinkError, Reply};
use std::time::Duration;

/// The script.
pub const SCRIPT: &str = include_str!("answers.lua");

/// The words of one call.
pub type Call = Vec<Vec<u8>>;

/// Of what is passed on, as it is named there: digests in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The call.
    pub name: String,
    /// Its connection.
    pub connection: String,
}

/// How far a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It has been sent.
    Sent,
    /// It waits for quota, and a person waits for it.
    Interactive,
    /// It waits for quota, for a job.
    Batch,
}

impl Stage {
    const ALL: [(Stage, &'static str); 3] =
        [(Stage::Sent, "s"), (Stage::Interactive, "i"), (Stage::Batch, "b")];

    fn as_str(self) -> &'static str {
        match self {
            Stage::Sent => "s",
            Stage::Interactive => "i",
            Stage::Batch => "b",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, word)| *word == text).map(|(stage, _)| stage)
    }
}

/// A question for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Whose and what.
    pub place: &'a Place,
    /// The name of this reading; no other one has it.
    pub me: &'a str,
    /// How long a claim lasts when nothing more is heard of its reader.
    pub lease: Duration,
    /// How far this reading is.
    pub stage: Stage,
    /// The epoch of what the caller keeps itself.
    pub have: Option<&'a str>,
    /// Whether it takes another's answer.
    pub looks: bool,
    /// Whether it reads for all.
    pub claims: bool,
    /// Whose reading it waits for.
    pub follows: Option<&'a str>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// What the caller keeps itself holds.
    Same,
    /// An answer.
    Answer {
        /// Whether it is kept for all, and not only for those who waited.
        is_kept: bool,
        /// The epoch it belongs to.
        epoch: String,
        /// How long ago it was put there.
        age: Duration,
        /// How long it is still kept.
        left: Duration,
        /// Sealed.
        answer: Vec<u8>,
    },
    /// Somebody reads it now.
    Wait {
        /// Which reading.
        who: String,
        /// How far it is.
        stage: Stage,
        /// The epoch.
        epoch: String,
    },
    /// The caller reads it, for all.
    Lead(String),
    /// The caller reads it, for itself.
    Alone(String),
}

/// Asks for an answer.
pub fn ask(ask: &Ask<'_>) -> Call {
    let flag = |is: bool| if is { "1" } else { "0" };
    words(&[
        "ask",
        &ask.place.name,
        &ask.place.connection,
        ask.me,
        &millis(ask.lease),
        ask.stage.as_str(),
        ask.have.unwrap_or_default(),
        flag(ask.looks),
        flag(ask.claims),
        ask.follows.unwrap_or_default(),
    ])
}

/// Says that the reader is alive. Answered with [`read_flag`], as all of the following.
pub fn hold(place: &Place, me: &str, lease: Duration, stage: Stage) -> Call {
    words(&["hold", &place.name, me, &millis(lease), stage.as_str()])
}

/// Asks whether anybody waits for what the reader has.
pub fn done(place: &Place, me: &str) -> Call {
    words(&["done", &place.name, me])
}

/// Says that the reader has nothing to pass on. When it was sent to Finch, who waits goes by itself; else one of them
/// reads for all.
pub fn fail(place: &Place, me: &str, was_sent: bool) -> Call {
    words(&["fail", &place.name, me, if was_sent { "1" } else { "0" }])
}

/// Passes an answer on: kept for `span`, or only for those who wait. No more than `bytes_max` are kept together.
pub fn put(
    place: &Place,
    (me, epoch): (&str, &str),
    span: Option<Duration>,
    bytes_max: usize,
    answer: Vec<u8>,
) -> Call {
    let (use_, span) = span.map_or(("0", "0".to_owned()), |span| ("1", millis(span)));
    let bytes_max = bytes_max.to_string();
    let mut call = words(&["put", &place.name, &place.connection, me, epoch, &span, use_, &bytes_max]);
    call.push(answer);
    call
}

/// Says that a connection's data has changed. It is remembered for `span`, longer than anything that was asked for before.
pub fn moved(connection: &str, span: Duration) -> Call {
    words(&["move", connection, &millis(span)])
}

/// Says that everybody's has.
pub fn all_moved() -> Call {
    words(&["move_all"])
}

/// The answer to [`ask`].
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_asked(reply: Reply) -> Result<Asked, LinkError> {
    let bad = || LinkError::BadReply("no answer to a question for an answer".to_owned());
    let Reply::List(mut list) = reply else { return Err(bad()) };
    let answer = match list.get_mut(4) {
        Some(Reply::Text(bytes)) => std::mem::take(bytes),
        _ => Vec::new(),
    };
    let text = |at: usize| list.get(at).and_then(Reply::as_str).map(str::to_owned).ok_or_else(bad);
    let span = |at: usize| {
        let millis = list.get(at).and_then(Reply::as_int).ok_or_else(bad)?;
        Ok::<_, LinkError>(Duration::from_millis(u64::try_from(millis).unwrap_or_default()))
    };
    match text(0)?.as_str() {
        "same" => Ok(Asked::Same),
        word @ ("kept" | "told") => {
            let (age, left) = (span(2)?, span(3)?);
            Ok(Asked::Answer { is_kept: word == "kept", epoch: text(1)?, age, left, answer })
        }
        "wait" => {
            let stage = Stage::parse(&text(3)?).ok_or_else(bad)?;
            Ok(Asked::Wait { epoch: text(1)?, who: text(2)?, stage })
        }
        "lead" => text(1).map(Asked::Lead),
        "alone" => text(1).map(Asked::Alone),
        _ => Err(bad()),
    }
}

/// Whether it was so.
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_flag(reply: &Reply) -> Result<bool, LinkError> {
    match reply.as_list() {
        Some([flag]) => flag.as_int().map(|flag| flag == 1),
        _ => None,
    }
    .ok_or_else(|| LinkError::BadReply("no flag where one should be".to_owned()))
}

fn words(words: &[&str]) -> Call {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn millis(span: Duration) -> String {
    span.as_millis().max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &str) -> Reply {
        Reply::Text(words.as_bytes().to_vec())
    }

    #[test]
    fn every_word_of_the_script_is_read() {
        let read = |list: Vec<Reply>| read_asked(Reply::List(list));
        assert_eq!(read(vec![text("same")]), Ok(Asked::Same));
        let kept = vec![text("kept"), text("1.2"), text("1500"), Reply::Int(7), Reply::Text(vec![0, 255])];
        let (age, left) = (Duration::from_millis(1500), Duration::from_millis(7));
        let answer =
            Asked::Answer { is_kept: true, epoch: "1.2".to_owned(), age, left, answer: vec![0, 255] };
        assert_eq!(read(kept), Ok(answer));
        let wait = Asked::Wait { who: "me".to_owned(), stage: Stage::Sent, epoch: "1.".to_owned() };
        assert_eq!(read(vec![text("wait"), text("1."), text("me"), text("s")]), Ok(wait));
        assert_eq!(read(vec![text("lead"), text("1.")]), Ok(Asked::Lead("1.".to_owned())));
        assert_eq!(read(vec![text("alone"), text("1.")]), Ok(Asked::Alone("1.".to_owned())));
        for bad in [
            vec![],
            vec![text("new")],
            vec![text("lead")],
            vec![text("wait"), text("1."), text("me"), text("?")],
        ] {
            assert!(matches!(read(bad.clone()), Err(LinkError::BadReply(_))), "{bad:?}");
        }
        assert_eq!(read_flag(&Reply::List(vec![Reply::Int(1)])), Ok(true));
        assert!(read_flag(&Reply::Int(1)).is_err());
    }

    #[test]
    fn a_person_follows_no_job() {
        assert!(Stage::Sent < Stage::Interactive && Stage::Interactive < Stage::Batch);
        assert!(Stage::ALL.into_iter().all(|(stage, word)| stage.as_str() == word));
    }
}
