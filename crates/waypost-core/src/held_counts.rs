//! How many answers of each connection wait: only those with any take memory.

/// How many answers of one connection wait, and where the last of them does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldCounts {
    /// For other shards.
    pub pending: u16,
    /// For the operating system.
    pub written: u16,
    /// For the disk.
    pub durable: u16,
    /// Of all these, those the client's Receive Maximum counts.
    pub unfinished: u16,
    /// Nothing more is read until some have gone.
    pub is_paused: bool,
}

impl HeldCounts {
    pub fn total(self) -> usize {
        usize::from(self.pending) + usize::from(self.written) + usize::from(self.durable)
    }
}

/// Where a connection's counts are; 0 = it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldPlace(u32);

/// The counts of all connections.
#[derive(Debug, Default)]
pub(crate) struct AllHeldCounts {
    places: Vec<HeldCounts>,
    free: Vec<HeldPlace>,
}

impl AllHeldCounts {
    pub fn get(&self, place: HeldPlace) -> HeldCounts {
        let at = place.0.checked_sub(1);
        let counts = at.and_then(|at| self.places.get(at as usize));
        counts.copied().unwrap_or_default()
    }

    /// Changes a connection's counts.
    pub fn change(&mut self, place: &mut HeldPlace, change: impl FnOnce(&mut HeldCounts)) {
        if *place == HeldPlace::default() {
            *place = self.free.pop().unwrap_or_else(|| {
                self.places.push(HeldCounts::default());
                HeldPlace(u32::try_from(self.places.len()).unwrap_or(0))
            });
        }
        let at = place.0.checked_sub(1);
        let Some(counts) = at.and_then(|at| self.places.get_mut(at as usize)) else {
            return;
        };
        change(counts);
        if counts.total() == 0 && !counts.is_paused {
            self.remove(std::mem::take(place));
        }
    }

    /// The connection is gone.
    pub fn remove(&mut self, place: HeldPlace) {
        let at = place.0.checked_sub(1);
        if let Some(counts) = at.and_then(|at| self.places.get_mut(at as usize)) {
            *counts = HeldCounts::default();
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_nothing_takes_no_place() {
        let mut all = AllHeldCounts::default();
        let mut connections = [HeldPlace::default(); 3];
        for (number, place) in connections.iter_mut().enumerate() {
            all.change(place, |counts| {
                counts.durable += 1 + u16::try_from(number).unwrap();
            });
        }
        assert_eq!(connections.map(|place| all.get(place).total()), [1, 2, 3]);
        all.change(&mut connections[0], |counts| counts.durable -= 1);
        assert_eq!(connections[0], HeldPlace::default());
        all.remove(std::mem::take(&mut connections[1]));
        for place in &mut connections[..2] {
            assert_eq!(all.get(*place).total(), 0);
            all.change(place, |counts| counts.pending += 7);
        }
        assert_eq!(connections.map(|place| all.get(place).total()), [7, 7, 3]);
        assert_eq!(all.places.len(), 3);
        all.change(&mut connections[2], |counts| {
            counts.durable = 0;
            counts.is_paused = true;
        });
        assert!(all.get(connections[2]).is_paused);
    }
}
