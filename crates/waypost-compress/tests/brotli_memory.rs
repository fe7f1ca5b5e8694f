//! What unpacking brotli takes of memory, by the caller's limit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use waypost_compress::{DecompressError, find};

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counters are plain thread-local numbers without
// a destructor, so counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NOW.set(NOW.get().wrapping_add(layout.size()));
        MOST.set(MOST.get().max(NOW.get()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.set(NOW.get().wrapping_sub(layout.size()));
        // SAFETY: the pointer came from `System.alloc` above with the same layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that was taken at once.
fn most(work: impl FnOnce()) -> usize {
    NOW.set(0);
    MOST.set(0);
    work();
    MOST.get()
}

/// 64 MiB of zeros with a window of 16 MiB, the largest, by the crate's own encoder.
fn bomb() -> Vec<u8> {
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: 5,
        lgwin: 24,
        ..Default::default()
    };
    let mut packed = Vec::new();
    let plain = vec![0; 64 << 20];
    brotli::BrotliCompress(&mut &plain[..], &mut packed, &parameters).unwrap();
    packed
}

/// Goal: a bomb is refused before the memory that it asks for is spent. Method: at limits from a byte to a megabyte.
#[test]
fn a_bomb_of_brotli_takes_memory_by_the_limit_and_not_by_its_window() {
    let bomb = bomb();
    assert!(bomb.len() < 1_000, "{}", bomb.len());
    let mut codec = (find("brotli").unwrap().new)();
    for (limit, most_allowed) in [(1, 512 << 10), (100_000, 640 << 10), (1_000_000, 3 << 20)] {
        let took = most(|| {
            let outcome = codec.decompress(&bomb, limit, &mut Vec::new());
            assert_eq!(outcome, Err(DecompressError::TooLong { limit }));
        });
        println!("limit {limit}: {took} bytes at most");
        assert!(took <= most_allowed, "{limit}: {took} bytes");
    }
}
