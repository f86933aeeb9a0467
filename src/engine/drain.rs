//! How perch stops: nobody new waits, everybody sent is waited for.

use tokio::sync::watch;

/// Counts the calls that are not answered yet, and knows whether perch is stopping.
#[derive(Debug)]
pub struct Drain {
    running: watch::Sender<usize>,
    closing: watch::Sender<bool>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { running: watch::Sender::new(0), closing: watch::Sender::new(false) }
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

    /// perch is stopping from now on.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Whether perch is stopping.
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until perch is stopping.
    pub async fn closing(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.closing.subscribe().wait_for(|is_closing| *is_closing).await;
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
        drain.close();
        assert!(drain.is_closing());
    }

    fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
