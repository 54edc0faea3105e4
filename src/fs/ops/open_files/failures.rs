//! Failures that belong to a file rather than to one request, reported to each descriptor once.
//!
//! The kernel below reports a failed write-back once for each of its descriptors, and all users of
//! a file share one here. So it is noted, as errseq_t does it (Linux lib/errseq.c): the newest
//! failure is reported once to each descriptor that was open then; to one that is opened later,
//! only if it was reported to none yet.

use std::collections::HashSet;

use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;

use crate::fs::Handle;

/// The newest failure of a file.
#[derive(Debug, Default)]
pub struct Failures {
    noted: Mutex<Option<Box<Noted>>>,
    /// Held shared by each [`Failures::note_of`] until it has noted its failure.
    under_way: RwLock<()>,
}

#[derive(Debug)]
struct Noted {
    errno: Errno,
    /// The handles up to this one were open.
    newest: Handle,
    reported: HashSet<Handle>,
}

impl Failures {
    /// Does `work` and notes its failure, of which `describe` gives the number and the newest
    /// handle. Of concurrent calls the kernel below fails one for what concerns all, so after a
    /// success this waits for those that had begun.
    pub fn note_of<T, E>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
        describe: impl FnOnce(&E) -> (Errno, Handle),
    ) -> Result<T, E> {
        let under_way = self.under_way.read();
        let done = work();
        if let Err(error) = &done {
            let (errno, newest) = describe(error);
            self.note(errno, newest);
        }
        drop(under_way);
        if done.is_ok() {
            drop(self.under_way.write());
        }
        done
    }

    /// Notes a failure; the handles up to `newest` are open. An older one is forgotten.
    pub fn note(&self, errno: Errno, newest: Handle) {
        *self.noted.lock() = Some(Box::new(Noted { errno, newest, reported: HashSet::new() }));
    }

    /// Whether there was one.
    pub fn any(&self) -> bool {
        self.newest().is_some()
    }

    /// The newest failure.
    pub fn newest(&self) -> Option<Errno> {
        self.noted.lock().as_ref().map(|noted| noted.errno)
    }

    /// The failure that was not reported to `handle` yet. It counts as reported then.
    pub fn report_to(&self, handle: Handle) -> Option<Errno> {
        let mut noted = self.noted.lock();
        let noted = noted.as_mut()?;
        let concerned = handle <= noted.newest || noted.reported.is_empty();
        (concerned && noted.reported.insert(handle)).then_some(noted.errno)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_success_waits_for_the_failure_of_another_under_way() {
        let (failures, (begun, wait)) = (Failures::default(), channel());
        let told = |errno: &Errno| (*errno, Handle(12));
        thread::scope(|scope| {
            scope.spawn(|| {
                let fail = || {
                    begun.send(()).unwrap();
                    thread::sleep(Duration::from_millis(100));
                    Err::<(), _>(Errno::IO)
                };
                failures.note_of(fail, told).unwrap_err();
            });
            wait.recv().unwrap();
            failures.note_of(|| Ok(()), told).unwrap();
            assert_eq!(failures.report_to(Handle(4)), Some(Errno::IO));
        });
    }

    #[test]
    fn each_handle_that_was_open_is_told_once_whichever_asks_first() {
        let failures = Failures::default();
        assert_eq!(failures.report_to(Handle(4)), None);
        failures.note(Errno::IO, Handle(12));
        assert_eq!(failures.report_to(Handle(8)), Some(Errno::IO));
        assert_eq!(failures.report_to(Handle(8)), None);
        assert_eq!(failures.report_to(Handle(4)), Some(Errno::IO));
        assert_eq!(failures.report_to(Handle(16)), None, "opened after somebody was told");
        failures.note(Errno::NOSPC, Handle(16));
        assert_eq!(failures.report_to(Handle(20)), Some(Errno::NOSPC), "nobody knew yet");
        assert_eq!(failures.report_to(Handle(16)), Some(Errno::NOSPC));
        assert_eq!(failures.report_to(Handle(20)), None);
    }
}
