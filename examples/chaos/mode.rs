//! What a relay does to the bytes that cross it. One line of text each, as the relay is told.

use std::fmt;

/// A way in which a link is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing is wrong.
    Pass,
    /// Every piece comes this many milliseconds later.
    Delay(u64),
    /// Connections stay open and nothing crosses. What was held for somebody who left is dropped.
    Stall,
    /// What is open is reset now and then again and again; new connections are taken and reset.
    Refuse,
    /// A reset after this many bytes of the answer.
    Reset(u64),
    /// An ordinary end after this many bytes of the answer.
    Truncate(u64),
    /// A few bytes at a time.
    Dribble,
    /// Some pieces have a run of bytes overwritten: requests on the way from an app, answers elsewhere.
    Corrupt,
}

impl Mode {
    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Mode::Pass => "pass",
            Mode::Delay(_) => "delay",
            Mode::Stall => "stall",
            Mode::Refuse => "refuse",
            Mode::Reset(_) => "reset",
            Mode::Truncate(_) => "truncate",
            Mode::Dribble => "dribble",
            Mode::Corrupt => "corrupt",
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let name = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(match name {
            "pass" => Mode::Pass,
            "delay" => Mode::Delay(number()?),
            "stall" => Mode::Stall,
            "refuse" => Mode::Refuse,
            "reset" => Mode::Reset(number()?),
            "truncate" => Mode::Truncate(number()?),
            "dribble" => Mode::Dribble,
            "corrupt" => Mode::Corrupt,
            _ => return None,
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Delay(number) | Mode::Reset(number) | Mode::Truncate(number) => {
                write!(f, "{} {number}", self.name())
            }
            Mode::Pass | Mode::Stall | Mode::Refuse | Mode::Dribble | Mode::Corrupt => {
                f.write_str(self.name())
            }
        }
    }
}
