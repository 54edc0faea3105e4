//! Programs on disks that end, fail, or give up: what fsync called good is there, whatever came
//! after; stat, read and two remounts agree; and an unmount that exits with 0 owes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::files::close;
use crate::common::{Allow, Campaign, pattern};
use crate::disk::{ALL, Disk, Kind, Trouble};

const APPENDERS: u64 = 40;
/// Long enough for most to come to the end of the space; an fsync on a full btrfs takes its time.
const LIMIT: Duration = Duration::from_secs(20);

/// A file that grows by records, each of which is fsynced.
#[derive(Debug, Default)]
struct Appended {
    name: String,
    /// Up to where fsync has returned 0, and nothing had failed before.
    promised: usize,
    /// The same before the last fsync that returned 0.
    promised_before: usize,
    /// Up to where anything was written.
    written: usize,
    /// What the program was told, if not that all is well.
    told: Option<String>,
}

impl Appended {
    fn bytes(number: u64, at: usize, length: usize) -> Vec<u8> {
        pattern(number * 77_777 + at as u64, length)
    }

    fn run(path: &Path, number: u64, total: &AtomicU64) -> Appended {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut done = Appended { name, ..Appended::default() };
        let began = Instant::now();
        let mut file = match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => file,
            Err(error) => {
                done.told = Some(format!("open: {error}"));
                return done;
            }
        };
        while done.told.is_none() && began.elapsed() < LIMIT {
            let length = 2000 + (number as usize * 37 + done.written) % 15_000;
            let record = Appended::bytes(number, done.written, length);
            done.written += length;
            match file.write_all(&record).and_then(|()| file.sync_all()) {
                Ok(()) => {
                    done.promised_before = done.promised;
                    done.promised = done.written;
                }
                Err(error) => done.told = Some(error.to_string()),
            }
            total.fetch_add(length as u64, Ordering::Relaxed);
        }
        if let Err(error) = close(file) {
            done.told.get_or_insert(format!("close: {error}"));
        }
        done
    }

    /// On a disk that is `broken` bare ext4 loses the block in which the file ended before the last
    /// write, and what an fsync that returned 0 at the moment of its death was for.
    fn check(&self, number: u64, found: &[u8], broken: bool) -> Result<(), String> {
        let all = Appended::bytes(number, 0, self.written);
        let certain = match self.told {
            Some(_) if broken => self.promised_before.saturating_sub(4096),
            Some(_) => self.promised,
            None => self.written,
        };
        let wrong = found
            .iter()
            .enumerate()
            .position(|(at, byte)| all.get(at) != Some(byte) && !(at >= certain && *byte == 0));
        match wrong {
            _ if found.len() < certain || found.len() > self.written => {
                Err(format!("{} bytes: {self:?}", found.len()))
            }
            Some(at) => Err(format!("byte {at}: {self:?}")),
            None => Ok(()),
        }
    }
}

fn all_appenders(disk: &Disk, dir: &Path) -> Vec<Appended> {
    let total = AtomicU64::new(0);
    thread::scope(|scope| {
        let appenders: Vec<thread::ScopedJoinHandle<'_, Appended>> = (0..APPENDERS)
            .map(|number| {
                let (path, total) = (dir.join(format!("appended-{number}")), &total);
                scope.spawn(move || Appended::run(&path, number, total))
            })
            .collect();
        let ended = || appenders.iter().all(|appender| appender.is_finished());
        while total.load(Ordering::Relaxed) < 2 << 20 && !ended() {
            thread::sleep(Duration::from_millis(1));
        }
        disk.strike();
        appenders.into_iter().map(|appender| appender.join().unwrap()).collect()
    })
}

/// What can be read of a file before the first error.
fn read_until_error(path: &Path) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let (mut all, mut room) = (Vec::new(), [0; 512]);
    while let Ok(read @ 1..) = file.read_at(&mut room, all.len() as u64) {
        all.extend_from_slice(&room[..read]);
    }
    all
}

/// Each file's content, which is what its appender was promised and as long as stat says.
fn look(dir: &Path, appended: &[Appended], broken: bool, when: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut wrong = Vec::new();
    let mut all = BTreeMap::new();
    for (number, one) in (0..).zip(appended) {
        let path = dir.join(&one.name);
        let found = match fs::read(&path) {
            Ok(found) => found,
            // Neither opened for good nor promised anything.
            Err(_)
                if one.promised_before == 0
                    && (broken || one.promised == 0)
                    && one.told.is_some() =>
            {
                continue;
            }
            // A block of which fsync said that it is durable, and that the disk has not: that is
            // told, and no zeros are shown in its place.
            Err(error) if broken && error.raw_os_error() == Some(libc::EIO) => {
                let certain = read_until_error(&path);
                if let Err(error) = one.check(number, &certain, broken) {
                    wrong.push(format!("{}: {error}", one.name));
                }
                continue;
            }
            Err(error) => {
                wrong.push(format!("{}: {error}: {one:?}", one.name));
                continue;
            }
        };
        if fs::metadata(&path).unwrap().len() != found.len() as u64 {
            wrong.push(format!("{}: another length by stat than by read", one.name));
        }
        if let Err(error) = one.check(number, &found, broken) {
            wrong.push(format!("{}: {error}", one.name));
        }
        all.insert(one.name.clone().into(), found);
    }
    assert!(wrong.is_empty(), "{when}: {} files: {}", wrong.len(), wrong.join("\n"));
    all
}

fn appenders_on(kind: Kind, trouble: Trouble, options: &[&str]) {
    let Some(mut disk) = Disk::new(kind, trouble) else { return };
    let vault = disk.vault.clone();
    let mut mount = vault.mount(options);
    mount.allow(Allow::Errors);
    disk.tighten(12);
    let appended = all_appenders(&disk, mount.path());
    let told = appended.iter().filter(|one| one.told.is_some()).count();
    let context = format!("{kind:?}, {trouble:?}, {options:?}");
    assert!(told > 0, "{context}: nobody was told anything: {appended:#?}");
    let broken = !disk.heals_in_place();
    let mut seen = None;
    if !broken {
        seen = Some(look(mount.path(), &appended, broken, &format!("{context}, full")));
        disk.heal();
    }
    let outcome = mount.try_unmount();
    if outcome.success() {
        Campaign::report(format!("{context}: {told} told, umount exits with 0"));
    } else {
        Campaign::report(format!("{context}: {told} told, {outcome}"));
        mount.forget();
    }
    drop(mount);
    if broken {
        disk.heal();
    }
    for again in ["after a remount", "after two"] {
        let mut mount = vault.mount(options);
        mount.allow(if broken { Allow::Errors } else { Allow::Warnings });
        let found = look(mount.path(), &appended, broken, &format!("{context}, {again}"));
        if let Some(seen) = seen.replace(found.clone()) {
            let differ =
                found.iter().filter(|(name, bytes)| seen.get(*name) != Some(*bytes)).count();
            assert!(differ == 0, "{context}: {again} another content of {} files", differ);
        }
        mount.unmount();
    }
    if broken {
        let verified = vault.run(&["verify"]);
        assert!([0, 3].contains(&verified.code()), "{context}: {verified}");
    } else {
        vault.verify();
    }
}

#[test]
fn appenders_on_full_disks() {
    ALL.iter().for_each(|kind| appenders_on(*kind, Trouble::Full, &[]));
}

#[test]
fn appenders_on_full_disks_without_the_writeback_cache() {
    for kind in ALL {
        appenders_on(kind, Trouble::Full, &["--no-writeback"]);
    }
}

#[test]
fn appenders_at_the_end_of_a_quota() {
    appenders_on(Kind::Btrfs, Trouble::Quota, &[]);
    appenders_on(Kind::Btrfs, Trouble::Quota, &["--no-writeback"]);
}

#[test]
fn appenders_on_disks_that_die_or_give_up() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        for trouble in [Trouble::Abort, Trouble::Dead] {
            appenders_on(kind, trouble, &[]);
            appenders_on(kind, trouble, &["--no-writeback"]);
        }
    }
}

/// A program that never syncs learns of the end of the space by write(2): soon after, and not when
/// memory is full.
#[test]
fn a_writer_who_never_syncs_is_told_early() {
    // What must not be left at the end of the file is a matter of moments.
    writer_told_early(&[(Kind::Ext4, Trouble::Full), (Kind::Xfs, Trouble::Full)].repeat(3));
}

#[test]
fn a_writer_who_never_syncs_is_told_early_of_a_quota() {
    writer_told_early(&[(Kind::Btrfs, Trouble::Quota)]);
}

fn writer_told_early(disks: &[(Kind, Trouble)]) {
    for &(kind, trouble) in disks {
        let Some(mut disk) = Disk::new(kind, trouble) else { continue };
        let vault = disk.vault.clone();
        let mut mount = vault.mount(&[]);
        mount.allow(Allow::Errors);
        disk.tighten(16);
        let mut file = File::create(mount.join("file")).unwrap();
        let chunk = vec![7; 1 << 20];
        let (mut written, mut full_since) = (0_u64, None);
        let error = loop {
            if let Err(error) = file.write_all(&chunk) {
                break error;
            }
            written += 1;
            if written == 16 {
                full_since = Some(Instant::now());
            }
            let waited = full_since.map_or(Duration::ZERO, |since: Instant| since.elapsed());
            assert!(
                written < 16 + 64 || waited < Duration::from_secs(2),
                "{kind:?}: {written} MiB written in {waited:?} to a disk of 16 MiB"
            );
        };
        let expected = if trouble == Trouble::Quota { libc::EDQUOT } else { libc::ENOSPC };
        assert_eq!(error.raw_os_error(), Some(expected), "{kind:?}");
        let _ = close(file);
        let len = fs::metadata(mount.join("file")).unwrap().len();
        let seen = fs::read(mount.join("file")).unwrap();
        assert_eq!(seen.len() as u64, len);
        let lost = seen.iter().position(|byte| *byte != 7);
        let alien = seen.iter().find(|byte| !matches!(byte, 0 | 7));
        // btrfs at its quota has no room for a truncate: what was lost stays, as zeros.
        let cut = lost.is_none() || trouble == Trouble::Quota;
        assert!(cut && alien.is_none(), "{kind:?}: byte {lost:?} of {len}, {alien:?}");
        disk.heal();
        if !mount.try_unmount().success() {
            mount.forget();
        }
        drop(mount);
        let mount = vault.mount(&[]);
        assert_eq!(fs::metadata(mount.join("file")).unwrap().len(), len, "after a remount");
        assert!(fs::read(mount.join("file")).unwrap() == seen, "after a remount");
        mount.unmount();
        vault.verify();
    }
}

/// A write(2) that was let through before the failure, and waits for another one until the file was
/// cut, leaves no hole behind the cut. What is missing is what a writer was refused.
#[test]
fn several_writers_who_never_sync_leave_no_hole() {
    const CHUNK: u64 = 128 << 10;
    for round in 0..3 {
        let Some(mut disk) = Disk::new(Kind::Ext4, Trouble::Full) else { return };
        let vault = disk.vault.clone();
        let mut mount = vault.mount(&[]);
        mount.allow(Allow::Errors);
        disk.tighten(16);
        let path = mount.join("file");
        File::create(&path).unwrap();
        let next = AtomicU64::new(0);
        let until_refused = |file: File| {
            loop {
                let at = next.fetch_add(CHUNK, Ordering::Relaxed);
                assert!(at < 512 << 20, "round {round}: nobody is told");
                if let Err(error) = file.write_all_at(&[7; CHUNK as usize], at) {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "round {round}");
                    return at;
                }
            }
        };
        let refused: Vec<u64> = thread::scope(|scope| {
            // All are open when the disk is full: who opens the file later is told nothing.
            let files = [(); 8].map(|()| OpenOptions::new().write(true).open(&path).unwrap());
            let until_refused = &until_refused;
            let write = |file| scope.spawn(move || until_refused(file));
            let writers: Vec<_> = files.into_iter().map(write).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let len = fs::metadata(&path).unwrap().len();
        let found = fs::read(&path).unwrap();
        let was_refused = |at: u64| refused.iter().any(|from| (*from..from + CHUNK).contains(&at));
        let mut bytes = (0..).zip(&found);
        let hole = bytes.find(|(at, byte)| **byte != 7 && !was_refused(*at));
        assert_eq!((found.len() as u64, hole), (len, None), "round {round}");
        disk.heal();
        mount.unmount();
        vault.verify();
    }
}
