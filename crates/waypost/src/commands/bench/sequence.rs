//! Whether everything arrived, once and in order: each publisher numbers its messages, each
//! subscriber checks the numbers of each publisher.

use std::collections::HashSet;

/// Missing numbers remembered for one pair; more are only counted.
const GAPS_MAX: u64 = 4_096;

/// What one subscriber saw of one publisher.
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
    gaps: HashSet<u64>,
    gaps_forgotten: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that came after a later one.
    pub reordered: u64,
}

impl Sequence {
    /// Message `number` arrived.
    pub fn see(&mut self, number: u64) {
        if number >= self.next {
            let room = GAPS_MAX.saturating_sub(self.gaps.len() as u64);
            let remembered = (number - self.next).min(room);
            self.gaps.extend(number - remembered..number);
            self.gaps_forgotten += number - self.next - remembered;
            self.next = number + 1;
        } else if self.gaps.remove(&number) {
            self.reordered += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// Messages that did not come, of `published`.
    pub fn missing(&self, published: u64) -> u64 {
        published.saturating_sub(self.next) + self.gaps.len() as u64 + self.gaps_forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(numbers: &[u64], published: u64, missing: u64, duplicates: u64, reordered: u64) {
        let mut sequence = Sequence::default();
        for &number in numbers {
            sequence.see(number);
        }
        let seen = (
            sequence.missing(published),
            sequence.duplicates,
            sequence.reordered,
        );
        assert_eq!(seen, (missing, duplicates, reordered), "{numbers:?}");
    }

    #[test]
    fn what_is_wrong_is_counted_as_what_it_is() {
        check(&[0, 1, 2], 3, 0, 0, 0);
        check(&[], 3, 3, 0, 0);
        check(&[0, 2], 3, 1, 0, 0);
        check(&[0, 2, 1], 3, 0, 0, 1);
        check(&[0, 1, 1, 2], 3, 0, 1, 0);
        check(&[2, 2, 0], 4, 2, 1, 1);
        check(&[GAPS_MAX * 2], GAPS_MAX * 2 + 1, GAPS_MAX * 2, 0, 0);
    }
}
