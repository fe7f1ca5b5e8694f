//! The dictionaries that strategies at work use.

use std::sync::Arc;

use waypost_compress::dictionary::{Dictionaries, Dictionary};
use waypost_compress::{Stages, StagesAtWork, zstd_dict};

use crate::dictionaries::Shelf;

/// Where they are found, and which one packs.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) shelf: Arc<Shelf>,
    pub(super) current: Option<Arc<Dictionary>>,
}

impl Books {
    /// Makes one of each stage.
    pub(super) fn at_work(&self, stages: &Stages) -> StagesAtWork {
        stages.at_work_with(|strategy| {
            if strategy.name == zstd_dict::NAME {
                let known: Arc<dyn Dictionaries> = Arc::<Shelf>::clone(&self.shelf);
                return zstd_dict::with(known, self.current.clone());
            }
            (strategy.new)()
        })
    }

    /// The id of what packs.
    pub(super) fn id(&self) -> Option<u32> {
        self.current.as_ref().map(|dictionary| dictionary.id())
    }
}
