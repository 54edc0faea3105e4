//! The capabilities that this thread has and uses (capabilities(7)).

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Lets a thread pass quotas and use a filesystem's reserved blocks, which writes for other users must not.
const PASSES_LIMITS: CapabilitySet = CapabilitySet::SYS_RESOURCE;

/// Gives up all but `kept`, for good, and lets programs inherit none.
///
/// # Errors
/// Those of capset(2).
pub(super) fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    let sets = capabilities(None)?;
    let (permitted, effective) = (sets.permitted & kept, sets.effective & kept);
    let inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?)
}

/// From now on this thread, and each that it starts, is bound by quotas as users are.
pub fn obey_limits() {
    set(false);
}

/// Runs `work` without quotas, where the daemon has the capability.
pub fn beyond_limits<T>(work: impl FnOnce() -> T) -> T {
    let raised = set(true);
    let done = work();
    if raised {
        set(false);
    }
    done
}

/// Sets whether the capability is in effect. Returns whether that is so now.
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
