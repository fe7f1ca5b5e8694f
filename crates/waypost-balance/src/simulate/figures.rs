//! What is measured of a run, and of several.

use super::group::Played;
use super::scenario::Model;

/// A mean over the runs and how far it may be off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The mean of the runs.
    pub mean: f64,
    /// Half the width of the 95 % confidence interval.
    pub ci95: f64,
}

/// What one strategy did in one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The strategy.
    pub strategy: &'static str,
    /// The scenario.
    pub scenario: &'static str,
    /// How many runs were played.
    pub runs: usize,
    /// Messages of each.
    pub messages: usize,
    /// From a message's arrival until a member began with it: the mean.
    pub wait_mean_ms: Estimate,
    /// Half of the messages waited no longer.
    pub wait_p50_ms: Estimate,
    /// Ninety-nine of a hundred waited no longer.
    pub wait_p99_ms: Estimate,
    /// The part of the messages that would have to go to another member for everybody to have what its weight says.
    pub imbalance: Estimate,
    /// The part of the messages that were done before any later one of their key.
    pub order_kept: Estimate,
    /// Messages done in a second.
    pub throughput_per_s: Estimate,
}

/// The figures of one run.
pub(super) struct Run {
    messages: usize,
    wait_mean_ms: f64,
    wait_p50_ms: f64,
    wait_p99_ms: f64,
    imbalance: f64,
    order_kept: f64,
    throughput_per_s: f64,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "nanoseconds and counts, in 53 bits"
)]
impl Run {
    pub fn of(model: &Model, mut played: Played) -> Self {
        let messages = played.waits_ns.len();
        let mut waits = played.waits_ns.split_off(messages / 10);
        waits.sort_unstable();
        let percentile = |part: f64| {
            let rank = (waits.len() as f64 * part).ceil();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let at = (rank as usize).saturating_sub(1);
            waits.get(at).map_or(0.0, |wait| *wait as f64 / 1e6)
        };
        // A sum of waits that go on for days does not fit nanoseconds in 64 bits.
        let sum: f64 = waits.iter().map(|wait| *wait as f64).sum();
        Self {
            messages,
            wait_mean_ms: sum / waits.len().max(1) as f64 / 1e6,
            wait_p50_ms: percentile(0.5),
            wait_p99_ms: percentile(0.99),
            imbalance: imbalance(model, &played),
            order_kept: 1.0 - played.overtaken as f64 / messages.max(1) as f64,
            throughput_per_s: messages as f64 / (played.finished_ns.max(1) as f64 / 1e9),
        }
    }
}

/// Half the sum of |share − share by weight and time online|.
#[allow(
    clippy::cast_precision_loss,
    reason = "nanoseconds and counts, in 53 bits"
)]
fn imbalance(model: &Model, played: &Played) -> f64 {
    let due: Vec<f64> = model
        .stations
        .iter()
        .zip(&played.online_ns)
        .map(|((weight, _), online_ns)| f64::from(*weight) * *online_ns as f64)
        .collect();
    let due_total: f64 = due.iter().sum();
    let served_total: u64 = played.served.iter().sum();
    let off = due.iter().zip(&played.served).map(|(due, served)| {
        (due / due_total.max(1.0) - *served as f64 / served_total.max(1) as f64).abs()
    });
    off.sum::<f64>() / 2.0
}

impl Row {
    pub(super) fn of(strategy: &'static str, scenario: &'static str, runs: &[Run]) -> Self {
        let estimate = |figure: fn(&Run) -> f64| Estimate::of(runs.iter().map(figure));
        Self {
            strategy,
            scenario,
            runs: runs.len(),
            messages: runs.first().map_or(0, |run| run.messages),
            wait_mean_ms: estimate(|run| run.wait_mean_ms),
            wait_p50_ms: estimate(|run| run.wait_p50_ms),
            wait_p99_ms: estimate(|run| run.wait_p99_ms),
            imbalance: estimate(|run| run.imbalance),
            order_kept: estimate(|run| run.order_kept),
            throughput_per_s: estimate(|run| run.throughput_per_s),
        }
    }
}

/// Student's t for a two-sided 95 % interval, for 1, 2, 3, … degrees of freedom; beyond, the normal distribution's.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

impl Estimate {
    #[allow(clippy::cast_precision_loss, reason = "a few runs")]
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count();
        let mean = values.clone().sum::<f64>() / count.max(1) as f64;
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        let Some(freedom) = count.checked_sub(1).filter(|freedom| *freedom > 0) else {
            return Self { mean, ci95: 0.0 };
        };
        let deviation = (squares / freedom as f64 / count as f64).sqrt();
        Self {
            mean,
            ci95: deviation * STUDENT.get(freedom - 1).unwrap_or(&1.96),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_student_s() {
        let estimate = Estimate::of([1.0, 2.0, 3.0].into_iter());
        assert!((estimate.mean - 2.0).abs() < 1e-12);
        // 4.303 × 1 ÷ √3
        assert!(
            (estimate.ci95 - 2.484_338).abs() < 1e-5,
            "{}",
            estimate.ci95
        );
        assert_eq!(
            Estimate::of([5.0].into_iter()),
            Estimate {
                mean: 5.0,
                ci95: 0.0
            }
        );
    }
}
