//! The board on which replicas pin what the others should know: what is told goes there in order, one after the other,
//! and what others told is fetched from there.

use super::{ASK_AGAIN, Shared};
use crate::limit::Notice;
use crate::limit::beat::Incarnation;
use crate::store::redis::codec::{notices, read_flag};
use crate::types::Moment;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Notices that wait to be sent. More are dropped: the others learn it by calls of their own.
const POSTS_MAX: usize = 1_024;

/// How often a replica asks what the others told. A call that another replica could have spared us costs one permit, and
/// permits come a few in a second, so sooner would spare little; later would let a dead login be called by everyone.
const NEWS_EVERY: Duration = Duration::from_secs(1);

/// This replica's place at the board.
#[derive(Debug)]
pub(super) struct Board {
    posts: mpsc::Sender<Post>,
    stop: watch::Receiver<bool>,
    from: Incarnation,
}

/// A notice, and until when it lasts.
#[derive(Debug)]
pub(super) struct Post(Notice, Moment);

impl Board {
    /// A place, and what is to be sent from it.
    pub(super) fn new(from: Incarnation, stop: watch::Receiver<bool>) -> (Self, mpsc::Receiver<Post>) {
        let (posts, to_send) = mpsc::channel(POSTS_MAX);
        (Self { posts, stop, from }, to_send)
    }
}

impl Shared {
    pub(in super::super) fn tell(&self, notice: Notice, span: Duration) {
        if self.board.posts.try_send(Post(notice, self.clock.now() + span)).is_err() {
            tracing::debug!(
                "a notice to the other replicas was dropped; they learn it by calls of their own"
            );
        }
    }

    /// `None`: the store gave no answer.
    pub(in super::super) async fn claim(&self, name: &str, span: Duration) -> Option<bool> {
        self.call(notices::claim(name, span), read_flag).await.ok()
    }

    /// Hands on what others tell for as long as somebody takes it.
    pub(in super::super) fn listen(self: &Arc<Self>, heard: mpsc::Sender<(Notice, Duration)>) {
        let mut stop = self.board.stop.clone();
        let shared = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shared.fetch(&heard) => {}
                () = heard.closed() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }

    async fn fetch(&self, heard: &mpsc::Sender<(Notice, Duration)>) {
        let mut cursor = 0;
        loop {
            let pause = match self.call(notices::news(self.board.from, cursor), notices::read_news).await {
                Ok(news) => {
                    for told in news.told {
                        if heard.send(told).await.is_err() {
                            return;
                        }
                    }
                    cursor = news.cursor;
                    if news.has_more {
                        continue;
                    }
                    NEWS_EVERY
                }
                // At a start there is no connection yet.
                Err(_) => ASK_AGAIN,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends what is told, one after the other: that a login is well must not overtake that it was ill.
    pub(super) async fn pin(self: Arc<Self>, mut posts: mpsc::Receiver<Post>) {
        while let Some(Post(notice, until)) = posts.recv().await {
            self.insist(|left| notices::post(self.board.from, &notice, left), until).await;
        }
    }
}
