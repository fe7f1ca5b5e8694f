//! The repository's text files, read once and looked at by every check.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::Failure;

/// One text file: its path from the root, with `/`, and its text.
#[derive(Debug)]
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|extension| extension == "rs")
    }

    /// The 1-based line that holds byte `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        self.text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1
    }
}

/// The files that git tracks or would track.
#[derive(Debug)]
pub struct Repository {
    files: Vec<File>,
}

impl Repository {
    /// Reads all text files below `root`, but for what git ignores.
    pub fn read(root: &Path) -> Result<Self, Failure> {
        let list = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()
            .map_err(|error| Failure::new(format!("git ls-files: {error}")))?;
        if !list.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&list.stderr)));
        }
        let paths = String::from_utf8_lossy(&list.stdout).into_owned();
        let mut files: Vec<File> = paths
            .split('\0')
            .filter(|path| !path.is_empty())
            // A listed file may be deleted in the work tree, and corpus files are no text: neither is read.
            .filter_map(|path| {
                let text = std::fs::read_to_string(root.join(path)).ok()?;
                Some(File {
                    path: path.to_owned(),
                    text,
                })
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(Self { files })
    }

    /// A repository of the given files, for the checks' own tests.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        });
        Self {
            files: files.collect(),
        }
    }

    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// The Rust files below `folder` (a path that ends in `/`, or empty for all).
    pub fn rust_files<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a File> {
        self.files
            .iter()
            .filter(move |file| file.path.starts_with(folder) && file.is_rust())
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The text of `path`, which the repository must have.
    pub fn text(&self, path: &str) -> Result<&str, Failure> {
        self.file(path)
            .map(|file| file.text.as_str())
            .ok_or_else(|| Failure::new(format!("{path} is missing")))
    }
}

/// The repository's root: the folder above xtask.
pub fn root() -> Result<PathBuf, Failure> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new("xtask has no folder above it"))
}
