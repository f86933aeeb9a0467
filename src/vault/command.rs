//! A key that another program prints: run without a shell, for a short time, and believed only when it
//! ends well.

use super::kek::{KeyError, parse};
use crate::types::Kek;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long the program may take. It is asked at start only.
pub(super) const COMMAND_MAX: Duration = Duration::from_secs(5);

/// Between two looks whether it has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What it may print: a key in base64 has 44 bytes.
const OUTPUT_BYTES_MAX: usize = 4096;

/// Runs the program and reads the key from its standard output: 32 bytes, or their base64. Its standard
/// error is thrown away, for it may hold anything. Blocks.
///
/// # Errors
/// [`KeyError`] when it cannot be run, fails, takes longer than `max` or prints no key.
pub(super) fn from_command(program: &Path, words: &[String], max: Duration) -> Result<Kek, KeyError> {
    let name = program.display();
    let failed = |what: String| KeyError(format!("the key command {name} {what}"));
    let deadline = Instant::now() + max;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|cause| {
            failed(format!("cannot be run: {cause}; vault.key must name a program by its whole path"))
        })?;
    let output = child.stdout.take();
    let (sender, printed) = mpsc::channel();
    // A thread of its own: a program that has left a child behind keeps the pipe open for ever.
    thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(OUTPUT_BYTES_MAX + 1));
        let read = match output {
            Some(pipe) => pipe.take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes),
            None => Ok(0),
        };
        // Who asked may have stopped waiting.
        let _ = sender.send(read.map(|_| bytes));
    });
    let late = |child: &mut std::process::Child| {
        let _ = child.kill();
        let _ = child.wait();
        failed(format!(
            "did not end within {} seconds and was stopped; run it by hand to see why",
            max.as_secs_f32()
        ))
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK_PAUSE),
            Ok(None) => return Err(late(&mut child)),
            Err(cause) => return Err(failed(format!("cannot be waited for: {cause}"))),
        }
    };
    if !status.success() {
        let how = match status.code() {
            Some(code) => format!("ended with exit code {code}"),
            None => "was ended by a signal".to_owned(),
        };
        return Err(failed(format!("{how}; run it by hand to see why, for what it says is not logged")));
    }
    let rest = deadline.saturating_duration_since(Instant::now());
    let bytes = match printed.recv_timeout(rest) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(cause)) => return Err(failed(format!("cannot be read: {cause}"))),
        Err(_) => return Err(late(&mut child)),
    };
    parse(&bytes).map_err(|what| failed(format!("printed what {what}: a key is 32 bytes or their base64")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, max: Duration) -> Result<Kek, KeyError> {
        from_command(Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], max)
    }

    #[test]
    fn what_it_prints_is_the_key_raw_or_in_base64() {
        for script in ["printf '%032d' 7", "echo MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDc="] {
            let kek = shell(script, COMMAND_MAX).unwrap();
            assert_eq!(kek.expose(), b"00000000000000000000000000000007", "{script}");
        }
    }

    #[test]
    fn its_failure_is_told_and_never_what_it_says() {
        for (script, told) in [
            ("echo hunter2 >&2; echo hunter2; exit 7", "ended with exit code 7"),
            ("kill -9 $$", "was ended by a signal"),
            ("true", "printed what is empty"),
            ("echo hunter2", "printed what holds 7 bytes that are not base64"),
            ("head -c 5000 /dev/zero", "is too long"),
        ] {
            let said = shell(script, COMMAND_MAX).unwrap_err().to_string();
            assert!(said.contains(told) && said.contains("/bin/sh"), "{script}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let said = from_command(Path::new("/no/such/program"), &[], COMMAND_MAX).unwrap_err().to_string();
        assert!(said.contains("cannot be run"), "{said}");
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        let soon = Duration::from_millis(50);
        for script in ["exec sleep 600", "sleep 600 & echo MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDc="] {
            let began = Instant::now();
            let said = shell(script, soon).unwrap_err().to_string();
            assert!(said.contains("did not end within 0.05 seconds"), "{said}");
            assert!(began.elapsed() < Duration::from_secs(60), "{script}");
        }
    }
}
