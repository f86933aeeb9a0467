//! What comes back from the server: a value, or a reason. No reason holds a secret: what the server says is shown only
//! where it cannot repeat what it was told.

use redis::{ErrorKind, RedisError, Value};
use std::fmt;

/// A value of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing, or Lua's `false` and `nil`.
    Nil,
    /// A whole number. Lua's numbers lose their fraction on the way.
    Int(i64),
    /// Bytes, or a status.
    Text(Vec<u8>),
    /// Values in order.
    List(Vec<Reply>),
}

impl Reply {
    /// The number; also one that is written as a text.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Reply::Int(n) => Some(*n),
            Reply::Text(_) => self.as_str()?.parse().ok(),
            Reply::Nil | Reply::List(_) => None,
        }
    }

    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Reply::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Reply::Nil | Reply::Int(_) | Reply::List(_) => None,
        }
    }

    /// The values.
    pub fn as_list(&self) -> Option<&[Reply]> {
        match self {
            Reply::List(values) => Some(values),
            Reply::Nil | Reply::Int(_) | Reply::Text(_) => None,
        }
    }
}

impl TryFrom<Value> for Reply {
    type Error = LinkError;

    fn try_from(value: Value) -> Result<Self, LinkError> {
        Ok(match value {
            Value::Nil => Reply::Nil,
            Value::Int(n) => Reply::Int(n),
            Value::BulkString(bytes) => Reply::Text(bytes),
            Value::SimpleString(text) => Reply::Text(text.into_bytes()),
            Value::Okay => Reply::Text(b"OK".to_vec()),
            Value::Array(values) => {
                Reply::List(values.into_iter().map(Reply::try_from).collect::<Result<_, _>>()?)
            }
            Value::ServerError(error) => {
                return Err(LinkError::of_server(error.code(), error.details().unwrap_or_default()));
            }
            // The older protocol, which perch speaks, knows no other kinds.
            _ => return Err(LinkError::BadReply("a kind of value that was not asked for".to_owned())),
        })
    }
}

/// Why there is no value. After any of these but [`LinkError::BadReply`] the link is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkError {
    /// No answer in time. What was asked may have been done, or may yet be.
    TimedOut,
    /// Another server of the cluster holds the keys now, or none does at the moment.
    Moved,
    /// The server is still reading its data from disk.
    Loading,
    /// It is a replica: it takes no writes.
    ReadOnly,
    /// It does not let perch in, or does not let it do this. What to look at.
    Refused(&'static str),
    /// It will not do any work now: its memory is full, too few replicas, another script. Its word for it.
    Unwilling(&'static str),
    /// No connection, or it broke. What was asked may have been done.
    Broken(String),
    /// An answer that cannot be: another kind of server, or a defect of the script.
    BadReply(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::TimedOut => f.write_str("it did not answer in time"),
            LinkError::Moved => {
                f.write_str("another node of the cluster holds the quota now, or none at the moment")
            }
            LinkError::Loading => f.write_str("it is still loading its data"),
            LinkError::ReadOnly => f.write_str("it is a replica, which takes no writes"),
            LinkError::Refused(why) => write!(f, "it refuses perch: {why}"),
            LinkError::Unwilling(why) => write!(f, "it does no work now: {why}"),
            LinkError::Broken(why) => write!(f, "no connection: {why}"),
            LinkError::BadReply(what) => write!(f, "it answered what it should not: {what}"),
        }
    }
}

impl std::error::Error for LinkError {}

impl LinkError {
    /// Every way to fail, as a metric label.
    pub(super) const KINDS: [&'static str; 8] =
        ["timed_out", "moved", "loading", "read_only", "refused", "unwilling", "broken", "bad_reply"];

    /// Which of [`LinkError::KINDS`] it is.
    pub(super) const fn kind(&self) -> &'static str {
        Self::KINDS[match self {
            LinkError::TimedOut => 0,
            LinkError::Moved => 1,
            LinkError::Loading => 2,
            LinkError::ReadOnly => 3,
            LinkError::Refused(_) => 4,
            LinkError::Unwilling(_) => 5,
            LinkError::Broken(_) => 6,
            LinkError::BadReply(_) => 7,
        }]
    }

    /// From the server's own words. Its code is one of a known set; its text is only looked through.
    pub(super) fn of_server(code: &str, text: &str) -> Self {
        // Servers before version 7 wrap what a script met into an ERR.
        let is = |word: &str| code == word || (code == "ERR" && text.contains(&format!("-{word} ")));
        let any = |words: &[&'static str]| words.iter().copied().find(|word| is(word));
        if any(&["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT"]).is_some() {
            return LinkError::Moved;
        }
        if is("LOADING") {
            return LinkError::Loading;
        }
        if any(&["READONLY", "MASTERDOWN"]).is_some() {
            return LinkError::ReadOnly;
        }
        match any(&["WRONGPASS", "NOAUTH", "NOPERM", "DENIED", "OOM", "MISCONF", "NOREPLICAS", "BUSY"]) {
            Some("WRONGPASS") => return LinkError::Refused("user or password is wrong"),
            Some("NOAUTH") => return LinkError::Refused("it wants a password; set limits.password"),
            Some("NOPERM") => {
                return LinkError::Refused(
                    "its rules (ACL) forbid perch a command or its keys; allow +@all on ~perch:*, or see the manual",
                );
            }
            Some("DENIED") => {
                return LinkError::Refused("it is in protected mode; give it a password, and perch the same");
            }
            Some("OOM") => return LinkError::Unwilling("its memory is full (OOM)"),
            Some("MISCONF") => {
                return LinkError::Unwilling("it cannot save to disk and stopped writes (MISCONF)");
            }
            Some("NOREPLICAS") => {
                return LinkError::Unwilling("too few replicas are attached (NOREPLICAS)");
            }
            Some("BUSY") => return LinkError::Unwilling("another script blocks it (BUSY)"),
            _ => {}
        }
        match (code, text) {
            ("ERR", text) if text.starts_with("max number of clients") => {
                LinkError::Unwilling("as many clients as it takes are connected (maxclients)")
            }
            ("ERR", text) if text.contains("AUTH") && text.contains("without any password configured") => {
                LinkError::Refused("it has no password, and perch was given one; take it out of limits")
            }
            ("ERR", text) if text.starts_with("invalid password") => {
                LinkError::Refused("user or password is wrong")
            }
            (code, text) => LinkError::BadReply(quoted(code, text)),
        }
    }

    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io if error.is_timeout() => LinkError::TimedOut,
            ErrorKind::Io => LinkError::Broken("it was closed".to_owned()),
            ErrorKind::AuthenticationFailed => LinkError::Refused("user or password is wrong"),
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Self::of_server(error.code().unwrap_or("ERR"), error.detail().unwrap_or_default())
            }
            _ => LinkError::BadReply("it does not speak Redis's protocol".to_owned()),
        }
    }
}

/// What the server said, on one line and not too long. Where it repeats what it was told, it is cut.
fn quoted(code: &str, text: &str) -> String {
    const CHARS_MAX: usize = 160;
    let text = text.split(", with args").next().unwrap_or_default();
    let mut out = String::new();
    for c in code.chars().take(20).chain([' ']).chain(text.chars()).take(CHARS_MAX) {
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_the_server_has_one_meaning() {
        for (code, text, meaning) in [
            ("MOVED", "866 127.0.0.1:7001", "another node"),
            ("ASK", "866 127.0.0.1:7001", "another node"),
            ("CLUSTERDOWN", "Hash slot not served", "another node"),
            ("LOADING", "Redis is loading the dataset in memory", "loading"),
            ("READONLY", "You can't write against a read only replica.", "a replica"),
            ("ERR", "Error running script (call to f_1): @user_script:1: -READONLY You can't", "a replica"),
            ("MASTERDOWN", "Link with MASTER is down", "a replica"),
            ("WRONGPASS", "invalid username-password pair or user is disabled.", "password is wrong"),
            ("ERR", "invalid password", "password is wrong"),
            ("NOAUTH", "Authentication required.", "set limits.password"),
            (
                "ERR",
                "AUTH <password> called without any password configured for the default user.",
                "it has no",
            ),
            ("NOPERM", "this user has no permissions to run the 'evalsha' command", "ACL"),
            ("DENIED", "Redis is running in protected mode", "protected mode"),
            ("OOM", "command not allowed when used memory > 'maxmemory'.", "full"),
            ("ERR", "Error running script: @user_script: 3: -OOM command not allowed", "full"),
            ("MISCONF", "Redis is configured to save RDB snapshots", "cannot save"),
            ("NOREPLICAS", "Not enough good replicas to write.", "too few replicas"),
            ("BUSY", "Redis is busy running a script.", "another script"),
            ("ERR", "max number of clients reached", "maxclients"),
            ("ERR", "user_script:1: attempt to index a nil value", "attempt to index"),
        ] {
            let error = LinkError::of_server(code, text);
            assert!(error.to_string().contains(meaning), "{code} {text}: {error}");
        }
    }

    #[test]
    fn what_the_server_was_told_is_not_repeated() {
        let text = "unknown command 'AUTH', with args beginning with: 'hunter2' \r\n";
        let error = LinkError::of_server("ERR", text);
        assert_eq!(error, LinkError::BadReply("ERR unknown command 'AUTH'".to_owned()));
        assert_eq!(quoted("ERR", &"x\n".repeat(500)).chars().count(), 160);
    }

    #[test]
    fn a_nested_error_is_an_error() {
        let nested = Value::Array(vec![Value::Int(1), Value::Array(vec![Value::Double(0.5)])]);
        assert!(matches!(Reply::try_from(nested), Err(LinkError::BadReply(_))));
        let list =
            Reply::try_from(Value::Array(vec![Value::Nil, Value::Int(7), Value::BulkString(b"8".to_vec())]));
        let list = list.expect("plain values");
        let numbers: Vec<_> = list.as_list().expect("a list").iter().map(Reply::as_int).collect();
        assert_eq!(numbers, [None, Some(7), Some(8)]);
    }
}
