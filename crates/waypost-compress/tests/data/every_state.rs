/// A message that takes the coder of `arithmetic` into every state that it can reach, and out of each by a likely and by an
/// unlikely bit: a wrong number anywhere in its table makes another code of it.
///
/// States of learning are for contexts that have seen little: zeros, then one other bit in each place, then noise of which
/// ever more bits are kept. Those of certainty take long: single bits twice as rare each time, then zeros alone.
fn every_state() -> Vec<u8> {
    let mut state = 1_u32;
    let mut number = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut message = Vec::new();
    for place in 0..8 {
        message.extend([0; 17]);
        message.push(1 << place);
    }
    for at in 0..2_000_u32 {
        let byte = number(256) & (number(256) | at >> 3);
        message.push(byte.to_le_bytes()[0]);
    }
    for rarer in 0..14_u32 {
        for _ in 0..60 << rarer.saturating_sub(5) {
            let place = number(1 << rarer);
            message.push(if place == 0 { 1 << number(8) } else { 0 });
        }
    }
    message.resize(message.len() + 34_000, 0);
    message
}
