//! The search for what must turn up nowhere: every artefact of a world, and every spelling a secret
//! could hide in.

use super::{Ended, Process, World};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use std::collections::BTreeMap;

/// Something that bytes came out of, by its name.
pub type Artefacts = BTreeMap<String, Vec<u8>>;

/// The spellings of a secret: as it is, in base64 at each of its three alignments, in hexadecimal,
/// as UTF-16, and backwards for good measure.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut found = vec![bytes.to_vec(), bytes.iter().rev().copied().collect()];
    for shift in 0..3 {
        let shifted = [vec![0; shift], bytes.to_vec()].concat();
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            // The first and the last characters also depend on what stands before and behind.
            let from = (shift * 8).div_ceil(6);
            let to = shifted.len() * 8 / 6;
            found.push(text.as_bytes()[from..to].to_vec());
        }
    }
    let hex = |upper: bool| -> String {
        bytes.iter().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect()
    };
    found.extend([hex(false).into_bytes(), hex(true).into_bytes()]);
    found.push(bytes.iter().flat_map(|b| [*b, 0]).collect());
    found
}

/// Where any of these secrets stands, in any spelling: `artefact: secret, spelling, surroundings`.
pub fn find(artefacts: &Artefacts, secrets: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for secret in secrets {
        assert!(secret.len() >= 8, "{secret:?} is too short to be searched for");
        for (nth, spelling) in spellings(secret).into_iter().enumerate() {
            for (name, bytes) in artefacts {
                let Some(at) = memmem::find(bytes, &spelling) else {
                    continue;
                };
                let around = &bytes[at.saturating_sub(60)..bytes.len().min(at + spelling.len() + 20)];
                let around = String::from_utf8_lossy(around).into_owned();
                found.push(format!("{name}: {secret}, spelling {nth}: …{around}…"));
            }
        }
    }
    found
}

impl World {
    /// Every file of the world's folder.
    pub fn files(&self) -> Artefacts {
        std::fs::read_dir(self.dir.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry"))
            .filter_map(|entry| {
                let name = entry.file_name().into_string().expect("text");
                Some((name, std::fs::read(entry.path()).ok()?))
            })
            .collect()
    }

    /// Everything that is there of a world whose gateway runs: files, answers, logs, the command line.
    pub fn artefacts(&self, gateway: &Process, commands: &[Ended]) -> Artefacts {
        let mut all = self.files();
        all.insert("access lines".to_owned(), gateway.out.bytes());
        all.insert("log".to_owned(), gateway.err.bytes());
        let heard = self.heard.as_ref().expect("the answers were kept");
        all.insert("answers".to_owned(), heard.bytes());
        let line = std::fs::read(format!("/proc/{}/cmdline", gateway.id())).expect("it runs");
        assert!(line.starts_with(env!("CARGO_BIN_EXE_perch").as_bytes()), "the command line can be read");
        all.insert("command line".to_owned(), line);
        for (nth, ended) in commands.iter().enumerate() {
            all.insert(format!("command {nth}"), ended.all().into_bytes());
        }
        all
    }
}
