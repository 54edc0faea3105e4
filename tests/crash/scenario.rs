//! Operations on one file up to a crash, and what a reader may find after it.

use std::sync::Arc;

use atrest::keys::DEFAULT_KEY;
use atrest::store::{Backing, Context, SealedFile, SyncScope};

use super::disk::{CrashDisk, Interval};
use super::recovery::{Depth, check_run};
use crate::common_store::{Image, Mounts, Op, rng};

/// Who made what lay on the disk when the mount that crashes began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The mount itself made it, and fsynced it.
    Same,
    /// An earlier mount made it and ended cleanly.
    Clean,
    /// An earlier mount made it, fsynced it, and crashed.
    Crashed,
}

/// A file's content is made by `base` and made durable; then come `ops`, and somewhere in them
/// or after them a crash.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub before: Before,
    pub base: Vec<Op>,
    pub ops: Vec<Op>,
}

/// A file at rest: what is on the disk, the mounts that it has seen, and its content.
#[derive(Clone)]
pub struct Rest {
    pub image: Image,
    /// With the mount that is to use it running.
    pub mounts: Mounts,
    pub content: Vec<u8>,
    /// A crash left a length without a header: nothing of it was ever fsynced, and it may come
    /// to nothing.
    pub lost: bool,
}

/// What operations did up to a crash.
pub struct Run {
    pub intervals: Vec<Interval>,
    /// What the content was before the first operation, and after each.
    pub contents: Vec<Vec<u8>>,
    /// By number, with each of them running.
    pub mounts: Vec<Mounts>,
}

impl Scenario {
    /// Reopens every state that a crash can leave, `most` of them for each interval where there
    /// are more. Returns how many, or what was wrong with the first bad one.
    pub fn check(&self, most: usize, depth: Depth) -> Result<usize, String> {
        let tell = |error| format!("{error}\n{self:?}");
        let rest = self.rest().map_err(tell)?;
        let run = run(rest, &self.ops).map_err(tell)?;
        check_run(&run, most, depth, &mut rng(1)).map_err(tell)
    }

    /// [`Scenario::check`] as deep as it goes, for the tests of one sequence.
    #[track_caller]
    pub fn holds(&self) {
        let states = self.check(5000, Depth::CrashAgain).unwrap_or_else(|error| panic!("{error}"));
        assert!(states > 1, "there was nothing to lose in {self:?}");
    }

    fn rest(&self) -> Result<Rest, String> {
        let mounts = Mounts::first();
        let (disk, mut content) = (CrashDisk::new(Image::default()), Vec::new());
        let file = open(&disk, &mounts.context())?;
        // Numbers of their own, so that no write of the scenario repeats a byte of these.
        for (number, op) in (200..).zip(&self.base) {
            op.apply(number, &mut content);
            op.perform(number, &file).map_err(|error| format!("in the base: {error}"))?;
        }
        file.sync(SyncScope::All).map_err(|error| format!("in the base: {error}"))?;
        let mounts = match self.before {
            Before::Same => mounts,
            Before::Clean => mounts.after_clean_end(),
            Before::Crashed => mounts.after_crash(),
        };
        Ok(Rest { image: disk.image(), mounts, content, lost: false })
    }
}

/// Runs operations from what is at rest to a crash.
pub fn run(rest: Rest, ops: &[Op]) -> Result<Run, String> {
    let Rest { image, mut mounts, content, lost } = rest;
    let disk = CrashDisk::new(image);
    let mut context = mounts.context();
    let mut file = open(&disk, &context)?;
    let mut earlier = Vec::new();
    let mut contents = if lost { vec![Vec::new(), content] } else { vec![content] };
    for (number, op) in ops.iter().enumerate() {
        let mut content = contents[contents.len() - 1].clone();
        op.apply(number, &mut content);
        disk.begin(contents.len());
        contents.push(content);
        if *op == Op::Rewrap {
            rotate(&mut mounts, &context);
        }
        op.perform(number, &file).map_err(|error| format!("operation {number}: {error}"))?;
        match op {
            Op::Sync => disk.fsynced(contents.len() - 1),
            Op::Reopen => file = open(&disk, &context)?,
            Op::Remount => {
                file.backing().sync(SyncScope::All).map_err(|error| error.to_string())?;
                disk.fsynced(contents.len() - 1);
                disk.remounted();
                earlier.push(mounts.clone());
                mounts = mounts.after_clean_end();
                context = mounts.context();
                file = open(&disk, &context)?;
            }
            _ => {}
        }
    }
    earlier.push(mounts);
    // The key file is replaced durably, and knows all versions.
    earlier.iter_mut().for_each(|mounts| mounts.learn(&context));
    Ok(Run { intervals: disk.intervals(), contents, mounts: earlier })
}

/// Opens the file for the mount whose files share `context`.
pub fn open(disk: &CrashDisk, context: &Arc<Context>) -> Result<SealedFile<CrashDisk>, String> {
    let size = disk.image().size();
    SealedFile::open(disk.clone(), size, Arc::clone(context))
        .map_err(|error| format!("open: {error}"))
}

/// Adds a key version, for the running mount and for those to come.
pub fn rotate(mounts: &mut Mounts, context: &Context) {
    let mut ring = context.ring().clone();
    ring.rotate(DEFAULT_KEY).unwrap();
    context.replace_ring(ring);
    mounts.learn(context);
}

impl Run {
    /// Whether `found` may be read after a crash in `interval`.
    pub fn allows(&self, interval: &Interval, found: &[u8]) -> Result<(), String> {
        let contents = &self.contents[interval.from..=interval.to];
        let longest = contents.iter().map(Vec::len).max().unwrap();
        let shortest = contents.iter().map(Vec::len).min().unwrap();
        if !(shortest..=longest).contains(&found.len()) {
            return Err(format!("{} bytes, not {shortest} to {longest}", found.len()));
        }
        // Never fsynced, or cut away.
        let may_be_zero = |at: usize| at >= shortest;
        for (at, byte) in found.iter().enumerate() {
            let zeroed = *byte == 0 && may_be_zero(at);
            if !zeroed && contents.iter().all(|content| content.get(at) != Some(byte)) {
                return Err(format!("byte {at} of {} is {byte}, of no state", found.len()));
            }
        }
        Ok(())
    }
}
