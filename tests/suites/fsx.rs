//! fsx 0.3.2, the file system exerciser: one file, random operations, every read compared.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Campaign, Vault, require, run_within};

/// Everything that fsx can do on Linux, in proportions that keep the file busy. Of a byte at least:
/// the kernel refuses to allocate none, which fsx takes for the lack of posix_fallocate.
const CONFIGURATION: &str = "
flen = 262144

[opsize]
max = 65536
min = 1
align = 1

[weights]
close_open = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 10
fsync = 0.5
fdatasync = 0.5
posix_fallocate = 5
punch_hole = 10
sendfile = 5
posix_fadvise = 2
copy_file_range = 10
";

/// Runs fsx and then reads its file through another mount.
fn exercise(seed: u32, operations: u32, options: &[&str]) {
    let vault = Vault::init();
    let mount = vault.mount(options);
    let configuration = vault.scratch().join("fsx.toml");
    fs::write(&configuration, CONFIGURATION).unwrap();
    let mut fsx = Command::new(require("fsx"));
    fsx.arg("-f").arg(configuration).arg("-P").arg(vault.scratch().path()).arg("-q");
    fsx.args(["-S", &seed.to_string(), "-N", &operations.to_string()]).arg(mount.join("file"));
    let began = Instant::now();
    run_within(Duration::from_secs(60 + u64::from(operations) / 50), &mut fsx).ok();
    let took = began.elapsed().as_secs();
    Campaign::report(format!("fsx, seed {seed}: {operations} operations in {took} s {options:?}"));
    let before = fs::read(mount.join("file")).unwrap();
    let mount = mount.remount(options);
    assert!(fs::read(mount.join("file")).unwrap() == before, "the file differs after a remount");
    mount.unmount();
    vault.verify();
}

/// A million operations over three seeds in the long form.
fn operations() -> u32 {
    Campaign::pick(10_000, 334_000)
}

#[test]
fn seed_1() {
    exercise(1, operations(), &[]);
}

#[test]
fn seed_2() {
    exercise(2, operations(), &[]);
}

#[test]
fn seed_3() {
    exercise(3, operations(), &[]);
}

#[test]
fn without_the_writeback_cache() {
    exercise(4, operations() / 2, &["--no-writeback"]);
}
