//! The public API of the libraries, compared with `docs/api`.
//!
//! The test reads rustdoc's JSON, whose format changes with releases of Rust, so it runs only on
//! request, as in `.ci/run`. After a deliberate change of an API:
//!
//! ```console
//! $ UPDATE_API=1 cargo test --package quorate --test api -- --ignored
//! ```

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARIES: [&str; 7] = [
    "quorate",
    "quorate-client",
    "quorate-election",
    "quorate-ipc",
    "quorate-membership",
    "quorate-netsim",
    "quorate-picture",
];

#[test]
#[ignore = "reads the JSON of Rust 1.95's rustdoc"]
fn the_public_api_is_as_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let described = describe(root);
    let mut differences = String::new();
    for library in LIBRARIES {
        let file = root.join("docs/api").join(library).with_extension("txt");
        let now = public_api(&described, library);
        if env::var_os("UPDATE_API").is_some() {
            fs::write(&file, &now).unwrap();
            continue;
        }
        let before = fs::read_to_string(&file).unwrap();
        let [now, before] = [&now, &before].map(|text| text.lines().collect::<BTreeSet<_>>());
        let gone = (&before - &now).into_iter().map(|line| format!("- {line}\n"));
        let new = (&now - &before).into_iter().map(|line| format!("+ {line}\n"));
        differences.extend(gone.chain(new));
    }
    assert!(
        differences.is_empty(),
        "the public API differs from docs/api:\n{differences}\nIf that is intended, run\n\
         UPDATE_API=1 cargo test --package quorate --test api -- --ignored"
    );
}

/// Describes all libraries in rustdoc's JSON. Returns the directory.
fn describe(root: &Path) -> PathBuf {
    // JSON output is unstable, and a stable rustdoc writes it only with this variable. Because the
    // variable is set for rustdoc alone, the dependencies are not built again.
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let rustdoc = temporary.join("rustdoc");
    fs::write(&rustdoc, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n").unwrap();
    fs::set_permissions(&rustdoc, fs::Permissions::from_mode(0o755)).unwrap();
    let target = temporary.parent().unwrap();
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .env("RUSTDOC", rustdoc)
        .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json --cap-lints allow")
        .args(["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--lib", "--target-dir"])
        .arg(target)
        .status()
        .unwrap();
    assert!(status.success(), "rustdoc failed");
    target.join("doc")
}

/// Returns a library's public items, one per line.
fn public_api(described: &Path, library: &str) -> String {
    let json = described.join(library.replace('-', "_")).with_extension("json");
    public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap_or_else(|error| panic!("{library}: {error}"))
        .to_string()
}
