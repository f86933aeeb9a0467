//! Whether a gateway is worth calling, and what is missing when it is not.

use super::quota::Mode;

/// What readiness depends on, and what is worth knowing beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it has been told to stop.
    pub is_stopping: bool,
    /// Whether the vault's store answered in time.
    pub vault_answers: bool,
    /// Where quota is counted; calls are answered in each mode.
    pub limiter: Mode,
    /// Whether limits hold nobody back (`limits.mode`).
    pub is_observing: bool,
}

impl Readiness {
    /// Whether calls are worth sending here.
    pub const fn is_ready(&self) -> bool {
        !self.is_stopping && self.vault_answers
    }

    /// What a probe reads.
    pub fn in_short(&self) -> String {
        match self {
            Readiness { is_stopping: true, .. } => "stopping".to_owned(),
            Readiness { vault_answers: false, .. } => "the vault does not answer".to_owned(),
            Readiness { limiter, is_observing, .. } => {
                let observing = if *is_observing { "\nlimits: observe; calls are not held back" } else { "" };
                format!("ok\nlimiter: {}{observing}", limiter.as_str())
            }
        }
    }

    /// What a person reads: a line for each part, and what is to be done.
    pub fn at_length(&self) -> String {
        let mark = |is_good: bool| if is_good { "[+]" } else { "[-]" };
        let serving = if self.is_stopping { "stopping: calls under way are finished" } else { "ok" };
        let vault = match self.vault_answers {
            true => "ok",
            false => "its store did not answer within 5 s; see vault.store",
        };
        let limiter = match self.limiter {
            Mode::Memory => "memory: quota is counted in this process",
            Mode::Redis => "redis: quota is counted for all replicas together",
            Mode::Degraded => "degraded: limits.store does not answer; limits.on_outage decides",
        };
        let limits = match self.is_observing {
            true => "observe: calls are counted and not held back; see limits.mode",
            false => "ok",
        };
        format!(
            "{} serving: {serving}\n{} vault: {vault}\n{} limiter: {limiter}\n{} limits: {limits}\n{}",
            mark(!self.is_stopping),
            mark(self.vault_answers),
            mark(self.limiter != Mode::Degraded),
            mark(!self.is_observing),
            if self.is_ready() { "ready" } else { "not ready" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_and_a_lost_redis_alone_is_no_reason_not_to_be_called() {
        let well =
            Readiness { is_stopping: false, vault_answers: true, limiter: Mode::Redis, is_observing: false };
        assert_eq!(well.in_short(), "ok\nlimiter: redis");
        for (standing, is_ready, line) in [
            (well, true, "[+] vault: ok"),
            (Readiness { limiter: Mode::Degraded, ..well }, true, "[-] limiter: degraded"),
            (Readiness { is_observing: true, ..well }, true, "[-] limits: observe"),
            (Readiness { vault_answers: false, ..well }, false, "[-] vault: its store did not answer"),
            (Readiness { is_stopping: true, ..well }, false, "[-] serving: stopping"),
        ] {
            let said = standing.at_length();
            assert_eq!(standing.is_ready(), is_ready, "{said}");
            assert!(said.contains(line), "{said}");
            assert!(said.ends_with(if is_ready { "\nready" } else { "\nnot ready" }), "{said}");
        }
    }
}
