//! Records of the log: whatever is read can be written again and says the same, and damage points into the records.
//!
//! Input: records.

use waypost_store::{Batch, decode_ops, decode_transactions};

/// Runs the target.
pub fn run(input: &[u8]) {
    let mut batch = Batch::new();
    let mut whole = Vec::new();
    for transaction in decode_transactions(input) {
        match transaction {
            Ok(transaction) => {
                assert!(transaction.record_bytes() <= input.len());
                for op in transaction.ops().flatten() {
                    batch.push(op);
                    whole.push(op);
                }
                batch.end();
            }
            Err(damage) => assert!(damage.offset <= input.len(), "{damage}"),
        }
    }
    let again: Vec<_> = decode_ops(batch.records())
        .map(|op| format!("{op:?}"))
        .collect();
    assert_eq!(again.len(), whole.len());
    for op in decode_ops(input) {
        match op {
            Ok(op) => assert!(!format!("{op:?}").is_empty()),
            Err(damage) => assert!(damage.offset <= input.len(), "{damage}"),
        }
    }
}
