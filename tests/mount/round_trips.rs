//! Which FUSE operations the kernel asks of the daemon for what a program does: these, and no others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::common::users::is_root;
use crate::common::{Mounted, Vault, wait_until};

/// How often each thing is done.
const TIMES: u64 = 100;

/// The page of the manual whose table this is.
const MANUAL: &str = include_str!("../../src/manual/performance.md");

/// What a program does, and what it costs.
struct Case {
    what: &'static str,
    /// Makes what is there before.
    prepare: fn(&Path),
    /// Whether the kernel knows nothing of that yet: the mount is made after it.
    cold: bool,
    work: fn(&Path),
    /// How often `work` does the thing.
    times: u64,
    /// What the thing costs once, with the writeback cache and without.
    costs: [&'static str; 2],
    /// Whether it changes the one directory each time: where the kernel checks modes itself, it
    /// then asks for the directory's again.
    changes: bool,
}

const CASES: &[Case] = &[
    Case {
        what: "open, read 4 KiB and close a file not seen before",
        prepare: make_files,
        cold: true,
        work: read_files,
        times: TIMES,
        costs: ["lookup, open, read, release"; 2],
        changes: false,
    },
    Case {
        what: "the same of a file read before",
        prepare: |directory| {
            make_files(directory);
            read_files(directory);
        },
        cold: false,
        work: read_files,
        times: TIMES,
        costs: ["open, release"; 2],
        changes: false,
    },
    Case {
        what: "create a file, write 4 KiB and close",
        prepare: nothing,
        cold: false,
        work: make_files,
        times: TIMES,
        costs: [
            "lookup, create, getxattr, write, release, setattr at times",
            "lookup, create, getxattr, write, release",
        ],
        changes: true,
    },
    Case {
        what: "create a file, write 100 times 4 KiB and close",
        prepare: nothing,
        cold: false,
        work: write_a_hundred_times,
        times: 1,
        costs: [
            "lookup, create, getxattr, write, release, setattr at times",
            "lookup, create, getxattr, 100 × write, release",
        ],
        changes: false,
    },
    Case {
        what: "open a file, overwrite 4 KiB and close",
        prepare: make_files,
        cold: false,
        work: overwrite,
        times: TIMES,
        costs: ["open, write, setattr, release", "open, write, release"],
        changes: false,
    },
    Case {
        what: "stat a file not seen before",
        prepare: make_files,
        cold: true,
        work: stat,
        times: TIMES,
        costs: ["lookup"; 2],
        changes: false,
    },
    Case {
        what: "stat a file just written",
        prepare: make_files,
        cold: false,
        work: stat,
        times: TIMES,
        costs: ["getattr"; 2],
        changes: false,
    },
    Case {
        what: "stat it again",
        prepare: |directory| {
            make_files(directory);
            stat(directory);
        },
        cold: false,
        work: stat,
        times: TIMES,
        costs: [""; 2],
        changes: false,
    },
    Case {
        what: "remove a file",
        prepare: make_files,
        cold: false,
        work: remove,
        times: TIMES,
        costs: ["unlink, setattr", "unlink"],
        changes: true,
    },
    Case {
        what: "rename a file to a new name",
        prepare: make_files,
        cold: false,
        work: rename,
        times: TIMES,
        costs: ["lookup, rename, setattr", "lookup, rename"],
        changes: true,
    },
    Case {
        what: "make a directory",
        prepare: nothing,
        cold: false,
        work: make_directories,
        times: TIMES,
        costs: ["lookup, mkdir"; 2],
        changes: true,
    },
    Case {
        what: "list a directory of ten not seen before",
        prepare: fill_directories,
        cold: true,
        work: list,
        times: TIMES,
        costs: ["lookup, readdirplus, readdir"; 2],
        changes: false,
    },
    Case {
        what: "the same with a stat of each entry",
        prepare: fill_directories,
        cold: true,
        work: list_with_stat,
        times: TIMES,
        costs: ["lookup, 2 × readdirplus"; 2],
        changes: false,
    },
    Case {
        what: "list it again",
        prepare: |directory| {
            fill_directories(directory);
            list(directory);
            list(directory);
        },
        cold: false,
        work: list,
        times: TIMES,
        costs: [""; 2],
        changes: false,
    },
];

#[test]
fn with_the_writeback_cache() {
    count_all(&[], 0);
}

#[test]
fn without_the_writeback_cache() {
    count_all(&["--no-writeback"], 1);
}

#[test]
fn where_the_kernel_checks_modes() {
    count_all(&["-o", "default_permissions"], 0);
}

#[test]
fn the_manual_says_the_same() {
    for Case { what, costs: [cached, uncached], .. } in CASES {
        let cell = |cost: &'static str| if cost.is_empty() { "none" } else { cost };
        let line = match cached == uncached {
            true => format!("| {what} | {} | the same |", cell(cached)),
            false => format!("| {what} | {} | {} |", cell(cached), cell(uncached)),
        };
        assert!(MANUAL.contains(&line), "src/manual/performance.md lacks the line\n{line}");
    }
}

type Counts = BTreeMap<String, u64>;

fn count_all(options: &[&str], column: usize) {
    let checked = !is_root() || options.contains(&"default_permissions");
    let mut mount = Vault::init().mount(options);
    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let directory = mount.join(number.to_string());
        fs::create_dir(&directory).unwrap();
        (case.prepare)(&directory);
        if case.cold {
            mount = mount.remount(options);
        }
        // FLUSH and OPENDIR are asked for once, and the directories above looked up once; others
        // than the test may look at the mount point.
        fs::write(mount.join("first"), b"first").unwrap();
        fs::read_dir(mount.path()).unwrap().count();
        fs::metadata(mount.path()).unwrap();
        fs::metadata(&directory).unwrap();
        // A release comes after the close that it belongs to.
        thread::sleep(Duration::from_millis(100));
        let before = counters(&mount);
        (case.work)(&directory);
        let mut cost = Cost::parse(case.costs[column], case.times);
        if checked && case.changes {
            cost.0.insert("getattr".to_owned(), case.times - 1..=case.times - 1);
        }
        let reached = || cost.is(&since(&before, &counters(&mount))).then_some(());
        let _ = wait_until(Duration::from_secs(5), reached);
        // Neither must more come later.
        thread::sleep(Duration::from_millis(100));
        let found = since(&before, &counters(&mount));
        if !cost.is(&found) {
            wrong.push(format!("{}: {found:?}, not {:?}", case.what, cost.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How often each operation is asked for, at least and at most.
struct Cost(BTreeMap<String, RangeInclusive<u64>>);

impl Cost {
    /// `"lookup, 2 × readdirplus, setattr at times"`, so many times.
    fn parse(cost: &str, times: u64) -> Self {
        let operations = cost.split(", ").filter(|operation| !operation.is_empty());
        let parsed = operations.map(|operation| {
            let (operation, least) = match operation.strip_suffix(" at times") {
                Some(operation) => (operation, 0),
                None => (operation, 1),
            };
            let (each, name) = match operation.split_once(" × ") {
                Some((each, name)) => (each.parse::<u64>().unwrap(), name),
                None => (1, operation),
            };
            (name.to_owned(), least * each * times..=each * times)
        });
        Self(parsed.collect())
    }

    fn is(&self, counts: &Counts) -> bool {
        let count = |name: &String| counts.get(name).copied().unwrap_or(0);
        self.0.iter().all(|(name, range)| range.contains(&count(name)))
            && counts.keys().all(|name| self.0.contains_key(name))
    }
}

/// The counters so far, asked for by way of the vault, which asks nothing of the mount. Left out
/// is what the kernel forgets when it likes.
fn counters(mount: &Mounted) -> Counts {
    let outcome = mount.vault().run(&["status", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let mut counts: Counts = serde_json::from_value(status["operations"].clone()).unwrap();
    counts.remove("forget");
    counts
}

fn since(before: &Counts, after: &Counts) -> Counts {
    let grown = after.iter().map(|(name, n)| (name.clone(), n - before.get(name).unwrap_or(&0)));
    grown.filter(|(_, count)| *count > 0).collect()
}

fn paths(directory: &Path) -> impl Iterator<Item = PathBuf> {
    (0..TIMES).map(|number| directory.join(number.to_string()))
}

fn nothing(_: &Path) {}

fn make_files(directory: &Path) {
    for path in paths(directory) {
        File::create_new(path).unwrap().write_all(&[1; 4096]).unwrap();
    }
}

fn read_files(directory: &Path) {
    let mut content = [0; 4096];
    for path in paths(directory) {
        File::open(path).unwrap().read_exact(&mut content).unwrap();
        assert_eq!(content, [1; 4096]);
    }
}

fn overwrite(directory: &Path) {
    for path in paths(directory) {
        File::options().write(true).open(path).unwrap().write_all(&[2; 4096]).unwrap();
    }
}

fn write_a_hundred_times(directory: &Path) {
    let mut file = File::create_new(directory.join("file")).unwrap();
    (0..100).for_each(|_| file.write_all(&[3; 4096]).unwrap());
}

fn stat(directory: &Path) {
    paths(directory).for_each(|path| assert_eq!(fs::metadata(path).unwrap().len(), 4096));
}

fn remove(directory: &Path) {
    paths(directory).for_each(|path| fs::remove_file(path).unwrap());
}

fn rename(directory: &Path) {
    paths(directory).for_each(|path| fs::rename(&path, path.with_extension("new")).unwrap());
}

fn make_directories(directory: &Path) {
    paths(directory).for_each(|path| fs::create_dir(path).unwrap());
}

fn fill_directories(directory: &Path) {
    make_directories(directory);
    for path in paths(directory) {
        (0..10).for_each(|number| fs::write(path.join(number.to_string()), b"entry").unwrap());
    }
}

fn list(directory: &Path) {
    paths(directory).for_each(|path| assert_eq!(fs::read_dir(path).unwrap().count(), 10));
}

fn list_with_stat(directory: &Path) {
    for path in paths(directory) {
        let entries = fs::read_dir(path).unwrap();
        let bytes: u64 = entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(bytes, 50);
    }
}
