//! The public API of the libraries, compared with `docs/api`.
//!
//! The test reads rustdoc's JSON, whose format changes with releases of Rust, so it runs only if it
//! is asked for, as `.ci/run` does. After a deliberate change of an API:
//!
//! ```console
//! $ UPDATE_API=1 cargo test --package quorate --test api -- --ignored
//! ```

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARIES: [&str; 5] =
    ["quorate", "quorate-client", "quorate-election", "quorate-membership", "quorate-netsim"];

#[test]
#[ignore = "reads the JSON of Rust 1.95's rustdoc"]
fn the_public_api_is_as_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut differences = String::new();
    for library in LIBRARIES {
        let file = root.join("docs/api").join(library).with_extension("txt");
        let now = public_api(root, library);
        if env::var_os("UPDATE_API").is_some() {
            fs::write(&file, &now).unwrap();
            continue;
        }
        let described = fs::read_to_string(&file).unwrap();
        let [now, described] = [&now, &described].map(|text| text.lines().collect::<BTreeSet<_>>());
        let gone = (&described - &now).into_iter().map(|line| format!("- {line}\n"));
        let new = (&now - &described).into_iter().map(|line| format!("+ {line}\n"));
        differences.extend(gone.chain(new));
    }
    assert!(
        differences.is_empty(),
        "the public API differs from docs/api:\n{differences}\nIf that is intended, run\n\
         UPDATE_API=1 cargo test --package quorate --test api -- --ignored"
    );
}

/// Returns a library's public items, one a line.
fn public_api(root: &Path, library: &str) -> String {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("api");
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        // JSON is an unstable output of rustdoc, which the stable one gives only like this.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["rustdoc", "--quiet", "--locked", "--lib", "--package", library, "--target-dir"])
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"])
        .status()
        .unwrap();
    assert!(status.success(), "rustdoc of {library} failed");
    let json = target.join("doc").join(library.replace('-', "_")).with_extension("json");
    public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap_or_else(|error| panic!("{library}: {error}"))
        .to_string()
}
