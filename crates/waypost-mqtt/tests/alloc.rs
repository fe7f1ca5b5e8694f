//! Decoding a PUBLISH and writing its head allocate nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

mod notation;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use notation::{SAMPLES, bytes};
use waypost_mqtt::{
    Packet, ProtocolVersion, PublishHead, QoS, Role, decode, decode_header, encode_publish_head,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counter is a plain
// thread-local number without a destructor, so counting neither allocates nor unwinds.
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

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8]))), 1);
}

#[test]
fn decoding_a_publish_allocates_nothing() {
    for sample in SAMPLES {
        let packet = bytes(sample.text);
        let count = allocations(|| {
            let header = decode_header(&packet).unwrap().unwrap();
            let decoded = decode(&packet[..header.total_len()], sample.version, sample.sender);
            let Ok(Packet::Publish(publish)) = decoded else {
                return;
            };
            std::hint::black_box((
                publish.properties.topic_alias(),
                publish.properties.message_expiry_interval(),
                publish.properties.forwardable(),
                publish.properties.user_properties().count(),
            ));
        });
        assert_eq!(count, 0, "{}", sample.name);
    }
}

#[test]
fn a_refusal_allocates_nothing() {
    let packet = bytes(r#"30 @ "a/+" { }"#);
    let count = allocations(|| {
        assert!(decode(&packet, ProtocolVersion::V5, Role::Client).is_err());
    });
    assert_eq!(count, 0);
}

#[test]
fn a_publish_head_allocates_nothing_in_a_buffer_with_room() {
    let mut out = Vec::with_capacity(256);
    let head = PublishHead {
        version: ProtocolVersion::V5,
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "rooms/17/chat",
        packet_id: 1,
        topic_alias: Some(1),
        message_expiry_interval: Some(60),
        subscription_identifiers: &[1, 2, 3],
        properties: &[],
        payload_len: 64,
    };
    let count = allocations(|| {
        encode_publish_head(&head, &mut out);
    });
    assert_eq!(count, 0);
}
