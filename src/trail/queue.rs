//! Events on their way to the trail: whoever records one goes on at once, and a thread writes them
//! in batches.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::thread::sched_getcpu;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::writer::{Start, Writer};
use super::{Event, EventName, Settings, TrailError};
use crate::keys::policy::Subject;
use crate::sys::Affinity;

/// How long events are gathered: with the time that writing takes, the daemon's death loses no more
/// than the last 100 ms.
const RHYTHM: Duration = Duration::from_millis(10);
/// After so long without an event the thread sleeps until there is one.
const IDLE: Duration = Duration::from_millis(400);
/// By how much the thread is nicer than the others (nice(2)); it costs an open a third less.
const NICER: i32 = 10;
/// How often the vault is told how far the trail has come.
const SEALING: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Events that are written at once, which takes some 100 us.
const PIECE: usize = 64;
/// Where so many wait, the thread runs wherever it can.
const MANY: usize = 2048;
/// Events that wait at most: whoever records one more waits for the thread.
const MOST: usize = 16 * 1024;

/// Somebody else who is told each line: syslog, say.
pub trait Sink: Send {
    /// Takes a line, which was written to the trail.
    fn tell(&mut self, event: &Event, line: &str);
}

/// How a trail is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Where it lies.
    pub directory: String,
    /// The number of the last line.
    pub last: u64,
    /// Why it can't be written at the moment.
    pub failing: Option<String>,
    /// Events that were lost since the mount because it could not be written.
    pub lost: u64,
}

/// A trail that is being written.
#[derive(Debug)]
pub struct Trail {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    directory: String,
    state: Mutex<State>,
    /// There is something to do for the thread.
    wake: Condvar,
    /// Something was written, or could not be.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<(Timestamp, Event)>,
    /// Events recorded so far, those that are durable among them, and at which of them somebody
    /// waits for that.
    recorded: u64,
    durable: u64,
    awaited: u64,
    /// The processor on which the last was recorded.
    recorder: usize,
    last: u64,
    resting: bool,
    ending: bool,
    failing: Option<String>,
    lost: u64,
    untold: u64,
}

impl Trail {
    /// Goes on with a trail, with a thread of its own. Also returns what is wrong with the trail that
    /// is there.
    ///
    /// # Errors
    /// [`TrailError`] when it can't be written.
    pub fn start(
        start: Start,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Result<(Self, Option<String>), TrailError> {
        let settings = start.settings;
        let directory = start.directory.to_string_lossy().into_owned();
        let path = start.directory.clone();
        let (writer, trouble) = Writer::open(start)?;
        let state = Mutex::new(State { last: writer.head().sequence, ..State::default() });
        let (wake, written) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { settings, directory, state, wake, written });
        let (active, sealed) = (Instant::now(), Instant::now());
        let spare = Vec::with_capacity(1024);
        let worker = Worker {
            shared: Arc::clone(&shared),
            writer,
            sinks,
            spare,
            affinity: Affinity::current(),
            kept_free: None,
            active,
            sealed,
        };
        let thread = thread::Builder::new().name("trail".to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(|error| TrailError::io("begin a thread for", &path, error))?;
        Ok((Self { shared, thread: Mutex::new(Some(thread)) }, trouble))
    }

    /// Takes an event, with the time that it is now. With [`Settings::sync`] it is durable when this
    /// returns.
    ///
    /// # Errors
    /// [`TrailError::Refused`] when the trail can't be written and is to fail closed.
    pub fn record(&self, event: Event) -> Result<(), TrailError> {
        let state = self.push(event)?;
        if self.shared.settings.sync { self.shared.wait_until_durable(state) } else { Ok(()) }
    }

    /// [`Trail::record`], and it is durable when this returns in any case.
    ///
    /// # Errors
    /// As [`Trail::record`].
    pub fn record_durably(&self, event: Event) -> Result<(), TrailError> {
        let state = self.push(event)?;
        self.shared.wait_until_durable(state)
    }

    /// Whether keys may be used, as far as the trail is concerned.
    ///
    /// # Errors
    /// [`TrailError::Refused`].
    pub fn admit(&self) -> Result<(), TrailError> {
        self.shared.admit(&self.shared.state.lock())
    }

    /// All that was recorded before is in the trail's files when this returns, if it can be.
    pub fn flush(&self) {
        let state = self.shared.state.lock();
        // Failing is told by the condition, and whoever reads the trail reads what there is.
        let _ = self.shared.wait_until_durable(state);
    }

    /// How it is.
    pub fn condition(&self) -> Condition {
        let state = self.shared.state.lock();
        Condition {
            directory: self.shared.directory.clone(),
            last: state.last,
            failing: state.failing.clone(),
            lost: state.lost,
        }
    }

    /// Writes what is left, and ends.
    pub fn end(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.state.lock().ending = true;
        self.shared.wake.notify_one();
        // A thread that panics ends the process.
        let _ = thread.join();
    }

    fn push(&self, event: Event) -> Result<MutexGuard<'_, State>, TrailError> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        shared.admit(&state)?;
        while state.queue.len() >= MOST && state.failing.is_none() {
            shared.wake.notify_one();
            shared.written.wait(&mut state);
        }
        shared.admit(&state)?;
        if state.queue.len() >= MOST {
            state.lost += 1;
            state.untold += 1;
            return Ok(state);
        }
        state.queue.push((Timestamp::now(), event));
        state.recorded += 1;
        state.recorder = sched_getcpu();
        if state.resting {
            state.resting = false;
            shared.wake.notify_one();
        }
        Ok(state)
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn admit(&self, state: &State) -> Result<(), TrailError> {
        match &state.failing {
            Some(reason) if self.settings.fail_closed => Err(TrailError::Refused(reason.clone())),
            _ => Ok(()),
        }
    }

    fn wait_until_durable(&self, mut state: MutexGuard<'_, State>) -> Result<(), TrailError> {
        let mine = state.recorded;
        while state.durable < mine && state.failing.is_none() {
            state.awaited = state.awaited.max(mine);
            state.resting = false;
            self.wake.notify_one();
            self.written.wait(&mut state);
        }
        if state.durable < mine { self.admit(&state) } else { Ok(()) }
    }
}

/// Events that are being written, and made durable where somebody waits for that.
struct Batch {
    events: Vec<(Timestamp, Event)>,
    /// The last of them is the so manieth recorded.
    upto: u64,
    /// Lost ones that the last of them tells of.
    lost: u64,
    durable: bool,
}

struct Worker {
    shared: Arc<Shared>,
    writer: Writer,
    sinks: Vec<Box<dyn Sink>>,
    /// Room for the next events, which need not be asked for again.
    spare: Vec<(Timestamp, Event)>,
    affinity: Option<Affinity>,
    /// The processor that the thread does not run on.
    kept_free: Option<usize>,
    /// When there was something to write for the last time.
    active: Instant,
    sealed: Instant,
}

impl Worker {
    fn run(mut self) {
        // Behind the threads that answer: it has time, and a share that keeps up with them.
        let _ = rustix::process::nice(NICER);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        loop {
            if self.is_due(&state) {
                self.active = Instant::now();
                // Whoever waits for it to be durable does not use a processor meanwhile.
                let keeps_free = state.queue.len() < MANY && state.awaited <= state.durable;
                let busy = keeps_free.then_some(state.recorder);
                let mut batch = self.take(&mut state);
                let outcome = MutexGuard::unlocked(&mut state, || {
                    self.keep_free(busy);
                    self.write(&mut batch)
                });
                self.settle(&mut state, batch, outcome);
                shared.written.notify_all();
            }
            if !state.ending {
                self.rest(&mut state);
            } else if state.failing.is_some() || !self.is_due(&state) {
                break;
            }
        }
        let unwritten = state.queue.len();
        let gap = state.failing.is_some().then(|| unwritten as u64 + state.untold);
        // For those who come later: nobody writes what they record, or answers who waits.
        state.failing.get_or_insert_with(|| "it has ended".to_owned());
        shared.written.notify_all();
        drop(state);
        if unwritten > 0 {
            log::error!("{unwritten} events are lost: the trail can't be written");
        }
        gap.into_iter().for_each(|lost| self.writer.note_gap(lost));
        self.writer.seal(true);
    }

    /// Runs on other processors than this one, where there are any: whoever records there answers.
    fn keep_free(&mut self, processor: Option<usize>) {
        let Some(affinity) = self.affinity.as_ref().filter(|affinity| !affinity.is_overridden())
        else {
            return;
        };
        if processor != self.kept_free {
            let mut runs_on = affinity.all_but(self.kept_free);
            affinity.change(&mut runs_on, &affinity.all_but(processor));
            self.kept_free = processor;
        }
    }

    fn is_due(&self, state: &State) -> bool {
        let waits = !state.queue.is_empty() || state.awaited > state.durable;
        let is_time = state.failing.is_none() || state.ending || self.active.elapsed() >= RETRY;
        waits && is_time
    }

    /// Gathers events; seals while there is time for it, and sleeps when there is nothing to do.
    fn rest(&mut self, state: &mut MutexGuard<'_, State>) {
        if state.failing.is_none() && self.is_due(state) && state.awaited > state.durable {
            return;
        }
        let is_idle = state.queue.is_empty() && self.active.elapsed() >= IDLE;
        if is_idle || self.sealed.elapsed() >= SEALING {
            self.sealed = Instant::now();
            MutexGuard::unlocked(state, || self.writer.seal(false));
        }
        if !is_idle {
            self.shared.wake.wait_for(state, RHYTHM);
            return;
        }
        state.resting = state.queue.is_empty() && state.awaited <= state.durable;
        while state.resting && !state.ending {
            self.shared.wake.wait(state);
        }
    }

    fn take(&mut self, state: &mut State) -> Batch {
        let mut events = std::mem::replace(&mut state.queue, std::mem::take(&mut self.spare));
        let lost = std::mem::take(&mut state.untold);
        if lost > 0 {
            let mut gap = Event::new(EventName::TrailGap, Subject::this_process());
            gap.parameters.details = Some(json!({ "lost": lost }));
            events.push((Timestamp::now(), gap));
        }
        let durable = self.shared.settings.sync || state.awaited > state.durable;
        Batch { events, upto: state.recorded, lost, durable }
    }

    /// Leaves in the batch what could not be written.
    fn write(&mut self, batch: &mut Batch) -> Result<(), TrailError> {
        let sinks = &mut self.sinks;
        let mut written = 0;
        let outcome = batch.events.chunks(PIECE).try_for_each(|events| {
            self.writer.append(events, |event, line| {
                sinks.iter_mut().for_each(|sink| sink.tell(event, line));
            })?;
            written += events.len();
            // Who answers meanwhile may have use for the processor.
            thread::yield_now();
            Ok(())
        });
        batch.events.drain(..written);
        outcome?;
        if batch.durable {
            self.writer.sync()?;
            // Who waits for all that there is wants it to be known; not who opens a file.
            if !self.shared.settings.sync {
                self.writer.seal(false);
            }
        }
        Ok(())
    }

    fn settle(&mut self, state: &mut State, batch: Batch, outcome: Result<(), TrailError>) {
        state.last = self.writer.head().sequence;
        match outcome {
            Ok(()) => {
                self.spare = batch.events;
                if batch.durable {
                    state.durable = batch.upto;
                }
                if state.failing.take().is_some() {
                    log::warn!("the trail is written again; {} events were lost", state.lost);
                }
            }
            Err(error) => {
                // They go first when it works again, and then there may be more to tell of. What
                // came while that was tried finds no room where there was none before.
                let mut events = batch.events;
                if batch.lost > 0 && events.pop().is_some() {
                    state.untold += batch.lost;
                }
                events.append(&mut state.queue);
                let excess = events.len().saturating_sub(MOST);
                events.truncate(MOST);
                state.lost += excess as u64;
                state.untold += excess as u64;
                state.queue = events;
                if state.failing.is_none() {
                    let what = match self.shared.settings.fail_closed {
                        true => "no key may be used until it can",
                        false => "keys are used all the same",
                    };
                    log::error!("the trail can't be written, and {what}: {error}");
                }
                state.failing = Some(error.to_string());
            }
        }
    }
}
