//! `tracestate`: a list of what other tracing systems keep with a trace. perch adds nothing to it and only hands it on,
//! so it is held to the recommendation's grammar and to its least length, or it is dropped whole.

/// The most members of a list (W3C Trace Context §3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// The length that everybody hands on (§3.3.1.5); what is longer loses members.
const KEPT_BYTES: usize = 512;
/// Members longer than this go first (§3.3.1.5).
const LARGE_BYTES: usize = 128;

/// A list that can be handed on; empty when there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceState(Box<str>);

impl TraceState {
    /// Reads the header's lines, in their order, as one list. Anything unsound in it makes it empty.
    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut members: Vec<&str> = Vec::new();
        for line in lines {
            let Ok(line) = std::str::from_utf8(line) else { return Self::default() };
            for member in line.split(',') {
                let member = member.trim_matches([' ', '\t']);
                if member.is_empty() {
                    continue;
                }
                let is_new = |key: &str| members.iter().all(|known| key_of(known) != key);
                if members.len() == MEMBERS_MAX || !is_member(member) || !is_new(key_of(member)) {
                    return Self::default();
                }
                members.push(member);
            }
        }
        Self(shortened(members).join(",").into())
    }

    /// As it goes out.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hand on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn shortened(mut members: Vec<&str>) -> Vec<&str> {
    let bytes = |members: &[&str]| members.iter().map(|m| m.len() + 1).sum::<usize>().saturating_sub(1);
    if bytes(&members) > KEPT_BYTES {
        members.retain(|member| member.len() <= LARGE_BYTES);
    }
    while bytes(&members) > KEPT_BYTES {
        members.pop();
    }
    members
}

fn key_of(member: &str) -> &str {
    member.split_once('=').map_or(member, |(key, _)| key)
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let is_key = match key.split_once('@') {
        // The tenant of a system that has several.
        Some((tenant, system)) => is_name(tenant, 241, true) && is_name(system, 14, false),
        None => is_name(key, 256, false),
    };
    let is_value = |b: u8| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=';
    is_key && (1..=256).contains(&value.len()) && value.bytes().all(is_value) && !value.ends_with(' ')
}

fn is_name(name: &str, bytes_max: usize, may_begin_with_digit: bool) -> bool {
    let begins = |b: u8| b.is_ascii_lowercase() || (may_begin_with_digit && b.is_ascii_digit());
    let goes_on = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(&b);
    name.len() <= bytes_max && name.bytes().next().is_some_and(begins) && name.bytes().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> String {
        TraceState::read(lines.iter().map(|line| line.as_bytes())).as_str().to_owned()
    }

    #[test]
    fn a_list_is_handed_on_in_its_order() {
        assert_eq!(
            read(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]),
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
        );
        assert_eq!(read(&["a=1 , b=2,,", "\tc=3"]), "a=1,b=2,c=3");
        assert_eq!(
            read(&["1fw529a3039@dt=FfUCYKO9DzMyyYo1,a*/-_0= x"]),
            "1fw529a3039@dt=FfUCYKO9DzMyyYo1,a*/-_0= x"
        );
        assert!(TraceState::default().is_empty() && read(&[]).is_empty());
    }

    #[test]
    fn an_unsound_list_is_dropped_whole() {
        let long = format!("a={}", "x".repeat(257));
        let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for bad in [
            "a", "a=", "=1", "A=1", "1a=1", "a=1,a=2", "a=b=c", "a@=1", "@b=1", "a@b@c=1", "a b=1",
            "a=\u{e9}", &long, &many,
        ] {
            assert_eq!(read(&["ok=1", bad]), "", "{bad}");
        }
    }

    #[test]
    fn a_long_list_loses_its_large_members_and_then_its_last() {
        let (large, small) =
            (format!("large={}", "x".repeat(200)), |n: usize| format!("k{n:02}={}", "y".repeat(40)));
        let all: Vec<String> = std::iter::once(large.clone()).chain((0..20).map(small)).collect();
        let kept = read(&[&all.join(",")]);
        assert!(kept.len() <= KEPT_BYTES && kept.starts_with("k00=") && kept.contains("k10="), "{kept}");
        let short = read(&[&format!("{large},{}", small(1))]);
        assert_eq!(short, format!("{large},{}", small(1)), "what fits stays");
    }
}
