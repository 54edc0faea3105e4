//! What programs do while it runs.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use atrest::fs::{Change, Inode, Origin, Rewrap, Time};
use rustix::fs::RenameFlags;

use super::ground::{CALLER, Ground};
use crate::common_store::Campaign;

/// Directories, and files in each that stay where they are.
const DIRS: usize = 8;
const STILL: usize = 200;

#[test]
fn no_file_is_missed_that_moves_is_written_or_given_a_time() {
    let ground = Ground::new();
    let dirs: Vec<Inode> = (0..DIRS)
        .map(|dir| {
            let inode = ground.mkdir(&format!("dir {dir}"));
            for file in 0..STILL {
                ground.write(inode, &format!("file {file}"), b"still");
            }
            inode
        })
        .collect();
    let mover = ground.write(dirs[0], "mover", b"moves by rename");
    let linker = ground.write(dirs[0], "linker 0", b"moves by link and unlink");
    let written = ground.create(dirs[3], "written", b"is written");
    let dated = ground.write(dirs[5], "dated", b"is given times");
    let still: Vec<SystemTime> = (0..DIRS * STILL)
        .map(|turn| {
            let name = format!("file {}", turn / DIRS);
            ground.fs.lookup(dirs[turn % DIRS], OsStr::new(&name)).unwrap().attr.mtime
        })
        .collect();
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let work = |one: &(dyn Fn(u64) + Sync)| {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            one(turn);
            turn += 1;
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let renames = |turn: u64| {
        let (from, to) = (turn as usize % DIRS, (turn as usize + 1) % DIRS);
        let name = OsStr::new("mover");
        ground.fs.rename(dirs[from], name, dirs[to], name, RenameFlags::empty(), &CALLER).unwrap();
    };
    let links = |turn: u64| {
        let (from, to) = (turn as usize % DIRS, (turn as usize + 3) % DIRS);
        let name = |turn| format!("linker {turn}");
        ground.fs.link(linker, dirs[to], OsStr::new(&name(turn + 1)), &CALLER).unwrap();
        let from = if turn == 0 { 0 } else { (from + DIRS - 1 + 3) % DIRS };
        ground.fs.unlink(dirs[from], OsStr::new(&name(turn))).unwrap();
    };
    let writes = |turn: u64| {
        let at = turn % 50 * 1000;
        ground.fs.write(written, at, &[turn as u8; 1000], Origin::Program).unwrap();
    };
    // Half a second apart, so that nothing but this sets them.
    let date = |turn: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(turn * 500);
    let times = |turn: u64| {
        let change = Change { mtime: Some(Time::At(date(turn))), ..Change::default() };
        let attr = ground.fs.setattr(dated, &change, &CALLER).unwrap();
        assert_eq!(attr.mtime, date(turn), "a time that was set was taken back");
        let attr = ground.fs.getattr(dated).unwrap();
        assert_eq!(attr.mtime, date(turn), "a time that was set was taken back");
    };
    // Of files that nobody touches the time is the same at every look.
    let untouched = |turn: u64| {
        let dir = dirs[turn as usize % DIRS];
        let name = format!("file {}", turn as usize / DIRS % STILL);
        let entry = ground.fs.lookup(dir, OsStr::new(&name)).unwrap();
        assert_eq!(entry.attr.mtime, still[turn as usize % (DIRS * STILL)], "{name}");
        ground.fs.forget(entry.attr.inode, 1);
    };
    let rounds = Campaign::pick(10, 300);
    thread::scope(|scope| {
        for one in [&renames as &(dyn Fn(u64) + Sync), &links, &writes, &times, &untouched] {
            scope.spawn(move || work(one));
        }
        // A failed assertion must not leave the others at work.
        let rewrapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=rounds {
                ground.rotate();
                let summary = ground.rewrap(&Rewrap::default());
                assert!(summary.failed.is_empty(), "{summary:?}");
                assert_eq!(summary.rewrapped, (DIRS * STILL) as u64 + 5, "round {round}");
                assert_eq!(ground.references(round), 0, "round {round}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        rewrapped.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    });
    println!("{rounds} rewraps beside {} operations", done.into_inner());
    ground.fs.release(written).unwrap();
    let _ = mover;
    ground.verify();
}
