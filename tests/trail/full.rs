//! A trail that can't be written: on a disk without room, or in a place where there can be none.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use crate::common::files::errno;
use crate::common::mounted::is_mounted;
use crate::common::{Mounted, Scratch, Vault, require_root, run, wait_until};
use crate::small_disk::fill;
use crate::{assert_whole, lines, one_sentence, trail};

/// Longer than it should ever take.
const LIMIT: Duration = Duration::from_secs(30);

/// A small disk, unmounted when the value goes; the vault lies elsewhere.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

impl Small {
    /// In memory, or with a filesystem of its own in a file.
    fn make(ext4: bool) -> (Vault, Small) {
        require_root();
        let scratch = Scratch::new();
        let (place, image) = (scratch.make_dir("small"), scratch.join("image"));
        let mut mount = Command::new("mount");
        if ext4 {
            File::create(&image).unwrap().set_len(32 << 20).unwrap();
            // Room for all that waits in memory, and no part for root, who runs these tests.
            run(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-b", "4096"]).arg(&image)).ok();
            mount.args(["-o", "loop"]).arg(&image);
        } else {
            mount.args(["-t", "tmpfs", "-o", "size=16m", "atrest-test"]);
        }
        run(mount.arg(&place)).ok();
        let small = Small(place);
        (Vault::init_in(scratch), small)
    }

    fn trail(&self) -> String {
        self.0.join("trail").to_str().unwrap().to_owned()
    }

    fn fill(&self) {
        fill(&self.0.join("filler"));
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

fn is_failing(mount: &Mounted) -> Option<()> {
    mount.status_json()["trail"]["failing"].is_string().then_some(())
}

fn is_well(mount: &Mounted) -> Option<()> {
    mount.status_json()["trail"]["failing"].is_null().then_some(())
}

/// Opens a file until the trail has no room for the lines.
fn open_until_failing(mount: &Mounted) -> usize {
    let mut opened = 0;
    let failing = wait_until(LIMIT, || {
        for _ in 0..20 {
            opened += File::open(mount.join("file")).map_or(0, |_| 1);
        }
        is_failing(mount)
    });
    failing.expect("the trail fails");
    opened
}

#[test]
fn keys_are_used_all_the_same() {
    used_all_the_same(Small::make(false));
}

#[test]
fn keys_are_used_all_the_same_on_ext4() {
    used_all_the_same(Small::make(true));
}

fn used_all_the_same((vault, small): (Vault, Small)) {
    let mut mount = vault.mount(&["--trail", &small.trail()]);
    fs::write(mount.join("file"), b"content").unwrap();
    small.fill();
    let mut opened = open_until_failing(&mount);
    mount.expect_line("the trail can't be written, and keys are used all the same");
    mount.expect_line("the trail is written again");
    let reason = mount.status_json()["trail"]["failing"].to_string();
    assert!(reason.contains("No space left"), "{reason}");
    // More than are kept until there is room.
    for _ in 0..22_000 {
        File::open(mount.join("file")).unwrap();
        opened += 1;
    }
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"content");
    opened += 1;
    assert!(mount.resident_kib() < 300 * 1024, "{} KiB", mount.resident_kib());
    small.make_room();
    wait_until(LIMIT, || is_well(&mount)).expect("it is written again");
    fs::read(mount.join("file")).unwrap();
    opened += 1;

    let lost = mount.status_json()["trail"]["lost"].as_u64().unwrap();
    assert!(lost > 1000, "{lost}");
    let told = mount.log();
    assert_eq!(told.matches("the trail can't be written").count(), 1, "{told}");
    mount.unmount();
    let gaps = lines(&vault, "--event TrailGap");
    let said: u64 =
        gaps.iter().map(|gap| gap["requestParameters"]["details"]["lost"].as_u64().unwrap()).sum();
    assert_eq!(said, lost, "{gaps:?}");
    let there = lines(&vault, "--path file --event Decrypt").len();
    assert_eq!(there as u64 + lost, opened as u64);
    assert_whole(&vault);
}

#[test]
fn no_key_is_used_where_that_was_asked_for() {
    none_is_used(Small::make(false));
}

#[test]
fn no_key_is_used_where_that_was_asked_for_on_ext4() {
    none_is_used(Small::make(true));
}

fn none_is_used((vault, small): (Vault, Small)) {
    let mut mount = vault.mount(&["--trail", &small.trail(), "--trail-fail", "closed"]);
    fs::write(mount.join("file"), b"content").unwrap();
    small.fill();
    open_until_failing(&mount);
    mount.expect_line("no key may be used until it can");
    mount.expect_line("the trail is written again");
    assert_eq!(errno(File::open(mount.join("file"))), libc::ENOKEY);
    assert_eq!(errno(File::create(mount.join("new"))), libc::ENOKEY);
    assert_eq!(errno(fs::write(mount.join("file"), b"other")), libc::ENOKEY);
    assert!(!mount.join("new").exists());
    assert_eq!(mount.join("file").metadata().unwrap().len(), 7);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    fs::rename(mount.join("file"), mount.join("moved")).unwrap();
    one_sentence(&crate::key(&vault, "rotate", ""), 10, "no key may be used");
    assert_eq!(mount.status_json()["key_version"], 1);
    small.make_room();
    let opened = wait_until(LIMIT, || File::open(mount.join("moved")).ok());
    opened.expect("it comes back by itself");
    assert_eq!(fs::read(mount.join("moved")).unwrap(), b"content");
    mount.unmount();
    assert_eq!(lines(&vault, "--event TrailGap").len(), 0);
    assert_whole(&vault);
}

#[test]
fn a_place_where_no_trail_can_be() {
    require_root();
    let vault = Vault::init();
    for place in ["/proc/no-trail-here", "/dev/null/trail"] {
        let closed = ["--trail", place, "--trail-fail", "closed"];
        one_sentence(&vault.try_mount(&closed).err().expect("no mount"), 10, place);
        assert!(!is_mounted(&vault.mountpoint()));
    }
    let mut said = String::new();
    let mounted =
        Mounted::try_mount_with(&vault, &["--trail", "/proc/no-trail-here"], |mut command| {
            let outcome = run(&mut command);
            said.clone_from(&outcome.stderr);
            outcome
        });
    let mut mount = mounted.expect("it goes on");
    mount.expect_line("no trail is kept of this mount");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("no trail is kept of this mount"), "{said}");
    fs::write(mount.join("file"), b"content").unwrap();
    assert!(mount.status_json()["trail"].is_null());
    mount.unmount();
    one_sentence(&trail(&vault, "verify", ""), 10, "there is no trail");
}

/// Where the room in the trail's last page ends before the line of a mount.
#[test]
fn a_mount_whose_line_can_not_be_written_is_none_where_that_was_asked_for() {
    let (vault, small) = Small::make(false);
    let place = small.trail();
    let options = ["--trail", &place, "--trail-fail", "closed"];
    vault.mount(&options).unmount();
    let file = crate::files_in(small.0.join("trail").as_path()).pop().unwrap();
    let end = fs::read_to_string(&file).unwrap().lines().last().unwrap().len() as u64 + 1;
    let mount = vault.mount(&options);
    fs::write(mount.join("file"), b"content").unwrap();
    let is_at_end = || {
        lines(&vault, "--event Mount");
        (file.metadata().unwrap().len() + end) % 4096 > 4096 - 500
    };
    wait_until(LIMIT, || {
        File::open(mount.join("file")).unwrap();
        is_at_end().then_some(())
    })
    .expect("a line ends there");
    mount.unmount();
    small.fill();
    let refused = vault.try_mount(&options).err().expect("a mount without a line");
    one_sentence(&refused, 10, "no key may be used while the trail can't be written");
    assert!(!is_mounted(&vault.mountpoint()));
    let status = run(vault.command(&["status"]).arg(vault.path())).ok();
    assert!(status.stdout.contains("mounted  no"), "{status}");
    small.make_room();
    vault.mount(&options).unmount();
    assert_whole(&vault);
}

#[test]
fn what_was_lost_at_the_end_is_told_as_that() {
    let (vault, small) = Small::make(false);
    let place = small.trail();
    let mut mount = vault.mount(&["--trail", &place]);
    fs::write(mount.join("file"), b"content").unwrap();
    small.fill();
    open_until_failing(&mount);
    mount.expect_line("the trail can't be written, and keys are used all the same");
    mount.expect_line("events are lost");
    mount.unmount();
    let lost = |said: &str| -> u64 {
        let line = said.lines().find(|line| line.starts_with("Lost while")).expect("it is told");
        line.split(' ').rev().nth(1).unwrap().parse().unwrap()
    };
    let said = trail(&vault, "verify", "").ok();
    let told = lost(&said.stdout);
    assert!(told > 1, "{said}");
    small.make_room();
    vault.mount(&["--trail", &place]).unmount();
    let said = trail(&vault, "verify", "").ok();
    assert_eq!(lost(&said.stdout), told, "{said}");
    let gaps = lines(&vault, "--event TrailGap");
    assert_eq!(gaps[0]["requestParameters"]["details"]["lost"], told, "{gaps:?}");
    assert_whole(&vault);
}
