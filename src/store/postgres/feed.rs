//! Hears of other perch's commits at once, by `LISTEN`. Nothing depends on it: who hears nothing finds out at the next
//! look, two seconds later. Behind a pool that hands connections out by transaction nothing is ever heard.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Between two tries to listen again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long connecting and beginning to listen may take.
const BEGIN_MAX: Duration = Duration::from_secs(5);

/// What was heard, while this lives.
pub(super) struct Feed {
    told: Arc<Notify>,
    listener: JoinHandle<()>,
}

impl Feed {
    /// Begins to listen.
    pub(super) fn listen(config: Config, tls: MakeRustlsConnect) -> Self {
        let told = Arc::new(Notify::new());
        let heard = Arc::clone(&told);
        let listener = tokio::spawn(async move {
            loop {
                listen_once(&config, tls.clone(), &heard).await;
                // What was said meanwhile was said to nobody.
                heard.notify_one();
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
        Self { told, listener }
    }

    /// Ends when something may have changed.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Listens until the connection ends.
async fn listen_once(config: &Config, tls: MakeRustlsConnect, told: &Arc<Notify>) {
    let connecting = tokio::time::timeout(BEGIN_MAX, config.connect(tls));
    let Ok(Ok((client, mut connection))) = connecting.await else { return };
    let told = Arc::clone(told);
    let mut line = tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message {
                told.notify_one();
            }
        }
    });
    let listening = tokio::time::timeout(BEGIN_MAX, client.batch_execute("LISTEN perch_vault")).await;
    if !matches!(listening, Ok(Ok(()))) {
        line.abort();
    }
    let _ = (&mut line).await;
}
