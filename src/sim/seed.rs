//! Chance that can be repeated: every id, name and amount follows from the seed and from what it is for.

use uuid::Builder;

/// A stream of numbers that depends on nothing but how it was begun (`SplitMix64`).
#[derive(Debug, Clone)]
pub(super) struct Seed(u64);

impl Seed {
    /// The stream for one purpose: the same seed and the same words give the same stream.
    pub(super) fn of(seed: u64, words: &[&str]) -> Self {
        // FNV-1a, with a separator so that ["ab", "c"] is not ["a", "bc"].
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for word in words {
            for byte in word.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        let mut stream = Seed(hash);
        stream.next();
        stream
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not with, `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// True `percent` times in a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True with this probability, from 0 to 1.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        // 53 bits fill a double exactly.
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < probability
    }

    /// One of the choices, which must not be empty.
    pub(super) fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let at = self.below(choices.len() as u64) as usize;
        choices.get(at).copied().unwrap_or_default()
    }

    /// An id in the form of Finch's.
    pub(super) fn uuid(&mut self) -> String {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_give_the_same_id_and_other_words_another() {
        let id = |seed, words: &[&str]| Seed::of(seed, words).uuid();
        assert_eq!(id(1, &["a", "b"]), id(1, &["a", "b"]));
        assert_ne!(id(1, &["a", "b"]), id(1, &["ab"]));
        assert_ne!(id(1, &["a", "b"]), id(2, &["a", "b"]));
    }
}
