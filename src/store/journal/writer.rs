//! The journal's thread: takes all that waits, writes it in one transaction, tells those who wait.

use super::{Hold, JournalError, Word, connect, rows, transact};
use crate::store::StoreError;
use rusqlite::Connection;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// The most words of one transaction, so that the first of them does not wait for thousands.
const BATCH_MAX: usize = 512;

/// Between two tries to write a hold when nothing else comes along.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// The most holds that wait to be written; there are not that many scopes.
const OWED_MAX: usize = 64;

pub(super) struct Writer {
    /// `None` after a failure that more than a full disk or another's lock can explain.
    db: Option<Connection>,
    path: PathBuf,
    run: i64,
    keep: Duration,
    /// Holds that could not be written yet.
    owed: Vec<Hold>,
    is_well: bool,
}

impl Writer {
    pub(super) fn new(db: Connection, path: PathBuf, run: u64, keep: Duration) -> Self {
        let run = run.cast_signed();
        Self { db: Some(db), path, run, keep, owed: Vec::new(), is_well: true }
    }

    /// Writes until nobody can tell it anything more.
    pub(super) fn run(mut self, mut words: mpsc::Receiver<Word>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            if self.owed.is_empty() {
                if words.blocking_recv_many(&mut batch, BATCH_MAX) == 0 {
                    return;
                }
            } else {
                std::thread::sleep(RETRY_EVERY);
                while batch.len() < BATCH_MAX {
                    match words.try_recv() {
                        Ok(word) => batch.push(word),
                        Err(mpsc::error::TryRecvError::Empty) => break,
                        Err(mpsc::error::TryRecvError::Disconnected) if batch.is_empty() => return,
                        Err(mpsc::error::TryRecvError::Disconnected) => break,
                    }
                }
            }
            self.write(&mut batch);
        }
    }

    /// Writes a batch, all or nothing, and empties it.
    fn write(&mut self, batch: &mut Vec<Word>) {
        for word in batch.iter() {
            if let Word::Held(hold) = word
                && self.owed.len() < OWED_MAX
            {
                self.owed.push(*hold);
            }
        }
        let outcome = self.commit(batch);
        match &outcome {
            Ok(()) => {
                self.owed.clear();
                if !self.is_well {
                    tracing::info!("the quota journal is written again");
                }
            }
            Err(cause) if self.is_well => tracing::error!(
                error = %cause,
                "the quota journal cannot be written; calls are refused until it can be: see to the disk of vault.store"
            ),
            Err(_) => {}
        }
        self.is_well = outcome.is_ok();
        let outcome = outcome.map_err(|cause| JournalError(cause.to_string()));
        for word in batch.drain(..) {
            match word {
                // Who has stopped waiting has given the permit back, and said so or will.
                Word::Granted(_, told) => drop(told.send(outcome.clone())),
                Word::Settle(told) => drop(told.send(())),
                Word::Arrived { .. } | Word::Refunded { .. } | Word::Held(_) => {}
            }
        }
    }

    fn commit(&mut self, batch: &[Word]) -> Result<(), StoreError> {
        if self.owed.is_empty() && batch.iter().all(|word| matches!(word, Word::Settle(_))) {
            return Ok(());
        }
        let mut db = match self.db.take() {
            Some(db) => db,
            None => connect(&self.path)?,
        };
        let written = self.write_into(&mut db, batch);
        if written.is_ok() || rows::is_readable(&db) {
            self.db = Some(db);
        }
        written
    }

    fn write_into(&self, db: &mut Connection, batch: &[Word]) -> Result<(), StoreError> {
        let Self { run, keep, owed, .. } = self;
        transact(db, |tx| {
            let (mut granted, mut latest) = (0, None);
            for word in batch {
                match word {
                    Word::Granted(grant, _) => {
                        rows::grant(tx, *run, grant)?;
                        (granted, latest) = (granted + 1, latest.max(Some(grant.at.steady)));
                    }
                    Word::Arrived { ticket, at } => rows::arrive(tx, *run, *ticket, *at)?,
                    Word::Refunded { ticket } => rows::refund(tx, *run, *ticket)?,
                    Word::Held(_) | Word::Settle(_) => {}
                }
            }
            owed.iter().try_for_each(|hold| rows::hold(tx, hold))?;
            // More than was added, so that it ends; and not much more, so that nobody waits for it.
            latest.map_or(Ok(()), |at| rows::prune(tx, at, *keep, 2 * granted + 8))
        })
    }
}
