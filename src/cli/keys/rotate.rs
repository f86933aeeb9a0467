//! A new key, beside a running gateway: add it, wait until the gateway has opened it, let it seal, and seal
//! every row with it.

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Format;
use crate::store::keys::{KeyState, Purpose};
use crate::telemetry::clock::unix_now;
use crate::vault::{KeyFacts, Resealed, Vault};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How long a running gateway may take to open the new key: it looks every two seconds.
const GATEWAY_MAX: Duration = Duration::from_secs(30);

/// Between two questions whether it has.
const GATEWAY_PAUSE: Duration = Duration::from_millis(100);

/// Walks over the store before rows that change under them are left for the next command.
const WALKS_MAX: usize = 10;

/// Unreadable connections named in an answer.
const NAMED_MAX: usize = 1000;

/// What all walks together did.
#[derive(Default)]
struct Done {
    resealed: u64,
    unreadable: Vec<String>,
}

/// Rotates, or finishes the rotation that was cut off.
///
/// # Errors
/// [`Failure`] with the exit code.
pub(super) async fn rotate(vault: &Vault, format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let keys = vault.keys().await?;
    let is_pending = keys.iter().any(|key| key.state == KeyState::Pending);
    if !is_pending && rows_of_older_keys(&keys) > 0 {
        let done = walk(vault).await?;
        // Rows that nothing opens must not stand in the way of a new key.
        if done.resealed > 0 {
            return tell(vault, &done, true, format, out).await;
        }
    }
    let key = vault.add_key(unix_now()).await?;
    promote(vault, key).await?;
    let done = walk(vault).await?;
    tell(vault, &done, is_pending, format, out).await
}

/// Seals the rows of older keys with the newest one.
///
/// # Errors
/// [`Failure`] with the exit code.
pub(super) async fn reseal(vault: &Vault, format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let done = walk(vault).await?;
    tell(vault, &done, false, format, out).await
}

async fn promote(vault: &Vault, key: u64) -> Result<(), Failure> {
    let began = Instant::now();
    while !vault.promote_key(key).await? {
        if began.elapsed() > GATEWAY_MAX {
            return Err(Failure::failed(format_args!(
                "the running gateway has not opened key {key} within {} seconds, so it stays pending and seals \
                 nothing; see the gateway's log, restart it with the vault.key of the store, then run \
                 \"perch keys rotate\" again",
                GATEWAY_MAX.as_secs()
            )));
        }
        tokio::time::sleep(GATEWAY_PAUSE).await;
    }
    Ok(())
}

async fn walk(vault: &Vault) -> Result<Done, Failure> {
    let total = rows_of_older_keys(&vault.keys().await?);
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(total).with_message("sealing anew"),
        false => ProgressBar::hidden(),
    };
    let mut done = Done::default();
    for _ in 0..WALKS_MAX {
        done.unreadable.clear();
        let (mut raced, mut place) = (0, None);
        loop {
            let step: Resealed = vault.reseal(place).await?;
            done.resealed += step.done;
            raced += step.raced;
            let room = NAMED_MAX.saturating_sub(done.unreadable.len());
            done.unreadable.extend(step.unreadable.into_iter().take(room));
            bar.set_position(done.resealed);
            place = step.next;
            if place.is_none() {
                break;
            }
        }
        if raced == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(done)
}

async fn tell(
    vault: &Vault,
    done: &Done,
    is_resumed: bool,
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let keys = vault.keys().await?;
    let (primary, left) = (primary(&keys), rows_of_older_keys(&keys));
    match format {
        Format::Json => writeln!(
            out,
            "{}",
            json!({
                "key": primary, "resumed": is_resumed, "resealed": done.resealed, "left": left,
                "unreadable": done.unreadable,
            })
        )?,
        Format::Text => {
            if is_resumed {
                writeln!(out, "finished the rotation that was cut off")?;
            }
            writeln!(out, "key {primary} seals; {} rows were sealed anew with it", done.resealed)?;
            for id in &done.unreadable {
                writeln!(out, "connection {id} does not open and was left as it is")?;
            }
            let idle: Vec<String> =
                keys.iter().filter(|key| is_idle(key)).map(|k| k.id.to_string()).collect();
            match left {
                0 if idle.is_empty() => {}
                0 => writeln!(
                    out,
                    "no row needs key {} any more; \"perch keys retire\" takes a key out of use",
                    idle.join(", ")
                )?,
                left => writeln!(
                    out,
                    "{left} rows are under older keys still; run \"perch keys reseal\" again, and \"perch vault verify\" \
                     for those that do not open"
                )?,
            }
        }
    }
    Ok(if left == 0 { Exit::Done } else { Exit::Failed })
}

fn is_idle(key: &KeyFacts) -> bool {
    (key.purpose, key.state, key.rows) == (Purpose::Record, KeyState::DecryptOnly, 0)
}

fn primary(keys: &[KeyFacts]) -> u64 {
    let seals = |key: &&KeyFacts| (key.purpose, key.state) == (Purpose::Record, KeyState::Primary);
    keys.iter().find(seals).map_or(0, |key| key.id)
}

fn rows_of_older_keys(keys: &[KeyFacts]) -> u64 {
    let primary = primary(keys);
    keys.iter().filter(|key| key.id != primary).map(|key| key.rows).sum()
}
