//! What `/metrics` tells.

use super::{App, World};
use std::collections::BTreeMap;

/// Every sample of one look: name and labels as they are written, and the value.
pub type Samples = BTreeMap<String, f64>;

/// Looks once, at an operators' door.
pub async fn look(operator: &App) -> Samples {
    let answer = operator.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let lines = answer.text();
    let samples = lines.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

impl World {
    /// Looks once.
    pub async fn metrics(&self) -> Samples {
        look(&self.operator()).await
    }

    /// One sample; 0 when there is none yet.
    pub async fn metric(&self, sample: &str) -> f64 {
        self.metrics().await.get(sample).copied().unwrap_or_default()
    }

    /// Looks until the sample has this value or a larger one.
    pub async fn metric_becomes_at_least(&self, sample: &str, value: f64) {
        while self.metric(sample).await < value {
            tokio::task::yield_now().await;
        }
    }

    /// Looks until the sample has this value.
    pub async fn metric_becomes(&self, sample: &str, value: f64) {
        while (self.metric(sample).await - value).abs() > 1e-9 {
            tokio::task::yield_now().await;
        }
    }
}
