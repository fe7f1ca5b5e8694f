//! Sealed texts from outside: none opens but the one that was sealed.
//!
//! Input: a byte for the strategy, 12 of nonce, 16 of tag, one for the length of the associated data, then both texts.

use waypost_encrypt::{Key, Nonce, OpenError, Tag, at_rest};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((&selector, rest)) = input.split_first() else {
        return;
    };
    let Some((nonce, rest)) = rest.split_first_chunk() else {
        return;
    };
    let Some((tag, rest)) = rest.split_first_chunk() else {
        return;
    };
    let Some((&split, rest)) = rest.split_first() else {
        return;
    };
    let (associated, text) = rest.split_at(usize::from(split).min(rest.len()));
    let strategies: Vec<_> = at_rest().collect();
    let Some(strategy) = strategies.get(usize::from(selector) % strategies.len()) else {
        return;
    };
    let at_work = (strategy.new)(&Key::new([0x5a; 32]));
    let (nonce, tag) = (Nonce(*nonce), Tag(*tag));
    let mut sealed = text.to_vec();
    let made = at_work.seal_in_place(nonce, associated, &mut sealed);
    assert!(made.is_ok(), "{} bytes were not sealed", text.len());
    let Ok(made) = made else { return };
    let mut opened = sealed.clone();
    let forged = at_work.open_in_place(nonce, associated, &mut opened, &tag);
    assert_eq!(forged.is_ok(), tag == made);
    let mut opened = text.to_vec();
    let hostile = at_work.open_in_place(nonce, associated, &mut opened, &tag);
    assert!(hostile == Err(OpenError) || text == sealed && tag == made);
    assert_eq!(
        at_work.open_in_place(nonce, associated, &mut sealed, &made),
        Ok(())
    );
    assert_eq!(sealed, text);
}
