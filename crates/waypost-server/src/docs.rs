//! Pages of `docs/` that are generated from the code's own tables, kept current by tests.

use std::path::Path;

/// Fails when `docs/<name>` is not `expected`; writes it when `RENEW_DOCS` is set.
pub(crate) fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("RENEW_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/{name} is not current: RENEW_DOCS=1 cargo test -p waypost-server writes it anew"
    );
}
