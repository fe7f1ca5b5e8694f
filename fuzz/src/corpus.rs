//! Inputs to begin with: the files of `corpus/<target>/`.

use std::fs;
use std::path::Path;

/// The inputs of a target in the order of their names, so that a seed means the same everywhere.
pub(crate) fn load(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}
