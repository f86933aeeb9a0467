//! A configuration that is read while perch runs: all of it is taken over, or nothing.

use super::settings::{settings, webhook_secrets};
use super::{Gateway, rules};
use crate::config::{Config, LimitMode, Loaded, Problems};
use crate::engine::Reading;
use crate::telemetry::clock::unix_now;
use crate::telemetry::metrics::Reloaded;
use std::sync::Arc;

impl Gateway {
    /// Takes over what was read, where it can be: it is sound, and what it changes can be changed while perch runs. Calls
    /// under way end as they began, and what is spent of the limits stays spent.
    pub fn reload(&self, read: Result<Loaded, Problems>) -> Reading {
        let _one = self.reloading.lock();
        let engine = &self.engine;
        let reading = |outcome, changed, why| Reading { at: unix_now(), outcome, changed, why };
        let refused = |why: Vec<String>| reading(Reloaded::Refused, Vec::new(), why);
        let (reading, next) = match read {
            Err(problems) => (refused(problems.iter().map(ToString::to_string).collect()), None),
            Ok(loaded) => {
                let (config, written) = loaded.apart();
                let changes = engine.written.changes(&written, engine.quota.counts_alone());
                if !changes.restart.is_empty() {
                    let needs = |key: &String| format!("`{key}` is changed, which needs a restart");
                    (refused(changes.restart.iter().map(needs).collect()), None)
                } else if changes.live.is_empty() {
                    // Where a setting stands may have changed.
                    (reading(Reloaded::Unchanged, Vec::new(), Vec::new()), Some(written))
                } else {
                    self.take_over(config);
                    (reading(Reloaded::Changed, changes.live, Vec::new()), Some(written))
                }
            }
        };
        match reading.outcome {
            Reloaded::Changed => {
                tracing::info!(changed = %reading.changed.join(", "), "the configuration was read anew and is in force");
            }
            Reloaded::Unchanged => {
                tracing::info!("the configuration was read anew and says what is in force")
            }
            Reloaded::Refused => tracing::error!(
                why = %reading.why.join("; "),
                "the configuration was read anew and is refused as a whole; the one before stays in force"
            ),
        }
        engine.telemetry.metrics.steering.reloaded(reading.outcome, reading.at.0 / 1000);
        engine.written.note(reading.clone(), next);
        reading
    }

    fn take_over(&self, mut config: Config) {
        let engine = &self.engine;
        let before = engine.settings.now();
        // Of two changes soon after each other, calls of the first may still be on their way; no more is kept than one.
        let is_same = before.client_secret.is(&config.finch.client_secret);
        let secret_before = match is_same {
            true => before.client_secret_before.clone(),
            false => Some(Arc::clone(&before.client_secret)),
        };
        let next = settings(&config, secret_before);
        engine.quota.set_rules(&rules(&config));
        engine.quota.observe(config.limits.mode == LimitMode::Observe);
        engine.outlook.set_rules(&next.outlook);
        engine.joins.set_memory(config.merge.resend_memory);
        engine.webhooks.believe(webhook_secrets(&mut config.finch));
        engine.settings.set(next);
        // Those who wait look whether they may still be sent.
        engine.brakes_changed();
        if config.limits.mode == LimitMode::Observe {
            super::warn_of_observing();
        }
    }
}
