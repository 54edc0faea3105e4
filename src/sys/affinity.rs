//! CPU affinity. The process's owner may set it at any time, by taskset(1) or a cpuset, so a thread that
//! keeps itself off a CPU reads the affinity before it changes anything, and after.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, getpid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that the process was given.
#[derive(Debug)]
pub struct Affinity {
    allowed: CpuSet,
    /// The process, which is also its first thread, and never changes its own affinity.
    process: Pid,
    /// Another process has set the affinity.
    overridden: AtomicBool,
}

impl Affinity {
    /// The calling thread's. `None` where sched_getaffinity(2) fails.
    pub fn current() -> Option<Self> {
        let allowed = sched_getaffinity(None).ok()?;
        Some(Self { allowed, process: getpid(), overridden: AtomicBool::new(false) })
    }

    /// The CPUs that the process was given.
    pub fn allowed(&self) -> &CpuSet {
        &self.allowed
    }

    /// The CPUs that the process was given without `cpu`.
    pub fn all_but(&self, cpu: Option<usize>) -> CpuSet {
        let mut others = self.allowed;
        cpu.into_iter().for_each(|cpu| others.unset(cpu));
        others
    }

    /// Whether another process has set the affinity since.
    pub fn is_overridden(&self) -> bool {
        self.overridden.load(Ordering::Relaxed)
    }

    /// Changes this thread's affinity from `runs_on` to `to`, a part of the allowed CPUs, unless another
    /// process has changed the affinity of the thread or of the process. Not for the process's first
    /// thread.
    pub fn change(&self, runs_on: &mut CpuSet, to: &CpuSet) {
        if runs_on == to {
            return;
        }
        if !sched_getaffinity(None).is_ok_and(|now| now == *runs_on) {
            return self.mark_overridden();
        }
        // The affinity of the process holds for its threads, and may be set between the two reads.
        let of_process = || sched_getaffinity(Some(self.process)).unwrap_or(self.allowed);
        let before = of_process();
        *runs_on = if before == self.allowed { *to } else { before };
        // A failure makes requests slower, and does no harm.
        let _ = sched_setaffinity(None, runs_on);
        let after = of_process();
        if after != before {
            let _ = sched_setaffinity(None, &after);
            *runs_on = after;
        }
        if after != self.allowed {
            self.mark_overridden();
        }
    }

    fn mark_overridden(&self) {
        self.overridden.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getcpu;

    use super::*;

    #[test]
    fn an_affinity_that_another_process_sets_stays() {
        let Some(affinity) = Affinity::current().filter(|current| current.allowed.count() > 1)
        else {
            return;
        };
        let mut other = affinity.allowed;
        other.unset(sched_getcpu());
        let run = || {
            let mut runs_on = affinity.allowed;
            affinity.change(&mut runs_on, &other);
            assert!(runs_on == other && !affinity.is_overridden());
            assert_eq!(sched_getaffinity(None).unwrap(), other);
            affinity.change(&mut runs_on, affinity.allowed());
            assert_eq!(sched_getaffinity(None).unwrap(), affinity.allowed);
            let mut one = CpuSet::new();
            one.set(sched_getcpu());
            sched_setaffinity(None, &one).unwrap();
            affinity.change(&mut runs_on, &other);
            assert!(affinity.is_overridden());
            assert_eq!(sched_getaffinity(None).unwrap(), one);
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap());
    }
}
