//! Every `unsafe` says why it is sound.

use super::Finding;
use crate::{repository::Repository, rust_source};

/// How many lines above an `unsafe` its reason may begin.
const REACH_LINES: usize = 8;

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.rust_files("") {
        let code = rust_source::code_only(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, _) in code
            .lines()
            .enumerate()
            .filter(|(_, line)| has_unsafe(line))
        {
            let above = lines
                .get(index.saturating_sub(REACH_LINES)..=index)
                .unwrap_or_default();
            // The reason stands directly above, or with attributes and earlier lines of the statement between.
            if !above
                .iter()
                .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
            {
                let fix = "write `// SAFETY:` and the reason above it, or do without";
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    "unsafe without a reason",
                    fix,
                ));
            }
        }
    }
    findings
}

fn has_unsafe(line: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == "unsafe")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{expect_bad, expect_good},
        *,
    };

    #[test]
    fn a_reason_is_required() {
        expect_good(
            check,
            &[(
                "a.rs",
                "// SAFETY: the slice is that long.\nunsafe { f() }\n",
            )],
        );
        expect_good(
            check,
            &[(
                "a.rs",
                "#![forbid(unsafe_code)]\n// unsafe is a word\nlet s = \"unsafe\";\n",
            )],
        );
        expect_bad(
            check,
            &[("a.rs", "fn g() {\n    unsafe { f() }\n}\n")],
            "a.rs:2",
            "SAFETY",
        );
    }
}
