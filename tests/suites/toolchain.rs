//! A compile in the mount: cargo, rustc and the linker, and cargo's trust in mtimes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{Outcome, Vault, require, run, run_within};

fn write_crate(root: &Path) {
    let files = [
        (
            "Cargo.toml",
            "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nhalf = { path = \"half\" }\n",
        ),
        (
            "build.rs",
            "fn main() { println!(\"cargo:rustc-env=BUILT=by the build script\"); println!(\"cargo:rerun-if-changed=build.rs\"); }\n",
        ),
        (
            "src/main.rs",
            "mod table;\nfn main() { println!(\"{} {}\", env!(\"BUILT\"), half::half(table::TABLE.iter().sum::<u32>())); }\n",
        ),
        (
            "half/Cargo.toml",
            "[package]\nname = \"half\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        ),
        (
            "half/src/lib.rs",
            "pub fn half(n: u32) -> u32 { n / 2 }\n#[test]\nfn halves() { assert_eq!(half(8), 4); }\n",
        ),
    ];
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let table: String = (0..4000).map(|n| format!("    {n},\n")).collect();
    fs::write(root.join("src/table.rs"), format!("pub const TABLE: [u32; 4000] = [\n{table}];\n"))
        .unwrap();
}

fn cargo(root: &Path, args: &[&str]) -> Outcome {
    let mut cargo = Command::new(require("cargo"));
    cargo
        .args(args)
        .arg("--offline")
        .arg("-v")
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"));
    // What cargo sets for this test's own build is not for the other one.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_"))
    {
        if name != "CARGO_HOME" && name != "CARGO_TARGET_DIR" {
            cargo.env_remove(name);
        }
    }
    run_within(Duration::from_secs(600), &mut cargo).ok()
}

#[test]
fn a_crate_is_built_tested_and_stays_fresh() {
    for options in [&[][..], &["--no-writeback"]] {
        let vault = Vault::init();
        let mount = vault.mount(options);
        let root = mount.join("small");
        fs::create_dir(&root).unwrap();
        write_crate(&root);
        cargo(&root, &["build"]);
        let printed = run(&mut Command::new(root.join("target/debug/small"))).ok().stdout;
        assert_eq!(printed, "by the build script 3999000\n");
        cargo(&root, &["test", "--workspace"]);
        let fresh = |root: &Path, when: &str| {
            let outcome = cargo(root, &["build"]);
            assert!(!outcome.stderr.contains("Compiling"), "built again {when}: {outcome}");
        };
        fresh(&root, "at once");
        // cargo compares times of inputs and outputs; a remount must not shuffle them.
        let mount = mount.remount(options);
        let root = mount.join("small");
        fresh(&root, "after a remount");
        assert_eq!(run(&mut Command::new(root.join("target/debug/small"))).ok().stdout, printed);
        fs::write(root.join("half/src/lib.rs"), "pub fn half(n: u32) -> u32 { n / 2 + 1 }\n")
            .unwrap();
        cargo(&root, &["build"]);
        let changed = run(&mut Command::new(root.join("target/debug/small"))).ok().stdout;
        assert_eq!(changed, "by the build script 3999001\n");
        mount.unmount();
        vault.verify();
    }
}
