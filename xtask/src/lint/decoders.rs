//! Every public decoder and every state machine is reached by a fuzz target.

use super::{Finding, pure_crates::is_test_file};
use crate::{
    repository::{File, Repository},
    rust_source,
};

/// Crates whose public `decode…` and `parse…` functions take bytes or text from outside.
const DECODING: &[&str] = &[
    "crates/waypost-mqtt/src/",
    "crates/waypost-core/src/",
    "crates/waypost-compress/src/",
    "crates/waypost-store/src/",
    "crates/waypost-encrypt/src/",
    "crates/waypost-client/src/keys/",
    "crates/waypost-mesh/src/",
    "crates/waypost-server/src/dictionaries/",
    "crates/waypost-server/src/stream/",
];

/// Decoders that go by another name: the file that must have it, its type and its function.
const READERS: &[(&str, &str, &str)] = &[
    (
        "crates/waypost-compress/src/dictionary/mod.rs",
        "Dictionary",
        "new",
    ),
    (
        "crates/waypost-compress/src/stages.rs",
        "Stages",
        "from_content_encoding",
    ),
];

/// State machines that take what peers send: the file that must exist, and the type.
const MACHINES: &[(&str, &str)] = &[("crates/waypost-core/src/lib.rs", "Broker")];

const FUZZ: &str = "fuzz/src/";

pub fn check(repository: &Repository) -> Vec<Finding> {
    let targets: String = repository
        .rust_files(FUZZ)
        .map(|file| rust_source::code_only(&file.text))
        .collect::<Vec<_>>()
        .join("\n");
    let mut findings = Vec::new();
    for folder in DECODING {
        for file in repository
            .rust_files(folder)
            .filter(|file| !is_test_file(&file.path))
        {
            for (line, name) in entry_points(file)
                .into_iter()
                .filter(|(_, name)| !calls(&targets, name))
            {
                let fix = "call it in a target under fuzz/src and list that target in targets()";
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("no fuzz target calls {name}"),
                    fix,
                ));
            }
        }
    }
    for (path, owner, function) in READERS {
        let Some(file) = repository.file(path) else {
            continue;
        };
        let name = format!("{owner}::{function}");
        let declaration = format!("pub fn {function}(");
        let line = file.text.lines().position(|it| it.contains(&declaration));
        let (what, fix) = match line {
            None => (
                format!("{name} is not here"),
                "say in xtask/src/lint/decoders.rs where it is",
            ),
            Some(_) if !calls(&targets, &name) => (
                format!("no fuzz target calls {name}"),
                "call it in a target under fuzz/src and list that target in targets()",
            ),
            Some(_) => continue,
        };
        let line = line.map_or(1, |index| index + 1);
        findings.push(Finding::new(&file.path, line, what, fix));
    }
    for (path, machine) in MACHINES {
        let Some(file) = repository.file(path).filter(|file| exports(file, machine)) else {
            continue;
        };
        if !calls(&targets, &format!("{machine}::new")) {
            let fix = "drive it by generated operations in a target under fuzz/src";
            findings.push(Finding::new(
                &file.path,
                1,
                format!("no fuzz target drives {machine}"),
                fix,
            ));
        }
    }
    findings
}

fn exports(file: &File, machine: &str) -> bool {
    file.text
        .lines()
        .any(|line| line.trim_start().starts_with("pub use") && line.contains(machine))
}

/// The public decoders of a file as `(line, name)`; methods as `Type::name`.
fn entry_points(file: &File) -> Vec<(usize, String)> {
    let code = rust_source::code_only(&file.text);
    let code = code
        .get(..rust_source::tests_start(&file.text))
        .unwrap_or(&code);
    let mut found = Vec::new();
    let mut owner: Option<String> = None;
    for (index, line) in code.lines().enumerate() {
        if line.starts_with("impl") {
            owner = implemented_type(line);
        } else if line.starts_with('}') {
            owner = None;
        }
        let declaration = line
            .trim_start()
            .trim_start_matches("pub const ")
            .trim_start_matches("pub ");
        let is_public = line.trim_start().starts_with("pub fn")
            || line.trim_start().starts_with("pub const fn");
        let Some(name) = declaration.strip_prefix("fn ").filter(|_| is_public) else {
            continue;
        };
        let name = name
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default();
        if name.starts_with("decode") || name.starts_with("parse") {
            let full = owner
                .as_ref()
                .map_or_else(|| name.to_owned(), |owner| format!("{owner}::{name}"));
            found.push((index + 1, full));
        }
    }
    found
}

/// The type of an `impl` line: `Topic` in `impl<'a> Topic<'a> {`.
fn implemented_type(line: &str) -> Option<String> {
    let head = line.split('{').next()?;
    let subject = head.rsplit(" for ").next()?;
    let subject = subject.trim_start_matches("impl").trim();
    let subject = if subject.starts_with('<') {
        subject.split_once('>')?.1.trim()
    } else {
        subject
    };
    let name = subject
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn calls(targets: &str, name: &str) -> bool {
    targets.match_indices(name).any(|(offset, _)| {
        let before = targets
            .get(..offset)
            .and_then(|text| text.chars().next_back());
        let after = targets.get(offset + name.len()..).unwrap_or_default();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && after.trim_start().starts_with('(')
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    const CODEC: &str = "crates/waypost-mqtt/src/topic.rs";
    const SOURCE: &str = "impl<'a> Topic<'a> {\n    pub fn parse(text: &'a str) {}\n}\npub fn decode(bytes: &[u8]) {}\nfn parse_inner() {}\n";

    #[test]
    fn every_public_decoder_is_called_by_a_target() {
        let fuzz = (
            "fuzz/src/lib.rs",
            "fn t(b: &[u8]) { waypost_mqtt::decode(b); Topic::parse(s); }",
        );
        expect_good(check, &[(CODEC, SOURCE), fuzz]);
    }

    #[test]
    fn a_decoder_without_a_target_is_found() {
        let fuzz = (
            "fuzz/src/lib.rs",
            "fn t(b: &[u8]) { decode(b); Filter::parse(s); } // Topic::parse(s)",
        );
        expect_bad(
            check,
            &[(CODEC, SOURCE), fuzz],
            "crates/waypost-mqtt/src/topic.rs:2",
            "Topic::parse",
        );
    }

    #[test]
    fn a_decoder_by_another_name_is_found_too() {
        let (path, owner, _) = READERS[0];
        let here = (
            path,
            "impl Dictionary {\n    pub fn new(bytes: Vec<u8>) {}\n}\n",
        );
        let fuzz = (
            "fuzz/src/lib.rs",
            "fn t(b: &[u8]) { Dictionary::new(b.to_vec()); }",
        );
        expect_good(check, &[here, fuzz]);
        expect_bad(check, &[here], &format!("{path}:2"), owner);
        let moved = (path, "pub struct Dictionary;\n");
        expect_bad(check, &[moved, fuzz], &format!("{path}:1"), "is not here");
    }

    #[test]
    fn a_state_machine_without_a_target_is_found() {
        let core = (
            "crates/waypost-core/src/lib.rs",
            "pub use broker::Broker;\n",
        );
        expect_good(
            check,
            &[core, ("fuzz/src/lib.rs", "fn t() { Broker::new(config) }")],
        );
        expect_bad(check, &[core], "crates/waypost-core/src/lib.rs:1", "Broker");
    }
}
