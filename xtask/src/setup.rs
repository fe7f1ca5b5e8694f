//! What the tests with real clients need beyond Rust, Python and Node: Debian's mosquitto clients, OpenSSL and
//! Chromium, paho-mqtt in `.venv`, MQTT.js and puppeteer-core in `tests/clients/node/node_modules`. Versions are pinned
//! in the files beside the scripts.

use std::path::Path;

use crate::{failure::Failure, process};

const REQUIREMENTS: &str = "tests/clients/python/requirements.txt";
const NODE: &str = "tests/clients/node";

/// Debian packages: what must be there, and the package that has it.
const PACKAGES: &[(&str, &str)] = &[
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("openssl", "openssl"),
    ("chromium", "chromium"),
    ("cc", "build-essential"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3-venv"),
    ("strace", "strace"),
];

pub fn run(root: &Path) -> Result<(), Failure> {
    install_packages(root)?;
    install_python(root)?;
    install_node(root)
}

fn install_packages(root: &Path) -> Result<(), Failure> {
    let mut missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| !process::exists(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let is_root = process::output(root, "id", &["-u"]).as_deref() == Some("0");
    if !is_root || !process::exists("apt-get") {
        let list = missing.join(" ");
        return Err(Failure::new(format!(
            "the tests with real clients need {list}; on Debian: sudo apt-get install {list}, then run this again"
        )));
    }
    process::run(root, "apt-get", &["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing);
    process::run(root, "apt-get", &arguments)
}

fn install_python(root: &Path) -> Result<(), Failure> {
    let stamp = root.join(".venv/requirements.txt");
    if is_same(&stamp, &root.join(REQUIREMENTS)) {
        return Ok(());
    }
    process::run(root, "python3", &["-m", "venv", ".venv"]).map_err(|failure| {
        Failure::new(format!(
            "{failure}; Python's venv module is needed (Debian: sudo apt-get install python3-venv)"
        ))
    })?;
    process::run(
        root,
        ".venv/bin/python",
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            REQUIREMENTS,
        ],
    )?;
    copy(&root.join(REQUIREMENTS), &stamp)
}

fn install_node(root: &Path) -> Result<(), Failure> {
    let folder = root.join(NODE);
    let lock = folder.join("package-lock.json");
    let stamp = folder.join("node_modules/installed-package-lock.json");
    if is_same(&stamp, &lock) {
        return Ok(());
    }
    process::run(
        &folder,
        "npm",
        &["ci", "--no-audit", "--no-fund", "--ignore-scripts"],
    )?;
    copy(&lock, &stamp)
}

/// Whether what was installed last is what is asked for now.
fn is_same(stamp: &Path, source: &Path) -> bool {
    matches!((std::fs::read(stamp), std::fs::read(source)), (Ok(stamp), Ok(source)) if stamp == source)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|error| Failure::new(format!("{}: {error}", to.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_again_only_when_the_pins_change() {
        let folder = tempfile::tempdir().unwrap();
        let (stamp, source) = (folder.path().join("stamp"), folder.path().join("source"));
        std::fs::write(&source, "paho-mqtt==2").unwrap();
        assert!(!is_same(&stamp, &source));
        copy(&source, &stamp).unwrap();
        assert!(is_same(&stamp, &source));
        std::fs::write(&source, "paho-mqtt==3").unwrap();
        assert!(!is_same(&stamp, &source));
    }
}
