//! Median and spread: what a run says when the machine is not alone.

use std::time::Duration;

/// The middle of the rounds, and how far they lie apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of one value per round; zeros when there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Self { median: 0.0, min: 0.0, max: 0.0 };
        };
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median: f64::midpoint(low, high), min, max }
    }

    /// Median with the smallest and the largest behind it.
    pub(crate) fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}..{:.digits$})", self.median, self.min, self.max)
    }
}

/// The value below which `share` of them lie, in microseconds.
pub(crate) fn quantile(durations: &[Duration], share: f64) -> f64 {
    let mut micros: Vec<f64> = durations.iter().map(|d| d.as_secs_f64() * 1e6).collect();
    micros.sort_by(f64::total_cmp);
    // Nearest rank: a value that was really measured.
    let rank = (share * micros.len() as f64).ceil() as usize;
    micros.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
