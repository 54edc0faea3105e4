//! tar and rsync, there and back, compared by checksums.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{Campaign, Mounted, Vault, pattern, require, run_within};
use crate::tree::{assert_same_tree, listing, make_tree};

const LIMIT: Duration = Duration::from_secs(900);

fn tar(args: &[&str], archive: &Path, dir: &Path) -> Command {
    let mut tar = Command::new(require("tar"));
    tar.args(["--format=posix", "--xattrs", "-C"]).arg(dir).args(args).arg(archive);
    tar
}

fn rsync(args: &[&str], from: &Path, to: &Path) -> Command {
    let slashed = |path: &Path| format!("{}/", path.display());
    let mut rsync = Command::new(require("rsync"));
    // Without the window rsync compares whole seconds, and leaves a time that is almost right.
    rsync.args(["-aHX", "--modify-window=-1"]).args(args).arg(slashed(from)).arg(slashed(to));
    rsync
}

fn each_cache(test: impl Fn(&Vault, Mounted, &Path)) {
    for options in [&[][..], &["--no-writeback"]] {
        let vault = Vault::init();
        let source = vault.scratch().make_dir("source");
        make_tree(&source, 1, Campaign::pick(600, 6000));
        let mount = vault.mount(options);
        test(&vault, mount, &source);
        vault.verify();
    }
}

#[test]
fn tar_there_and_back() {
    each_cache(|vault, mount, source| {
        let expected = listing(source);
        let archive = vault.scratch().join("there.tar");
        run_within(LIMIT, tar(&["--sparse", "-cf"], &archive, source).arg(".")).ok();
        let inside = mount.join("tree");
        fs::create_dir(&inside).unwrap();
        run_within(LIMIT, &mut tar(&["-xpf"], &archive, &inside)).ok();
        assert_same_tree(&listing(&inside), &expected, "extracted in the mount");
        run_within(LIMIT, &mut tar(&["-df"], &archive, &inside)).ok();
        let mount = mount.remount(&[]);
        let inside = mount.join("tree");
        assert_same_tree(&listing(&inside), &expected, "after a remount");
        // And back: the archive is written in the mount too.
        let back = mount.join("back.tar");
        run_within(LIMIT, tar(&["--sparse", "-cf"], &back, &inside).arg(".")).ok();
        let outside = vault.scratch().make_dir("outside");
        run_within(LIMIT, &mut tar(&["-xpf"], &back, &outside)).ok();
        assert_same_tree(&listing(&outside), &expected, "extracted outside");
        mount.unmount();
    });
}

#[test]
fn rsync_there_and_back() {
    each_cache(|vault, mount, source| {
        let inside = mount.join("tree");
        fs::create_dir(&inside).unwrap();
        run_within(LIMIT, &mut rsync(&[], source, &inside)).ok();
        assert_same_tree(&listing(&inside), &listing(source), "copied into the mount");
        assert_nothing_to_do(source, &inside);
        let mount = mount.remount(&[]);
        let inside = mount.join("tree");
        assert_nothing_to_do(source, &inside);
        change_files(source);
        run_within(
            LIMIT,
            &mut rsync(&["--delete", "--inplace", "--no-whole-file"], source, &inside),
        )
        .ok();
        assert_same_tree(&listing(&inside), &listing(source), "brought up to date in place");
        assert_nothing_to_do(source, &inside);
        let outside = vault.scratch().make_dir("outside");
        run_within(LIMIT, &mut rsync(&["--sparse"], &inside, &outside)).ok();
        assert_same_tree(&listing(&outside), &listing(source), "copied back");
        mount.unmount();
    });
}

/// Removes files and gives others a new content. Not those with several names: rsync changes a
/// file in place for all of its names.
fn change_files(source: &Path) {
    let files = listing(source).into_iter();
    let single = files.filter(|(_, entry)| entry.kind == 'f' && entry.links == 1);
    for (number, (path, entry)) in single.enumerate() {
        let path = source.join(path);
        if number % 7 == 0 {
            fs::remove_file(&path).unwrap();
        } else if number % 7 == 1 && entry.size > 0 {
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, [&bytes[bytes.len() / 2..], &pattern(9, 5000)].concat()).unwrap();
        }
    }
}

/// A dry run by checksum, with all that rsync can compare, finds no difference.
fn assert_nothing_to_do(from: &Path, to: &Path) {
    let outcome = run_within(
        LIMIT,
        &mut rsync(&["--dry-run", "--checksum", "--itemize-changes", "--delete"], from, to),
    )
    .ok();
    let changes: Vec<&str> =
        outcome.stdout.lines().filter(|line| !line.starts_with(".d..t")).collect();
    assert!(changes.is_empty(), "rsync would change: {changes:#?}");
}
