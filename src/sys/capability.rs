//! The capability that lets root pass quotas and take a filesystem's reserved blocks.

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// What passes them (capabilities(7)): not for the daemon to use when it writes for somebody else.
const PASSES_LIMITS: CapabilitySet = CapabilitySet::SYS_RESOURCE;

/// From now on this thread, and each that it starts, is bound by quotas as users are.
pub fn obey_limits() {
    set(false);
}

/// Does `work` as one whom quotas do not bind, where the daemon may.
pub fn beyond_limits<T>(work: impl FnOnce() -> T) -> T {
    let raised = set(true);
    let done = work();
    if raised {
        set(false);
    }
    done
}

/// Whether this thread has the capability now, if it was to have it, or lacks it.
fn set(effective: bool) -> bool {
    let Ok(mut sets) = capabilities(None) else { return false };
    if !sets.permitted.contains(PASSES_LIMITS) {
        return false;
    }
    sets.effective.set(PASSES_LIMITS, effective);
    set_capabilities(None, sets).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_bind_this_thread_but_for_the_work_that_they_must_not() {
        let has = || capabilities(None).unwrap().effective.contains(PASSES_LIMITS);
        if !has() {
            return;
        }
        // In a thread, whose capabilities are its own.
        std::thread::spawn(move || {
            obey_limits();
            assert!(!has());
            assert!(beyond_limits(has));
            assert!(!has());
        })
        .join()
        .unwrap();
    }
}
