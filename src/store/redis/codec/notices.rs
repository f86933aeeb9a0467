//! What replicas tell each other, in the script's words. A notice is a text to the script, which only keeps it for a
//! while and in order.

use super::{Call, Heard, bad, heard, micros, word};
use crate::limit::Notice;
use crate::limit::beat::Incarnation;
use crate::store::redis::{LinkError, Reply};
use std::time::Duration;

/// What was told since, in the order of its telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Where to go on.
    pub cursor: u64,
    /// There may be more after that, already now.
    pub has_more: bool,
    /// What others told and what of it still lasts, and for how long. What this version does not understand is left out.
    pub told: Vec<(Notice, Duration)>,
}

/// Tells the others something that lasts this long.
pub fn post(from: Incarnation, notice: &Notice, span: Duration) -> Call {
    vec![b"post".to_vec(), run(from), word(micros(span)), notice.to_text().into_bytes()]
}

/// Asks for what others than `from` told after the cursor; 0 is everything that lasts.
pub fn news(from: Incarnation, cursor: u64) -> Call {
    vec![b"news".to_vec(), run(from), word(cursor)]
}

/// Asks to be the only one with this name within the span. Answered with [`super::read_flag`].
pub fn claim(name: &str, span: Duration) -> Call {
    vec![b"claim".to_vec(), name.as_bytes().to_vec(), word(micros(span))]
}

/// The answer to [`news`].
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_news(reply: &Reply) -> Result<Heard<News>, LinkError> {
    heard(reply, |words| {
        let (cursor, has_more) = (words.number()?, words.flag()?);
        let list = words.next()?.as_list().ok_or_else(|| bad("no list of notices"))?;
        let (pairs, []) = list.as_chunks::<2>() else { return Err(bad("half a notice")) };
        let mut told = Vec::with_capacity(pairs.len());
        for [left, text] in pairs {
            let left = left.as_int().and_then(|left| u64::try_from(left).ok());
            let left = left.ok_or_else(|| bad("no span where one should be"))?;
            if let Some(notice) = text.as_str().and_then(Notice::parse) {
                told.push((notice, Duration::from_micros(left)));
            }
        }
        Ok(News { cursor, has_more, told })
    })
}

fn run(incarnation: Incarnation) -> Vec<u8> {
    format!("{:016x}", incarnation.0).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Subject;
    use crate::store::redis::codec::Told;

    fn text(words: &str) -> Reply {
        Reply::Text(words.as_bytes().to_vec())
    }

    fn notice() -> Notice {
        Notice::Hold { subject: Subject::Application, span: Duration::from_secs(1) }
    }

    fn shown(call: &Call) -> Vec<String> {
        call.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn every_operation_has_its_arguments() {
        let (from, said) = (Incarnation(0xAB), notice().to_text());
        let posted = shown(&post(from, &notice(), Duration::from_millis(2)));
        assert_eq!(posted, ["post", "00000000000000ab", "2000", &said]);
        assert_eq!(shown(&news(from, 7)), ["news", "00000000000000ab", "7"]);
        assert_eq!(shown(&claim("probe:x y", Duration::from_secs(1))), ["claim", "probe:x y", "1000000"]);
    }

    #[test]
    fn what_is_not_understood_is_left_out_of_the_news() {
        let list = vec![text("5"), text("{\"is\":\"new\"}"), text("7"), text(&notice().to_text())];
        let reply = Reply::List(vec![Reply::Int(1), Reply::Int(9), Reply::Int(1), Reply::List(list)]);
        let told = vec![(notice(), Duration::from_micros(7))];
        let what = News { cursor: 9, has_more: true, told };
        assert_eq!(read_news(&reply), Ok(Heard::Told(Told { now: 1, what })));
    }

    #[test]
    fn what_cannot_be_news_is_a_bad_reply() {
        for list in [Reply::Nil, Reply::List(vec![text("1")]), Reply::List(vec![text("-1"), text("x")])] {
            let reply = Reply::List(vec![Reply::Int(1), Reply::Int(9), Reply::Int(0), list]);
            assert!(matches!(read_news(&reply), Err(LinkError::BadReply(_))), "{reply:?}");
        }
    }
}
