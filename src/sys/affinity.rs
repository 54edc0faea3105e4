//! Where the process's threads may run. That is for its owner to say, by taskset(1) or a cpuset, at
//! any time: a thread that wants to keep off a processor looks at what holds before it changes
//! anything, and after.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, getpid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that the process was given.
#[derive(Debug)]
pub struct Affinity {
    allowed: CpuSet,
    /// The process, and its first thread, which never says where it runs.
    process: Pid,
    /// Somebody else has said where the threads may run.
    overruled: AtomicBool,
}

impl Affinity {
    /// As it holds for the calling thread. `None` where the kernel does not say.
    pub fn here() -> Option<Self> {
        let allowed = sched_getaffinity(None).ok()?;
        Some(Self { allowed, process: getpid(), overruled: AtomicBool::new(false) })
    }

    /// The processors that the process was given.
    pub fn allowed(&self) -> &CpuSet {
        &self.allowed
    }

    /// Whether somebody else has said where the threads may run since.
    pub fn is_overruled(&self) -> bool {
        self.overruled.load(Ordering::Relaxed)
    }

    /// Says that this thread may run on the processors `to`, which are allowed ones, where so far it
    /// may on those in `runs_on`: unless somebody else has changed that, for it or for the process.
    /// Not for the process's first thread.
    pub fn change(&self, runs_on: &mut CpuSet, to: &CpuSet) {
        if runs_on == to {
            return;
        }
        if !sched_getaffinity(None).is_ok_and(|now| now == *runs_on) {
            return self.overrule();
        }
        // What the process is told holds for its threads, and may come between the two looks.
        let told = || sched_getaffinity(Some(self.process)).unwrap_or(self.allowed);
        let before = told();
        *runs_on = if before == self.allowed { *to } else { before };
        // Where it is refused it is slower, not wrong.
        let _ = sched_setaffinity(None, runs_on);
        let after = told();
        if after != before {
            let _ = sched_setaffinity(None, &after);
            *runs_on = after;
        }
        if after != self.allowed {
            self.overrule();
        }
    }

    fn overrule(&self) {
        self.overruled.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getcpu;

    use super::*;

    #[test]
    fn what_somebody_else_says_of_a_thread_stays() {
        let Some(affinity) = Affinity::here().filter(|here| here.allowed.count() > 1) else {
            return;
        };
        let mut other = affinity.allowed;
        other.unset(sched_getcpu());
        let run = || {
            let mut runs_on = affinity.allowed;
            affinity.change(&mut runs_on, &other);
            assert!(runs_on == other && !affinity.is_overruled());
            assert_eq!(sched_getaffinity(None).unwrap(), other);
            affinity.change(&mut runs_on, affinity.allowed());
            assert_eq!(sched_getaffinity(None).unwrap(), affinity.allowed);
            let mut one = CpuSet::new();
            one.set(sched_getcpu());
            sched_setaffinity(None, &one).unwrap();
            affinity.change(&mut runs_on, &other);
            assert!(affinity.is_overruled());
            assert_eq!(sched_getaffinity(None).unwrap(), one);
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap());
    }
}
