//! Takes out of Finch's answers what must never reach an app or a log: the secret that the request carried,
//! should an answer hold it. Lengths stay as they are, so that nothing else has to change.

use http::{HeaderMap, HeaderName};
use memchr::memmem;
use std::fmt;
use zeroize::Zeroizing;

/// The secrets of one exchange.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Zeroizing<Vec<u8>>>);

/// Tells how many there are, and nothing of them.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Looks for these. An empty one is none.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let known = secrets.into_iter().filter(|s| !s.is_empty());
        Self(known.map(|s| Zeroizing::new(s.to_vec())).collect())
    }

    /// Whether one of them stands in this.
    pub fn are_in(&self, text: &[u8]) -> bool {
        self.0.iter().any(|secret| memmem::find(text, secret).is_some())
    }

    /// Drops each header that holds one. Tells whether there was one.
    pub fn take_out_of_headers(&self, headers: &mut HeaderMap) -> bool {
        let leaking: Vec<HeaderName> = headers
            .iter()
            .filter(|(_, value)| self.are_in(value.as_bytes()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &leaking {
            headers.remove(name);
        }
        !leaking.is_empty()
    }

    /// Writes asterisks over each. Tells whether there was one.
    pub fn take_out_of_body(&self, body: &mut [u8]) -> bool {
        let mut is_found = false;
        for secret in &self.0 {
            let mut from = 0;
            while let Some(at) = memmem::find(&body[from..], secret) {
                let start = from + at;
                from = start + secret.len();
                body[start..from].fill(b'*');
                is_found = true;
            }
        }
        is_found
    }

    fn longest(&self) -> usize {
        self.0.iter().map(|secret| secret.len()).max().unwrap_or(0)
    }
}

/// A body that passes in pieces: a secret is found across their borders too.
#[derive(Debug, Default)]
pub struct Strainer {
    secrets: Secrets,
    held: Vec<u8>,
}

impl Strainer {
    /// One that looks for these.
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new() }
    }

    /// Takes a piece and gives what can no longer be part of a secret, and whether there was one.
    pub fn pass(&mut self, piece: &[u8]) -> (Vec<u8>, bool) {
        self.held.extend_from_slice(piece);
        let is_found = self.secrets.take_out_of_body(&mut self.held);
        let kept = self.secrets.longest().saturating_sub(1).min(self.held.len());
        let rest = self.held.split_off(self.held.len() - kept);
        (std::mem::replace(&mut self.held, rest), is_found)
    }

    /// What is left when the body is at its end.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_reflected_secret_is_taken_out() {
        let secrets = Secrets::new([&b"s3cret!"[..], b"", b"other"]);
        let mut headers = HeaderMap::new();
        headers.insert("finch-echo", HeaderValue::from_static("Bearer s3cret!"));
        headers.insert("finch-request-id", HeaderValue::from_static("r"));
        assert!(secrets.take_out_of_headers(&mut headers));
        assert!(!headers.contains_key("finch-echo") && headers.contains_key("finch-request-id"));
        assert!(!secrets.take_out_of_headers(&mut headers));
        let mut body = b"{\"echo\":\"s3cret!\",\"again\":\"s3cret!s3cret!\",\"other\":1}".to_vec();
        assert!(secrets.take_out_of_body(&mut body));
        assert_eq!(body, b"{\"echo\":\"*******\",\"again\":\"**************\",\"*****\":1}");
        assert!(!secrets.take_out_of_body(&mut body));
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
    }

    #[test]
    fn a_secret_is_found_wherever_the_pieces_break() {
        let body = b"abcs3cret!defs3crets3cret!s3";
        for size in 1..=body.len() {
            let mut strainer = Strainer::new(Secrets::new([&b"s3cret!"[..]]));
            let (mut out, mut found) = (Vec::new(), 0);
            for piece in body.chunks(size) {
                let (passed, is_found) = strainer.pass(piece);
                out.extend(passed);
                found += usize::from(is_found);
            }
            out.extend(strainer.finish());
            assert_eq!(out, b"abc*******defs3cret*******s3", "pieces of {size}");
            assert!(found > 0, "pieces of {size}");
        }
    }

    #[test]
    fn without_secrets_nothing_is_held_back() {
        let mut strainer = Strainer::default();
        assert_eq!(strainer.pass(b"abc"), (b"abc".to_vec(), false));
        assert_eq!(strainer.finish(), b"");
    }
}
