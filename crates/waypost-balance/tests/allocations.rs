//! A choice allocates nothing once a strategy knows its members, publishers and keys.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use waypost_balance::{Balance, Choice, Member, MemberId, Request, registry};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counter is a plain thread-local number without
// a destructor, so counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` above with the same layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const KEYS: u32 = 500;

/// Each key's message goes to a member and is acknowledged; every tenth finds half the members without credit.
fn round(strategy: &mut dyn Balance, members: &mut [Member], topics: &[String]) {
    for (number, topic) in (0..KEYS).zip(topics) {
        for member in members.iter_mut() {
            member.is_ready = number % 10 != 0 || member.id.0 % 2 == 0;
        }
        let address = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let request = Request {
            topic,
            key: None,
            publisher: number.into(),
            address: Some(address.into()),
            shard: 0,
            now_us: u64::from(number) * 1_000,
        };
        if let Choice::Now(at) | Choice::Later(at) = strategy.choose(members, &request) {
            let id = members[at].id;
            let token = strategy.on_sent(id, &request);
            members[at].in_flight += 1;
            strategy.on_done(id, token, Some(500), request.now_us + 500);
            members[at].in_flight = members[at]
                .in_flight
                .saturating_sub(u64::from(number % 3 != 0));
        }
    }
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8]))), 1);
}

#[test]
fn a_choice_allocates_nothing() {
    let topics: Vec<_> = (0..KEYS).map(|number| format!("topic/{number}")).collect();
    for strategy in registry() {
        for count in [10, 1_000] {
            let mut balance = (strategy.new)(1);
            let mut members: Vec<_> = (0..count)
                .map(|id| Member {
                    id: MemberId(id),
                    identity: u64::from(id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                    weight: 1 + id % 3,
                    in_flight: 0,
                    is_ready: true,
                    shard: u16::from(id % 2 == 0),
                    site: 0,
                })
                .collect();
            for member in &members {
                balance.on_joined(member);
            }
            round(&mut *balance, &mut members, &topics);
            let count = allocations(|| round(&mut *balance, &mut members, &topics));
            assert_eq!(count, 0, "{strategy:?} among {}", members.len());
        }
    }
}
