//! What tests need and cargo does not bring: `tests/parts` finds or installs it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// The path of a part. `None` where `tests/run` has named it as missing on this machine: the test then
/// says that it goes without and ends. Anywhere else a part that can't be had fails the test.
pub(crate) fn part(name: &str) -> Option<PathBuf> {
    let without = std::env::var("OFFIACCOUNT_TEST_WITHOUT").unwrap_or_default();
    if without.split_whitespace().any(|missing| missing == name) {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let said = format!("{test}: goes without, no {name} here\n");
        // Not `eprintln!`: of a test that passes the runner hides it.
        let _ = std::io::stderr().write_all(said.as_bytes());
        return None;
    }
    let parts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parts");
    let found = Command::new(parts).arg(name).output().unwrap();
    assert!(
        found.status.success(),
        "no {name} for the tests: {}",
        String::from_utf8_lossy(&found.stderr)
    );
    Some(String::from_utf8(found.stdout).unwrap().trim().into())
}
