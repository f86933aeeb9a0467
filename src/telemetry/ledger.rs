//! Hands finished calls over to the request ledger: through a bounded queue, so that no call ever waits for the ledger, and
//! written behind, many at a time.

use super::AccessLine;
use super::clock::unix_now;
use super::metrics::Recording;
use crate::store::StoreError;
use crate::store::requests::{Bounds, Requests, Row};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The most calls of one transaction.
const BATCH_MAX: usize = 500;

/// Between two tries while the store is out.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How often what is too old is looked for when there is none.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long whoever stops waits until all is written.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// How the ledger is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRules {
    /// How much is kept.
    pub bounds: Bounds,
    /// How long the first call of a transaction waits for others.
    pub flush: Duration,
    /// Calls that may wait.
    pub queue: usize,
}

/// What the writer is told.
#[derive(Debug)]
enum Word {
    /// A call has ended.
    Ended(Box<AccessLine>),
    /// Somebody wants to know when all that was told before is written.
    Settle(oneshot::Sender<()>),
}

/// The way to the ledger. Its writer ends when this is dropped and what it was told is written.
#[derive(Debug)]
pub struct Ledger(Option<(mpsc::Sender<Word>, Recording)>);

impl Ledger {
    /// No ledger: nothing is kept.
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts the writer.
    pub fn start(requests: Arc<Requests>, rules: LedgerRules, counts: Recording) -> Self {
        let (inbox, words) = mpsc::channel(rules.queue.max(1));
        let writer =
            Writer { requests, rules, counts: counts.clone(), is_well: true, next_prune: Instant::now() };
        tokio::spawn(writer.run(words));
        Self(Some((inbox, counts)))
    }

    /// Takes a finished call. Never waits: when too many wait already, this one is lost and counted.
    pub fn take(&self, line: AccessLine) {
        let Some((inbox, counts)) = &self.0 else { return };
        // Before the writer can count it off.
        counts.queue.inc();
        if inbox.try_send(Word::Ended(Box::new(line))).is_err() {
            counts.queue.dec();
            counts.dropped.inc();
        }
    }

    /// Waits until all that was told before is written, some seconds at most. Answers whether it is.
    pub async fn settle(&self) -> bool {
        let Some((inbox, _)) = &self.0 else { return true };
        let asking = async {
            let (told, settled) = oneshot::channel();
            inbox.send(Word::Settle(told)).await.is_ok() && settled.await.is_ok()
        };
        timeout(SETTLE_MAX, asking).await.unwrap_or(false)
    }
}

/// Takes what waits, writes it in one transaction, and lets go what is too old.
struct Writer {
    requests: Arc<Requests>,
    rules: LedgerRules,
    counts: Recording,
    is_well: bool,
    next_prune: Instant,
}

/// What is written together.
#[derive(Default)]
struct Batch {
    lines: Vec<AccessLine>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, word: Word) {
        match word {
            Word::Ended(line) => self.lines.push(*line),
            Word::Settle(told) => self.waiting.push(told),
        }
    }

    /// Whether it is to be written at once.
    fn is_due(&self) -> bool {
        self.lines.len() >= BATCH_MAX || !self.waiting.is_empty()
    }
}

impl Writer {
    /// Writes until nobody can tell it anything more.
    async fn run(mut self, mut words: mpsc::Receiver<Word>) {
        loop {
            let first = tokio::select! {
                first = words.recv() => first,
                () = sleep_until(self.next_prune) => {
                    self.prune().await;
                    continue;
                }
            };
            let Some(first) = first else { return };
            let batch = self.gather(first, &mut words).await;
            let rows: Vec<Row> = batch.lines.into_iter().map(Row::of_line).collect();
            if !rows.is_empty() {
                self.write(rows, &words).await;
            }
            for told in batch.waiting {
                // Who has stopped waiting has said so.
                let _ = told.send(());
            }
            if Instant::now() >= self.next_prune {
                self.prune().await;
            }
        }
    }

    /// What has ended and what still ends within the time of one flush.
    async fn gather(&self, first: Word, words: &mut mpsc::Receiver<Word>) -> Batch {
        let until = Instant::now() + self.rules.flush;
        let mut batch = Batch::default();
        batch.add(first);
        while !batch.is_due() {
            let next = tokio::select! {
                next = words.recv() => next,
                () = sleep_until(until) => None,
            };
            match next {
                Some(word) => batch.add(word),
                None => break,
            }
        }
        batch
    }

    /// Writes rows, and does not stop before they are written or cannot ever be.
    async fn write(&mut self, rows: Vec<Row>, words: &mpsc::Receiver<Word>) {
        let rows = Arc::new(rows);
        // Whether an earlier try may have succeeded although it did not seem so.
        let mut is_again = false;
        loop {
            let Err(cause) = self.requests.write(&rows, is_again).await else {
                return self.wrote(rows.len());
            };
            // It takes something and not this: one of these rows is at fault.
            if is_again && self.requests.probe().await.is_ok() {
                return self.write_singly(&rows, words).await;
            }
            is_again = true;
            if !self.may_wait(&cause, words).await {
                return self.lost(rows.len(), &cause);
            }
        }
    }

    /// Writes rows one by one, and drops those that the store will not take though it takes others.
    async fn write_singly(&mut self, rows: &[Row], words: &mpsc::Receiver<Word>) {
        for row in rows {
            let row = Arc::new(vec![row.clone()]);
            loop {
                let Err(cause) = self.requests.write(&row, true).await else {
                    self.wrote(1);
                    break;
                };
                if self.requests.probe().await.is_ok() || !self.may_wait(&cause, words).await {
                    self.lost(1, &cause);
                    break;
                }
            }
        }
    }

    /// Waits for the store to come back; `false` when perch stops and nobody will.
    async fn may_wait(&mut self, cause: &StoreError, words: &mpsc::Receiver<Word>) -> bool {
        if self.is_well {
            self.is_well = false;
            tracing::error!(
                error = %cause,
                "the request ledger cannot be written; calls go on, and up to ledger.queue of them are written later"
            );
        }
        if words.is_closed() {
            return false;
        }
        sleep(RETRY_EVERY).await;
        true
    }

    fn wrote(&mut self, rows: usize) {
        if !self.is_well {
            self.is_well = true;
            tracing::info!("the request ledger is written again");
        }
        self.counts.written.inc_by(rows as u64);
        self.counts.queue.sub(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    fn lost(&self, rows: usize, cause: &StoreError) {
        tracing::warn!(rows, error = %cause, "calls could not be written to the request ledger and are in none");
        self.counts.dropped.inc_by(rows as u64);
        self.counts.queue.sub(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    async fn prune(&mut self) {
        let more = self.requests.prune(self.rules.bounds, unix_now()).await;
        if let Err(cause) = &more {
            tracing::warn!(error = %cause, "old calls could not be deleted from the request ledger; it grows until they can be");
        }
        let pause = if more == Ok(true) { Duration::ZERO } else { PRUNE_EVERY };
        self.next_prune = Instant::now() + pause;
    }
}
