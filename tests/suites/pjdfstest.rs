//! pjdfstest 0.2.2, the POSIX suite: no case may fare worse on the mount than on the filesystem
//! below it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::chmod;

use crate::common::{Backing, Mounted, Outcome, Scratch, Vault, require, require_root, run_within};

/// Cases that pass below and not on the mount, each with its reason.
const LEFT_OUT: [(&str, &str); 1] = [(
    "link::link_count_max",
    "glibc knows the most links of ext4 by its name and not those of a FUSE filesystem, so the case skips itself",
)];

/// Two users of Debian's own and the features that ext4 has.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.01

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// What became of each case: `ok`, `skipped` or `FAILED`.
type Verdicts = BTreeMap<String, String>;

fn verdicts(directory: &Path, scratch: &Scratch) -> (Verdicts, Outcome) {
    chmod(directory, 0o777.into()).unwrap();
    let configuration = scratch.join("pjdfstest.toml");
    fs::write(&configuration, CONFIGURATION).unwrap();
    // A second filesystem, for the cases of EXDEV.
    let other = Scratch::on(Backing::Tmpfs);
    let mut command = Command::new(require("pjdfstest"));
    command.arg("-c").arg(configuration).arg("-p").arg(directory).arg("-s").arg(other.path());
    let outcome = run_within(Duration::from_secs(900), &mut command);
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(case), Some(verdict @ ("ok" | "skipped" | "FAILED")), None) => {
                Some((case.to_owned(), verdict.to_owned()))
            }
            _ => None,
        }
    };
    let verdicts: Verdicts = outcome.stdout.lines().filter_map(line).collect();
    assert!(verdicts.len() > 350, "only {} verdicts: {outcome}", verdicts.len());
    (verdicts, outcome)
}

fn compare(mount: Mounted) {
    let scratch = mount.vault().scratch();
    let (below, _) = verdicts(&scratch.make_dir("bare"), scratch);
    let (above, outcome) = verdicts(mount.path(), scratch);
    let passing = |all: &Verdicts| all.values().filter(|verdict| *verdict == "ok").count();
    println!(
        "pjdfstest: {} of {} pass below, {} on the mount",
        passing(&below),
        below.len(),
        passing(&above)
    );
    assert!(passing(&below) > 350, "the filesystem below fails too much to compare with");
    for (case, verdict) in below.iter().filter(|(_, verdict)| *verdict == "ok") {
        let ours = above.get(case).map_or("missing", String::as_str);
        match LEFT_OUT.iter().find(|(left_out, _)| left_out == case) {
            None => assert_eq!(ours, verdict, "{case}\n{outcome}"),
            Some(_) => assert_ne!(ours, "ok", "{case} passes: take it off the list"),
        }
    }
}

#[test]
fn as_good_as_the_filesystem_below() {
    require_root();
    compare(Vault::init_on(Backing::Disk).shared().mount(&["--allow-other"]));
}

#[test]
fn as_good_without_the_writeback_cache() {
    require_root();
    compare(Vault::init_on(Backing::Disk).shared().mount(&["--allow-other", "--no-writeback"]));
}
