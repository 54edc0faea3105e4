//! A backing file in memory: it checks what the format says of every write, and fails when told.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use atrest::format::{BLOCK_LEN, HEADER_LEN};
use atrest::store::{Backing, SyncScope};
use parking_lot::Mutex;

use super::Image;

/// A call of the backing. [`Fault`]s count those that change it or make it durable, [`Plan`]s all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Seek,
    Write,
    SetLen,
    Sync,
    Punch,
    Allocate,
}

/// Which call is to fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// How many calls succeed before it.
    pub after: usize,
    /// How many fail from there on.
    pub times: usize,
    pub errno: i32,
    /// A write of several blocks leaves half of them written.
    pub half_written: bool,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    Error(i32),
    /// Of a write, the first half of the blocks is written before it fails; other calls fail.
    HalfWritten(i32),
    /// A read ends early, as if the file did; other calls succeed.
    ShortRead,
    /// The call succeeds, late.
    Delay(Duration),
}

/// Which calls of any kind are in trouble.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub trouble: Trouble,
    /// How many calls succeed before.
    pub after: usize,
    /// How many are in trouble from there on.
    pub times: usize,
    /// How long each call takes at most, by chance.
    pub jitter: Option<Duration>,
}

/// A file in memory. Clones are the same file, as two descriptors are.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    image: Image,
    calls: Vec<Call>,
    fault: Option<Fault>,
    plan: Option<Plan>,
    /// Calls of any kind since [`Memory::plan`].
    seen: usize,
    /// By nonce, what was sealed with it: head, body and tag.
    sealed: HashMap<[u8; 12], Vec<u8>>,
}

impl Memory {
    pub fn with(image: Image) -> Self {
        Self(Arc::new(Mutex::new(State { image, ..State::default() })))
    }

    pub fn image(&self) -> Image {
        self.0.lock().image.clone()
    }

    pub fn size(&self) -> u64 {
        self.0.lock().image.size()
    }

    /// Another content, as if somebody wrote to the vault.
    pub fn replace(&self, image: Image) {
        self.0.lock().image = image;
    }

    /// Lets a call fail, counted from now.
    pub fn fail(&self, fault: Fault) {
        let mut state = self.0.lock();
        state.calls.clear();
        state.fault = Some(fault);
    }

    /// Lets all calls succeed again; returns those there were since [`Memory::fail`].
    pub fn heal(&self) -> Vec<Call> {
        let mut state = self.0.lock();
        state.fault = None;
        std::mem::take(&mut state.calls)
    }

    /// Lets calls of any kind be in trouble, counted from now.
    pub fn plan(&self, plan: Plan) {
        let mut state = self.0.lock();
        state.seen = 0;
        state.plan = Some(plan);
    }

    /// Does `work` while no call is in trouble or counted.
    pub fn at_rest<T>(&self, work: impl FnOnce() -> T) -> T {
        let plan = self.0.lock().plan.take();
        let done = work();
        self.0.lock().plan = plan;
        done
    }

    /// Ends the plan; returns how many calls there were.
    pub fn end_plan(&self) -> usize {
        let mut state = self.0.lock();
        state.plan = None;
        state.seen
    }

    /// What the plan has for this call. A delay is over when this returns.
    fn meet(&self, call: Call) -> io::Result<Met> {
        let mut state = self.0.lock();
        let Some(plan) = state.plan else { return Ok(Met::Nothing) };
        let number = state.seen;
        state.seen += 1;
        drop(state);
        if let Some(most) = plan.jitter {
            thread::sleep(most * rand::random_range(0..8) / 8);
        }
        if number < plan.after || number - plan.after >= plan.times {
            return Ok(Met::Nothing);
        }
        match (plan.trouble, call) {
            (Trouble::HalfWritten(errno), Call::Write) => Ok(Met::HalfWritten(errno)),
            (Trouble::Error(errno) | Trouble::HalfWritten(errno), _) => {
                Err(io::Error::from_raw_os_error(errno))
            }
            (Trouble::ShortRead, Call::Read) => Ok(Met::ShortRead),
            (Trouble::ShortRead, _) => Ok(Met::Nothing),
            (Trouble::Delay(delay), _) => {
                thread::sleep(delay);
                Ok(Met::Nothing)
            }
        }
    }

    fn write(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let (buf, failed) = match self.meet(Call::Write)? {
            Met::HalfWritten(errno) => {
                let half = &buf[..buf.len() / BLOCK_LEN / 2 * BLOCK_LEN];
                (half, Err(io::Error::from_raw_os_error(errno)))
            }
            Met::Nothing | Met::ShortRead => (buf, Ok(())),
        };
        self.0.lock().write(buf, offset)?;
        failed
    }
}

enum Met {
    Nothing,
    HalfWritten(i32),
    ShortRead,
}

impl State {
    fn call(&mut self, call: Call) -> io::Result<()> {
        let number = self.calls.len();
        self.calls.push(call);
        match self.fault {
            Some(fault) if number >= fault.after && number - fault.after < fault.times => {
                Err(io::Error::from_raw_os_error(fault.errno))
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        let failed = self.call(Call::Write);
        let half = self.fault.is_some_and(|fault| fault.half_written);
        let buf = match failed {
            Ok(()) => buf,
            Err(_) if half => &buf[..buf.len() / BLOCK_LEN / 2 * BLOCK_LEN],
            Err(_) => &[],
        };
        self.check(buf, offset);
        self.image.write_at(buf, offset);
        failed
    }

    /// What reaches the vault is a header, whole blocks each under a nonce of its own, or zeros
    /// past the last block; and all of it lies inside the file.
    fn check(&mut self, buf: &[u8], offset: u64) {
        let end = offset + buf.len() as u64;
        assert!(
            end <= self.image.size(),
            "a write to {end} makes a file of {:?} longer",
            self.image.size()
        );
        let past_last_block = offset >= self.image.size() / BLOCK_LEN as u64 * BLOCK_LEN as u64;
        if (buf.len(), offset) == (HEADER_LEN, 0) {
            return assert!(buf.starts_with(b"atrest"));
        }
        if past_last_block && buf.iter().all(|&byte| byte == 0) {
            return;
        }
        assert!(
            offset.is_multiple_of(BLOCK_LEN as u64) && buf.len().is_multiple_of(BLOCK_LEN),
            "a part of a block"
        );
        for (index, block) in buf.chunks(BLOCK_LEN).enumerate() {
            let first = offset == 0 && index == 0;
            assert!(!first || block.starts_with(b"atrest"), "block 0 without its header");
            let block = if first { &block[HEADER_LEN..] } else { block };
            let mut nonce = [0; 12];
            nonce.copy_from_slice(&block[..12]);
            assert!(nonce != [0; 12], "a block without a nonce");
            let before = self.sealed.entry(nonce).or_insert_with(|| block.to_vec());
            assert_eq!(before, block, "two blocks were sealed with one nonce");
        }
    }
}

impl Backing for Memory {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = match self.meet(Call::Read)? {
            Met::ShortRead => buf.len() / 2,
            Met::Nothing | Met::HalfWritten(_) => buf.len(),
        };
        Ok(self.0.lock().image.read_at(&mut buf[..len], offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write(buf, offset)
    }

    fn write_preserving_mtime(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.meet(Call::SetLen)?;
        let mut state = self.0.lock();
        state.call(Call::SetLen)?;
        state.image.set_len(len);
        Ok(())
    }

    fn sync(&self, _: SyncScope) -> io::Result<()> {
        self.meet(Call::Sync)?;
        self.0.lock().call(Call::Sync)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.meet(Call::Punch)?;
        let mut state = self.0.lock();
        state.call(Call::Punch)?;
        state.image.punch(offset, len);
        Ok(())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.meet(Call::Allocate)?;
        self.0.lock().call(Call::Allocate)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.meet(Call::Seek)?;
        Ok(self.0.lock().image.next_data(offset))
    }

    fn next_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        self.meet(Call::Seek)?;
        Ok(self.0.lock().image.next_hole(offset))
    }
}
