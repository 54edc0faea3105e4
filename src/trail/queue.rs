//! The queue of events in front of the trail. A thread that records an event does not wait; a thread
//! of the trail's own writes them in batches.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::thread::sched_getcpu;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::writer::{Start, TimedEvent, Writer};
use super::{Event, EventName, Settings, TrailError};
use crate::keys::policy::Subject;
use crate::sys::Affinity;

/// How long events are gathered. Together with the time of a write, a crash of the daemon loses at
/// most the last 100 ms.
const BATCH_INTERVAL: Duration = Duration::from_millis(10);
/// Without an event for this long, the thread sleeps until the next one.
const IDLE_AFTER: Duration = Duration::from_millis(400);
/// The nice value of the thread (nice(2)); an open takes a third less time with it.
const NICENESS: i32 = 10;
/// How often the checkpoint is written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How long after a failed write the next is tried.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Events of one write(2), which takes about 100 us.
const EVENTS_PER_WRITE: usize = 64;
/// With this many events queued, the thread runs on every processor.
const BACKLOG: usize = 2048;
/// The longest queue. Recording one more event waits for the thread.
const MAX_QUEUED: usize = 16 * 1024;

/// A second destination of each line, for instance syslog.
pub trait Sink: Send {
    /// Takes a line that was written to the trail.
    fn write_line(&mut self, event: &Event, line: &str);
}

/// The state of a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailStatus {
    /// Its directory.
    pub directory: String,
    /// The number of the last line.
    pub last: u64,
    /// Why the last write failed; `None` while writes succeed.
    pub failing: Option<String>,
    /// Events lost since the mount because writes failed.
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
    /// Signals the thread that there is work.
    wake: Condvar,
    /// Signals waiters that a write ended, with or without success.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<TimedEvent>,
    /// How many events were recorded so far.
    recorded: u64,
    /// How many of them are durable.
    durable: u64,
    /// Up to which of them a thread waits for durability.
    awaited: u64,
    /// The processor on which the last one was recorded.
    recorder_cpu: usize,
    last_line: u64,
    sleeping: bool,
    stopping: bool,
    failing: Option<String>,
    lost: u64,
    /// Lost events that no line of the trail reports yet.
    unreported_losses: u64,
}

impl Trail {
    /// Opens a trail and starts its thread. Also returns what is wrong with the trail that is there.
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
        let state = Mutex::new(State { last_line: writer.head().sequence, ..State::default() });
        let (wake, written) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { settings, directory, state, wake, written });
        let worker = Worker {
            shared: Arc::clone(&shared),
            writer,
            sinks,
            spare: Vec::with_capacity(1024),
            affinity: Affinity::current(),
            avoided_cpu: None,
            last_write: Instant::now(),
            last_checkpoint: Instant::now(),
        };
        let thread = thread::Builder::new().name("trail".to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(|error| TrailError::io("begin a thread for", &path, error))?;
        Ok((Self { shared, thread: Mutex::new(Some(thread)) }, trouble))
    }

    /// Records an event at the present time. With [`Settings::sync`] it is durable when this returns.
    ///
    /// # Errors
    /// [`TrailError::Refused`] when the trail can't be written and is to fail closed.
    pub fn record(&self, event: Event) -> Result<(), TrailError> {
        let state = self.push(event)?;
        if self.shared.settings.sync { self.shared.wait_until_durable(state) } else { Ok(()) }
    }

    /// Records an event, which is durable when this returns.
    ///
    /// # Errors
    /// As [`Trail::record`].
    pub fn record_durably(&self, event: Event) -> Result<(), TrailError> {
        let state = self.push(event)?;
        self.shared.wait_until_durable(state)
    }

    /// Fails where the trail forbids the use of keys.
    ///
    /// # Errors
    /// [`TrailError::Refused`] when writes fail and the trail is to fail closed.
    pub fn check_writable(&self) -> Result<(), TrailError> {
        self.shared.check_writable(&self.shared.state.lock())
    }

    /// Waits until all events recorded before are durable, or a write fails.
    pub fn flush(&self) {
        let state = self.shared.state.lock();
        // The status reports the failure, and readers see the lines that were written.
        let _ = self.shared.wait_until_durable(state);
    }

    /// The state of the trail.
    pub fn status(&self) -> TrailStatus {
        let state = self.shared.state.lock();
        TrailStatus {
            directory: self.shared.directory.clone(),
            last: state.last_line,
            failing: state.failing.clone(),
            lost: state.lost,
        }
    }

    /// Writes the events that are queued and stops the thread.
    pub fn end(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.state.lock().stopping = true;
        self.shared.wake.notify_one();
        // A panic of the thread ends the process.
        let _ = thread.join();
    }

    fn push(&self, event: Event) -> Result<MutexGuard<'_, State>, TrailError> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        shared.check_writable(&state)?;
        while state.queue.len() >= MAX_QUEUED && state.failing.is_none() {
            shared.wake.notify_one();
            shared.written.wait(&mut state);
        }
        shared.check_writable(&state)?;
        if state.queue.len() >= MAX_QUEUED {
            state.lost += 1;
            state.unreported_losses += 1;
            return Ok(state);
        }
        state.queue.push(TimedEvent::now(event));
        state.recorded += 1;
        state.recorder_cpu = sched_getcpu();
        if state.sleeping {
            state.sleeping = false;
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
    fn check_writable(&self, state: &State) -> Result<(), TrailError> {
        match &state.failing {
            Some(reason) if self.settings.fail_closed => Err(TrailError::Refused(reason.clone())),
            _ => Ok(()),
        }
    }

    fn wait_until_durable(&self, mut state: MutexGuard<'_, State>) -> Result<(), TrailError> {
        let mine = state.recorded;
        while state.durable < mine && state.failing.is_none() {
            state.awaited = state.awaited.max(mine);
            state.sleeping = false;
            self.wake.notify_one();
            self.written.wait(&mut state);
        }
        if state.durable < mine { self.check_writable(&state) } else { Ok(()) }
    }
}

/// Events that are being written.
struct Batch {
    events: Vec<TimedEvent>,
    /// [`State::recorded`] when the batch was taken.
    last_recorded: u64,
    /// Lost events, which the last event of the batch reports; 0 where it is none of that kind.
    lost: u64,
    /// Whether they are made durable.
    durable: bool,
}

struct Worker {
    shared: Arc<Shared>,
    writer: Writer,
    sinks: Vec<Box<dyn Sink>>,
    /// The buffer of the batch before, for the next queue.
    spare: Vec<TimedEvent>,
    affinity: Option<Affinity>,
    /// The processor that the thread does not run on.
    avoided_cpu: Option<usize>,
    last_write: Instant,
    last_checkpoint: Instant,
}

impl Worker {
    fn run(mut self) {
        // Session threads go first; the share that is left keeps up with them.
        let _ = rustix::process::nice(NICENESS);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        loop {
            if self.is_due(&state) {
                self.last_write = Instant::now();
                // A thread that waits for durability leaves its processor idle.
                let is_recorder_busy =
                    state.queue.len() < BACKLOG && state.awaited <= state.durable;
                let busy_cpu = is_recorder_busy.then_some(state.recorder_cpu);
                let mut batch = self.take_batch(&mut state);
                let outcome = MutexGuard::unlocked(&mut state, || {
                    self.avoid_cpu(busy_cpu);
                    self.write(&mut batch)
                });
                self.complete_batch(&mut state, batch, outcome);
                shared.written.notify_all();
            }
            if !state.stopping {
                self.wait_for_work(&mut state);
            } else if state.failing.is_some() || !self.is_due(&state) {
                break;
            }
        }
        let unwritten = state.queue.len();
        let gap = state.failing.is_some().then(|| unwritten as u64 + state.unreported_losses);
        // From now on no caller waits for a write.
        state.failing.get_or_insert_with(|| "it has ended".to_owned());
        shared.written.notify_all();
        drop(state);
        if unwritten > 0 {
            log::error!("{unwritten} events are lost: the trail can't be written");
        }
        gap.into_iter().for_each(|lost| self.writer.note_gap(lost));
        self.writer.write_checkpoint();
    }

    /// Moves the thread off this processor, where there are others: a session thread answers there.
    fn avoid_cpu(&mut self, cpu: Option<usize>) {
        let Some(affinity) = self.affinity.as_ref().filter(|affinity| !affinity.is_overridden())
        else {
            return;
        };
        if cpu != self.avoided_cpu {
            let mut runs_on = affinity.all_but(self.avoided_cpu);
            affinity.change(&mut runs_on, &affinity.all_but(cpu));
            self.avoided_cpu = cpu;
        }
    }

    /// Whether a batch is to be written now.
    fn is_due(&self, state: &State) -> bool {
        let has_work = !state.queue.is_empty() || state.awaited > state.durable;
        let may_write = state.failing.is_none()
            || state.stopping
            || self.last_write.elapsed() >= RETRY_INTERVAL;
        has_work && may_write
    }

    /// Gathers events for [`BATCH_INTERVAL`]; writes the checkpoint when it is due, and sleeps while
    /// the queue is empty.
    fn wait_for_work(&mut self, state: &mut MutexGuard<'_, State>) {
        if state.failing.is_none() && self.is_due(state) && state.awaited > state.durable {
            return;
        }
        let is_idle = state.queue.is_empty() && self.last_write.elapsed() >= IDLE_AFTER;
        if is_idle || self.last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
            self.last_checkpoint = Instant::now();
            MutexGuard::unlocked(state, || self.writer.refresh_checkpoint());
        }
        if !is_idle {
            self.shared.wake.wait_for(state, BATCH_INTERVAL);
            return;
        }
        state.sleeping = state.queue.is_empty() && state.awaited <= state.durable;
        while state.sleeping && !state.stopping {
            self.shared.wake.wait(state);
        }
    }

    /// The queue, with an event that reports the events lost since the last batch.
    fn take_batch(&mut self, state: &mut State) -> Batch {
        let mut events = std::mem::replace(&mut state.queue, std::mem::take(&mut self.spare));
        let lost = std::mem::take(&mut state.unreported_losses);
        if lost > 0 {
            let mut gap = Event::new(EventName::TrailGap, Subject::this_process());
            gap.parameters.details = Some(json!({ "lost": lost }));
            events.push(TimedEvent::now(gap));
        }
        let durable = self.shared.settings.sync || state.awaited > state.durable;
        Batch { events, last_recorded: state.recorded, lost, durable }
    }

    /// Writes the batch. Events that could not be written stay in it.
    fn write(&mut self, batch: &mut Batch) -> Result<(), TrailError> {
        let sinks = &mut self.sinks;
        let mut written = 0;
        let outcome = batch.events.chunks(EVENTS_PER_WRITE).try_for_each(|events| {
            self.writer.append(events, |event, line| {
                sinks.iter_mut().for_each(|sink| sink.write_line(event, line));
            })?;
            written += events.len();
            // A session thread may need the processor.
            thread::yield_now();
            Ok(())
        });
        batch.events.drain(..written);
        outcome?;
        if batch.durable {
            self.writer.sync()?;
            // A caller of `flush` reads the trail next. With `sync` every open comes here: no checkpoint
            // for each.
            if !self.shared.settings.sync {
                self.writer.refresh_checkpoint();
            }
        }
        Ok(())
    }

    fn complete_batch(&mut self, state: &mut State, batch: Batch, outcome: Result<(), TrailError>) {
        state.last_line = self.writer.head().sequence;
        match outcome {
            Ok(()) => {
                self.spare = batch.events;
                if batch.durable {
                    state.durable = batch.last_recorded;
                }
                if state.failing.take().is_some() {
                    log::warn!("the trail is written again; {} events were lost", state.lost);
                }
            }
            Err(error) => {
                // They go back to the front of the queue. Events that came meanwhile and exceed its
                // length are lost, and counted by the next report.
                let mut events = batch.events;
                if batch.lost > 0 && events.pop().is_some() {
                    state.unreported_losses += batch.lost;
                }
                events.append(&mut state.queue);
                let excess = events.len().saturating_sub(MAX_QUEUED);
                events.truncate(MAX_QUEUED);
                state.lost += excess as u64;
                state.unreported_losses += excess as u64;
                state.queue = events;
                if state.failing.is_none() {
                    let what = if self.shared.settings.fail_closed {
                        "no key may be used until it can"
                    } else {
                        "keys are used all the same"
                    };
                    log::error!("the trail can't be written, and {what}: {error}");
                }
                state.failing = Some(error.to_string());
            }
        }
    }
}
