//! How perch stops, in stages: it says that it leaves and serves on, refuses who is not sent yet, waits for who was,
//! and hangs up when nobody is waited for any more.

use tokio::sync::watch;

/// Counts the calls that are not answered yet, and knows how far perch is with stopping.
#[derive(Debug)]
pub struct Drain {
    running: watch::Sender<usize>,
    stage: watch::Sender<Stage>,
}

/// How far perch is with stopping. Stages follow one another and never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is not.
    #[default]
    Serving,
    /// It is not ready any more, and serves on: whoever sends calls here has not heard yet.
    Leaving,
    /// What was not sent to Finch is refused.
    Closing,
    /// Nobody is waited for: doors close, and connections end as soon as nothing is said on them.
    HangingUp,
}

/// Tells those who hold it how far perch is with stopping.
#[derive(Debug, Clone)]
pub struct Stages(watch::Receiver<Stage>);

impl Stages {
    /// How far it is.
    pub fn now(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits until it is as far as that; for ever when nobody is left to stop it.
    pub async fn reached(&mut self, stage: Stage) {
        if self.0.wait_for(|now| *now >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { running: watch::Sender::new(0), stage: watch::Sender::new(Stage::Serving) }
    }
}

/// One call that is not answered yet. Dropping it says that it is.
#[derive(Debug)]
pub struct Running(watch::Sender<usize>);

impl Drain {
    /// A call begins.
    pub fn enter(&self) -> Running {
        self.running.send_modify(|n| *n += 1);
        Running(self.running.clone())
    }

    /// perch goes on to this stage, unless it is further already.
    pub fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let is_further = to > *stage;
            *stage = to.max(*stage);
            is_further
        });
    }

    /// For those who must know the stage.
    pub fn stages(&self) -> Stages {
        Stages(self.stage.subscribe())
    }

    /// Whether perch has been told to stop.
    pub fn is_leaving(&self) -> bool {
        *self.stage.borrow() >= Stage::Leaving
    }

    /// Whether what is not sent yet is refused.
    pub fn is_closing(&self) -> bool {
        *self.stage.borrow() >= Stage::Closing
    }

    /// Waits until what is not sent yet is refused.
    pub async fn closing(&self) {
        self.stages().reached(Stage::Closing).await;
    }

    /// How many calls are not answered yet.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Waits until every call is answered.
    pub async fn idle(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.running.subscribe().wait_for(|n| *n == 0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_idle_when_the_last_call_has_ended() {
        let drain = Drain::default();
        let (one, two) = (drain.enter(), drain.enter());
        drop(one);
        assert_eq!(drain.running(), 1);
        let mut idle = Box::pin(drain.idle());
        assert!(futures_now(&mut idle).is_none());
        drop(two);
        idle.await;
    }

    #[tokio::test]
    async fn stages_follow_one_another_and_never_go_back() {
        let drain = Drain::default();
        let mut stages = drain.stages();
        assert!(!drain.is_leaving());
        drain.advance(Stage::Leaving);
        assert!(drain.is_leaving() && !drain.is_closing());
        let mut closing = Box::pin(drain.closing());
        assert!(futures_now(&mut closing).is_none());
        drain.advance(Stage::HangingUp);
        drain.advance(Stage::Closing);
        closing.await;
        stages.reached(Stage::Closing).await;
        assert_eq!(stages.now(), Stage::HangingUp);
    }

    fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
