//! What each shard asks: the rules, as the core's `Permit` and `Authenticate`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use waypost_auth::{LogIn, Permissions, Rules};
use waypost_core::{AllowAll, Authenticate, Permit, ShardId};

use super::log_ins::{DeskPort, ShardPasswords};
use crate::dictionaries::{ReadersOf, Shelf};
use crate::metrics::Stats;

/// Makes the judges of every shard.
#[derive(Clone)]
pub(super) struct Judges {
    pub(super) desk: DeskPort,
    /// Secret: names and topics that clients choose are hashed with it.
    pub(super) seed: u64,
    pub(super) verdicts_max: usize,
    pub(super) stats: Arc<Stats>,
    /// Who may read which dictionary follows from whose messages it is made of.
    pub(super) shelf: Arc<Shelf>,
}

impl Judges {
    /// Those of one shard, by these rules and those until now.
    pub(super) fn of(
        &self,
        shard: ShardId,
        rules: &Arc<Rules>,
        before: &Arc<Rules>,
    ) -> (Box<dyn Permit + Send>, Box<dyn Authenticate + Send>) {
        let seed = self.seed.wrapping_add(u64::from(shard.0));
        // Where everything is allowed, nobody looks anything up.
        let permit: Box<dyn Permit + Send> = if rules.is_open() {
            Box::new(AllowAll)
        } else {
            let stats = Arc::clone(&self.stats);
            let on_evicted = Box::new(move || {
                stats
                    .server
                    .verdicts_forgotten
                    .fetch_add(1, Ordering::Relaxed);
            });
            let permit = Permissions::new(Arc::clone(rules), seed, self.verdicts_max, on_evicted);
            Box::new(ReadersOf {
                permit,
                shelf: Arc::clone(&self.shelf),
            })
        };
        let passwords = ShardPasswords {
            shard,
            desk: self.desk.clone(),
            stats: Arc::clone(&self.stats),
        };
        let log_in = LogIn::new(Arc::clone(rules), Arc::clone(before), seed, passwords);
        (permit, Box::new(log_in))
    }
}
