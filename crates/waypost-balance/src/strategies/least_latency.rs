//! Least latency: the lowest cost = peak EWMA of the time to acknowledge × (in flight + 1) ÷ weight.
//!
//! The estimate is Finagle's `PeakEwma`, which Linkerd took over: it jumps to a peak at once and comes down slowly, by
//! e^(−time ÷ [`DECAY_US`]), also while nothing is sent, so that a member that was slow is tried again. A member of which
//! nothing is known yet gets one message, and the next when that is acknowledged or nobody else is better. Unlike there,
//! all members are compared, not two: the estimates are here, so looking costs no more than a pass over them.
//!
//! Messages at `QoS` 0 are never acknowledged: a group that gets only those is balanced by the bytes in the outboxes.

use super::weighted_round_robin::Turns;
use crate::roster::Roster;
use crate::{Balance, Choice, Member, MemberId, Request, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "least-latency",
    aliases: &["peak-ewma", "ewma", "latency", "least-response-time"],
    summary: "the member that acknowledges soonest for its load and weight",
    source: "Finagle's and Linkerd's peak EWMA",
    new: |_| Box::new(LeastLatency::default()),
};

/// The estimate's mean lifetime; Finagle's and Linkerd's default.
const DECAY_US: f64 = 10e6;
/// What in flight to an unknown member counts, in µs; Finagle's in ns.
const PENALTY_US: f64 = 1e11;

#[derive(Default)]
struct LeastLatency {
    latencies: Roster<Latency>,
    turns: Turns,
}

/// A member's time to acknowledge.
#[derive(Clone, Copy, Default)]
struct Latency {
    /// The estimate at `since_us`; 0 = nothing known.
    peak_us: f64,
    since_us: u64,
}

impl Latency {
    #[inline]
    #[allow(clippy::cast_precision_loss, reason = "microseconds, in 53 bits")]
    fn age(self, now_us: u64) -> f64 {
        now_us.saturating_sub(self.since_us) as f64 * (1.0 / DECAY_US)
    }

    #[allow(clippy::cast_precision_loss, reason = "microseconds, in 53 bits")]
    fn observe(&mut self, elapsed_us: u64, now_us: u64) {
        // 0 stands for nothing known.
        let elapsed_us = elapsed_us.max(1) as f64;
        let kept = (-self.age(now_us)).exp();
        let decayed = self.peak_us * kept;
        self.peak_us = if elapsed_us > decayed {
            elapsed_us
        } else {
            decayed + elapsed_us * (1.0 - kept)
        };
        self.since_us = self.since_us.max(now_us);
    }

    /// What it costs to give it one more, or `None` if that is more than `most`.
    #[inline]
    #[allow(clippy::cast_precision_loss, reason = "a load, not a count")]
    fn cost(self, member: &Member, now_us: u64, most: f64) -> Option<f64> {
        let weight = f64::from(member.weight.max(1));
        let in_flight = member.in_flight as f64;
        let cost = if self.peak_us == 0.0 {
            if member.in_flight == 0 {
                0.0
            } else {
                PENALTY_US + in_flight / weight
            }
        } else {
            let load = self.peak_us * (in_flight + 1.0) / weight;
            let age = self.age(now_us);
            // e^−x ≥ 1 − x: that spares nearly all the exponentials.
            if load * (1.0 - age) > most {
                return None;
            }
            load * (-age).exp()
        };
        (cost <= most).then_some(cost)
    }
}

impl Balance for LeastLatency {
    fn choose(&mut self, members: &[Member], request: &Request<'_>) -> Choice {
        let seats = self.latencies.seats(members);
        let now_us = request.now_us;
        let mut best = None;
        let mut least = f64::INFINITY;
        let mut is_tied = false;
        for (at, (seat, member)) in seats.iter().zip(members).enumerate() {
            if member.is_ready
                && let Some(cost) = seat.state.cost(member, now_us, least)
            {
                is_tied = best.is_some() && cost >= least;
                if !is_tied {
                    best = Some(at);
                    least = cost;
                }
            }
        }
        if !is_tied {
            return best.map_or(Choice::Nobody, Choice::Now);
        }
        let is_least = |at: usize, member: &Member| {
            let seat = seats.get(at);
            member.is_ready
                && seat.is_some_and(|seat| seat.state.cost(member, now_us, least).is_some())
        };
        self.turns
            .next(members, is_least)
            .map_or(Choice::Nobody, Choice::Now)
    }

    fn on_joined(&mut self, member: &Member) {
        self.latencies.joined(member.id);
        self.turns.joined(member.id);
    }

    fn on_left(&mut self, id: MemberId) {
        self.latencies.left(id);
        self.turns.left(id);
    }

    fn on_done(&mut self, id: MemberId, _: u64, elapsed_us: Option<u64>, now_us: u64) {
        if let (Some(elapsed_us), Some(latency)) = (elapsed_us, self.latencies.of(id)) {
            latency.observe(elapsed_us, now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{REQUEST, choices, joined};
    use super::*;

    fn choose(strategy: &mut dyn Balance, members: &[Member], now_us: u64) -> Choice {
        strategy.choose(members, &Request { now_us, ..REQUEST })
    }

    #[test]
    fn a_peak_counts_at_once_and_fades_by_the_decay() {
        let mut latency = Latency::default();
        latency.observe(1_000, 0);
        let near = |latency: Latency, expect: f64| {
            assert!(
                (latency.peak_us - expect).abs() < 1e-6 * expect,
                "{} beside {expect}",
                latency.peak_us
            );
        };
        near(latency, 1_000.0);
        latency.observe(1_100, 0);
        near(latency, 1_100.0);
        latency.observe(50_000, 1_000);
        near(latency, 50_000.0);
        // One lifetime later: 50,000 ÷ e + 1,000 × (1 − 1 ÷ e).
        latency.observe(1_000, 10_001_000);
        near(latency, 50_000.0 / std::f64::consts::E + 632.120_558_8);
        // A clock that seems to go back changes nothing but the sample.
        latency.observe(90_000, 5);
        near(latency, 90_000.0);
        assert_eq!(latency.since_us, 10_001_000);
    }

    #[test]
    fn the_lowest_cost_is_chosen() {
        // (weight, in flight, latency in µs)
        let check = |rows: &[(u32, u64, u64)], expect: usize| {
            let mut strategy = (STRATEGY.new)(0);
            let weights: Vec<_> = rows.iter().map(|(weight, ..)| *weight).collect();
            let mut members = joined(&mut *strategy, &weights);
            for (member, (_, in_flight, latency)) in members.iter_mut().zip(rows) {
                member.in_flight = *in_flight;
                strategy.on_done(member.id, 0, Some(*latency), 0);
            }
            assert_eq!(
                choose(&mut *strategy, &members, 0),
                Choice::Now(expect),
                "{rows:?}"
            );
        };
        check(&[(1, 0, 100), (1, 0, 90)], 1);
        check(&[(1, 4, 100), (1, 0, 499)], 1);
        check(&[(1, 4, 100), (1, 0, 501)], 0);
        check(&[(2, 9, 100), (1, 4, 101)], 0);
    }

    #[test]
    fn the_unknown_are_tried_once_each_and_then_the_best_is_kept() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 1, 1]);
        let mut tried = Vec::new();
        for _ in 0..3 {
            let at = choices(&mut *strategy, &members, 1)[0];
            members[at].in_flight += 1;
            tried.push(at);
        }
        assert_eq!(tried, [0, 1, 2]);
        // All in flight and nothing known: the least loaded.
        members[2].in_flight = 0;
        assert_eq!(choose(&mut *strategy, &members, 0), Choice::Now(2));
        members[2].in_flight = 9;
        strategy.on_done(members[2].id, 0, Some(1_000), 0);
        assert_eq!(choose(&mut *strategy, &members, 0), Choice::Now(2));
    }

    #[test]
    fn who_was_slow_is_tried_again_when_its_peak_has_faded() {
        let mut strategy = (STRATEGY.new)(0);
        let members = joined(&mut *strategy, &[1, 1]);
        strategy.on_done(members[0].id, 0, Some(1_000), 0);
        strategy.on_done(members[1].id, 0, Some(10_000), 0);
        // The fast one is sampled all the time, the slow one is not: 10 s × ln 10 = 23.03 s.
        let mut now_us = 0;
        while choose(&mut *strategy, &members, now_us) == Choice::Now(0) {
            now_us += 10_000;
            strategy.on_done(members[0].id, 0, Some(1_000), now_us);
            assert!(now_us < 60_000_000);
        }
        assert!((22_900_000..23_200_000).contains(&now_us), "{now_us}");
    }

    #[test]
    fn without_acknowledgements_the_idle_take_turns_by_weight() {
        let mut strategy = (STRATEGY.new)(0);
        let mut members = joined(&mut *strategy, &[1, 2]);
        assert_eq!(choices(&mut *strategy, &members, 6), [1, 0, 1, 1, 0, 1]);
        members[0].in_flight = 400;
        members[1].in_flight = 900;
        assert_eq!(choices(&mut *strategy, &members, 1), [0]);
    }
}
