//! Out of the configuration of traces: whether there are any, and the way to their collector.

use super::StartError;
use crate::config::{Config, Store};
use crate::telemetry::Traces;
use crate::telemetry::metrics::Traced;
use crate::telemetry::traces::{Collector, Place, Rules};

/// Starts to trace, when there is somebody to tell. Takes the collector with its secrets out of the configuration.
pub(super) fn start(config: &mut Config, counts: Traced) -> Result<Option<Traces>, StartError> {
    let Some(at) = config.traces.collector.take() else { return Ok(None) };
    let collector = Collector {
        base: at.base,
        path: at.path,
        headers: at.headers,
        service: config.traces.service_name.clone(),
        ca_file: config.finch.ca_file.clone(),
    };
    let place = Place {
        scheme: if config.listen.tls.is_some() { "https" } else { "http" },
        database: match config.vault.store {
            Store::Sqlite(_) => "sqlite",
            Store::Postgres(_) => "postgresql",
        },
        finch_host: config.finch.base_url.host.clone(),
        finch_port: config.finch.base_url.port,
    };
    let rules = Rules { place, sample_percent: config.traces.sample, propagates: config.traces.propagate };
    Ok(Some(Traces::start(rules, collector, counts)?))
}
