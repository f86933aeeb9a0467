//! Reads one value: durations, sizes, numbers, words. Each complaint says what was found, what is needed, and, where
//! it can be guessed, what to write.

use super::problem::{Check, Complaint, Place, nearest, shown};
use std::time::Duration;
use toml::Value;

/// One key's value and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) place: Place,
}

impl Setting {
    /// The value as a text.
    pub(super) fn text(&self) -> Check<&str> {
        self.value
            .as_str()
            .ok_or_else(|| Complaint::new(format!("is {}; a text in quotes is needed", kind(&self.value))))
    }

    /// A text as it has to be written where this setting stands.
    pub(super) fn written(&self, text: &str) -> String {
        if self.place.variable().is_some() { text.to_owned() } else { format!("\"{text}\"") }
    }
}

/// What a value is, for a message; the value itself may be a secret in the wrong place.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// `true` or `false`.
pub(super) fn flag(setting: &Setting) -> Check<bool> {
    match &setting.value {
        Value::Boolean(flag) => Ok(*flag),
        Value::String(word) => {
            let complaint =
                Complaint::new(format!("is \"{}\"; true or false, without quotes, is needed", shown(word)));
            Err(match word.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" | "on" | "1" => complaint.hint("write true"),
                "false" | "no" | "n" | "off" | "0" => complaint.hint("write false"),
                _ => complaint,
            })
        }
        other => Err(Complaint::new(format!("is {}; true or false is needed", kind(other)))),
    }
}

/// A whole number between `least` and `most`.
pub(super) fn whole(setting: &Setting, least: u32, most: u32) -> Check<u32> {
    let n = match &setting.value {
        Value::Integer(n) => *n,
        Value::String(text) if text.parse::<u32>().is_ok() => {
            return Err(Complaint::new("is a text; a whole number is needed")
                .hint(format!("write {text}, without quotes")));
        }
        other => return Err(Complaint::new(format!("is {}; a whole number is needed", kind(other)))),
    };
    match u32::try_from(n) {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(Complaint::new(format!("is {n}; it must be between {least} and {most}"))),
    }
}

/// One word out of a closed set.
pub(super) fn word<T: Copy>(setting: &Setting, set: &[(&str, T)]) -> Check<T> {
    let text = setting.text()?;
    if let Some((_, meaning)) = set.iter().find(|(name, _)| *name == text) {
        return Ok(*meaning);
    }
    let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
    let complaint = Complaint::new(format!("is \"{}\"; it can be {}", shown(text), listed(&names)));
    Err(match nearest(text, names.into_iter()) {
        Some(name) => complaint.hint(format!("did you mean {}?", setting.written(name))),
        None => complaint,
    })
}

/// `a, b or c`, each in quotes.
fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => quoted.concat(),
    }
}

/// The longest duration. A year is more than any wait; sums of a few of them cannot overflow.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A duration such as `15s`; zero only where `zero` says so.
pub(super) fn duration(setting: &Setting) -> Check<Duration> {
    let span = duration_or_zero(setting)?;
    if span.is_zero() {
        return Err(Complaint::new("is zero; it must be longer"));
    }
    Ok(span)
}

/// Reads a duration such as `30m` where it is no setting: on a command line.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    // Like a variable's value it stands without quotes.
    let place = Place::Variable(String::new());
    duration(&Setting { value: Value::String(text.to_owned()), place }).map_err(|complaint| {
        match complaint.suggestion {
            Some(suggestion) => format!("{}; {suggestion}", complaint.what),
            None => complaint.what,
        }
    })
}

/// A duration such as `15s`, `0s` included.
pub(super) fn duration_or_zero(setting: &Setting) -> Check<Duration> {
    const FORM: &str = "a duration is a whole number and one of ms, s, m, h, d";
    let no_unit = |n: &str| {
        Complaint::new(format!("is {n} without a unit; {FORM}"))
            .hint(format!("write {}", setting.written(&format!("{n}s"))))
    };
    let text = match &setting.value {
        Value::String(text) if is_digits(text) => return Err(no_unit(&shown(text))),
        Value::String(text) => text,
        Value::Integer(n) => return Err(no_unit(&n.to_string())),
        other => return Err(Complaint::new(format!("is {}; {FORM}", kind(other))).hint("write \"15s\"")),
    };
    let (digits, unit) = number_and_unit(text);
    let unit_ms = |unit| match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60 * 1000),
        "h" => Some(60 * 60 * 1000),
        "d" => Some(24 * 60 * 60 * 1000),
        _ => None,
    };
    if let Some(unit_ms) = unit_ms(unit).filter(|_| is_digits(digits)) {
        let ms = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
        return match ms.map(Duration::from_millis) {
            Some(span) if span <= DURATION_MAX => Ok(span),
            _ => Err(Complaint::new(format!("is {}; it can be 366d at most", shown(text)))),
        };
    }
    let complaint = Complaint::new(format!("is \"{}\"; {FORM}", shown(text)));
    let meant = match unit.trim().to_lowercase().as_str() {
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return Err(complaint),
    };
    Err(match is_digits(digits.trim()) {
        true => complaint.hint(format!("write {}", setting.written(&format!("{}{meant}", digits.trim())))),
        false => complaint,
    })
}

/// A size in bytes such as `32MiB`, or a plain number of bytes, between `least` and `most`.
pub(super) fn bytes(setting: &Setting, least: u64, most: u64) -> Check<usize> {
    const FORM: &str = "a size is a whole number and one of B, KB, KiB, MB, MiB, GB, GiB";
    let size = match &setting.value {
        Value::Integer(n) => u64::try_from(*n).ok(),
        Value::String(text) => {
            let (digits, unit) = number_and_unit(text);
            match size_unit(unit).filter(|_| is_digits(digits)) {
                Some(unit) => digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)),
                None => {
                    let complaint = Complaint::new(format!("is \"{}\"; {FORM}", shown(text)));
                    let meant = match unit.trim().to_lowercase().as_str() {
                        "" | "b" | "byte" | "bytes" => "B",
                        "k" | "kb" => "KB",
                        "kib" => "KiB",
                        "m" | "mb" => "MB",
                        "mib" => "MiB",
                        "g" | "gb" => "GB",
                        "gib" => "GiB",
                        _ => return Err(complaint),
                    };
                    let digits = digits.trim();
                    return Err(match is_digits(digits) {
                        true => {
                            complaint.hint(format!("write {}", setting.written(&format!("{digits}{meant}"))))
                        }
                        false => complaint,
                    });
                }
            }
        }
        other => return Err(Complaint::new(format!("is {}; {FORM}", kind(other))).hint("write \"32MiB\"")),
    };
    match size.filter(|n| (least..=most).contains(n)).and_then(|n| usize::try_from(n).ok()) {
        Some(n) => Ok(n),
        None => Err(Complaint::new(format!("must be between {} and {}", size_text(least), size_text(most)))),
    }
}

fn size_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "B" => 1,
        "KB" | "kB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    })
}

/// A bound as it may be written; bounds are whole powers of 1024.
fn size_text(size: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if size >= unit && size.is_multiple_of(unit) {
            return format!("{}{name}", size / unit);
        }
    }
    format!("{size}B")
}

/// Splits where the digits end.
fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    text.split_at(end)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `"50%"` or the fraction `0.5`, as percent.
pub(super) fn percent(s: &Setting, min: u32, max: u32) -> Check<u32> {
    let form = format!("it must be between \"{min}%\" and \"{max}%\"");
    let percent = match &s.value {
        Value::String(text) => text.strip_suffix('%').and_then(|n| n.parse::<u32>().ok()),
        // Rounded to whole percents; what is no number of them is no share either.
        Value::Float(part) => (0..=100).find(|percent| (f64::from(*percent) - part * 100.0).abs() < 0.5),
        Value::Integer(n) => {
            let hint = format!("write {}", s.written(&format!("{n}%")));
            return Err(Complaint::new(format!("is {n}, a number of what is not said; {form}")).hint(hint));
        }
        other => return Err(Complaint::new(format!("is {}; {form}", kind(other)))),
    };
    match percent {
        Some(percent) if (min..=max).contains(&percent) => Ok(percent),
        _ => Err(Complaint::new(format!("is {}; {form}", shown(&s.value.to_string())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(value: impl Into<Value>) -> Setting {
        Setting { value: value.into(), place: Place::Default { line: 1, column: 1 } }
    }

    #[test]
    fn a_duration_is_read_as_an_operator_writes_it() {
        for (text, ms) in
            [("250ms", 250), ("15s", 15_000), ("6m", 360_000), ("1h", 3_600_000), ("30d", 2_592_000_000)]
        {
            assert_eq!(duration(&setting(text)), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(duration_or_zero(&setting("0s")), Ok(Duration::ZERO));
        assert!(duration(&setting("0s")).is_err());
    }

    #[test]
    fn a_duration_that_is_not_one_comes_with_what_was_probably_meant() {
        for (text, meant) in [
            ("15", Some("\"15s\"")),
            ("15 s", Some("\"15s\"")),
            ("15S", Some("\"15s\"")),
            ("6min", Some("\"6m\"")),
            ("2 hours", Some("\"2h\"")),
            ("1.5s", None),
            ("-3s", None),
            ("1h30m", None),
            ("soon", None),
            ("", None),
            ("s", None),
            ("٣s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("367d", None),
        ] {
            let complaint = duration_or_zero(&setting(text)).expect_err(text);
            assert_eq!(complaint.suggestion, meant.map(|m| format!("write {m}")), "{text}");
        }
        let complaint = duration(&setting(15)).expect_err("no unit");
        assert_eq!(complaint.suggestion.as_deref(), Some("write \"15s\""));
    }

    #[test]
    fn a_size_is_read_with_its_unit_and_kept_within_its_bounds() {
        for (text, size) in
            [("1B", 1), ("64KiB", 65_536), ("1MB", 1_000_000), ("32MiB", 33_554_432), ("1GB", 1_000_000_000)]
        {
            assert_eq!(bytes(&setting(text), 1, 1 << 30), Ok(size), "{text}");
        }
        assert_eq!(bytes(&setting(4096), 1, 1 << 30), Ok(4096));
        for value in [setting("2GiB"), setting("0B"), setting(-1), setting("99999999999999999999GiB")] {
            let complaint = bytes(&value, 1, 1 << 30).expect_err("out of bounds");
            assert_eq!(complaint.what, "must be between 1B and 1GiB");
        }
        for (text, meant) in
            [("32mb", Some("write \"32MB\"")), ("16M", Some("write \"16MB\"")), ("1.5MiB", None), ("x", None)]
        {
            let complaint = bytes(&setting(text), 1, 1 << 30).expect_err(text);
            assert_eq!(complaint.suggestion.as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn a_word_is_one_of_its_set_or_comes_with_the_nearest() {
        let set = [("share", 1), ("refuse", 2)];
        assert_eq!(word(&setting("refuse"), &set), Ok(2));
        let complaint = word(&setting("refues"), &set).expect_err("misspelt");
        assert_eq!(complaint.what, "is \"refues\"; it can be \"share\" or \"refuse\"");
        assert_eq!(complaint.suggestion.as_deref(), Some("did you mean \"refuse\"?"));
    }
}
