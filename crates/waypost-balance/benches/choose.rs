//! Nanoseconds of a choice: `cargo bench -p waypost-balance`.
//!
//! Each choice is for another topic, publisher and address, with what belongs to it: the message is given to the member, and
//! one given before is acknowledged.

#![allow(missing_docs)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use waypost_balance::{Choice, Member, MemberId, Request, Strategy, registry};

const ROUNDS: usize = 7;
const CHOICES: u32 = 20_000;
const IN_FLIGHT: usize = 200;

fn main() {
    println!("ns a choice        10 members   100 members  1,000 members");
    for strategy in registry() {
        let [ten, hundred, thousand] = [10, 100, 1_000].map(|count| nanoseconds(strategy, count));
        let name = strategy.name;
        println!("{name:<24} {ten:>8.0} {hundred:>13.0} {thousand:>14.0}");
    }
}

/// The best of some rounds: what disturbs only adds.
fn nanoseconds(strategy: &Strategy, count: u32) -> f64 {
    let topics: Vec<_> = (0..1_000).map(|n| format!("rooms/{n}/chat")).collect();
    let mut best = f64::INFINITY;
    for round in 0..ROUNDS {
        let mut balance = (strategy.new)(round as u64);
        let mut members: Vec<_> = (0..count).map(member).collect();
        for member in &members {
            balance.on_joined(member);
        }
        let mut in_flight = VecDeque::with_capacity(IN_FLIGHT + 1);
        let start = Instant::now();
        for (number, topic) in (0..CHOICES).zip(topics.iter().cycle()) {
            let now_us = u64::from(number) * 10;
            let request = Request {
                topic,
                key: None,
                publisher: u64::from(number % 1_000).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                address: Some(
                    (number % 1_000)
                        .wrapping_mul(0x9e37_79b9)
                        .to_be_bytes()
                        .into(),
                ),
                shard: 0,
                now_us,
            };
            let choice = black_box(balance.choose(black_box(&members), &request));
            if let Choice::Now(at) = choice
                && let Some(member) = members.get_mut(at)
            {
                member.in_flight += 1;
                in_flight.push_back((at, balance.on_sent(member.id, &request)));
            }
            if in_flight.len() > IN_FLIGHT
                && let Some((at, token)) = in_flight.pop_front()
                && let Some(member) = members.get_mut(at)
            {
                member.in_flight -= 1;
                balance.on_done(member.id, token, Some(2_000), now_us);
            }
        }
        let elapsed = start.elapsed().as_secs_f64() * 1e9 / f64::from(CHOICES);
        best = best.min(elapsed);
    }
    best
}

fn member(id: u32) -> Member {
    Member {
        id: MemberId(id),
        identity: u64::from(id + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23),
        weight: 1 + id % 2,
        in_flight: 0,
        is_ready: true,
        shard: 0,
        site: 0,
    }
}
