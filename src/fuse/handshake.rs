//! The capabilities and limits that a session negotiates with the kernel.

use fuser::{InitFlags, KernelConfig};

/// Bytes of the largest request.
const MAX_REQUEST: u32 = 1024 * 1024;
/// Background requests of the kernel at once: write-back and read-ahead. Fewer than the session's threads,
/// so that a slow disk leaves some for the others.
pub(super) const MAX_BACKGROUND: u16 = 8;

/// Adds each capability by itself, since `fuser` refuses a set of which the kernel lacks one.
///
/// FUSE_ASYNC_DIO is not among them: with it the kernel drops the pages that a direct write makes stale
/// only before the write, and keeps one that is read meanwhile.
pub(super) fn negotiate(config: &mut KernelConfig, writeback: bool) {
    let mut capabilities = vec![
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    ];
    if writeback {
        capabilities.push(InitFlags::FUSE_WRITEBACK_CACHE);
    }
    for capability in capabilities {
        if config.add_capabilities(capability).is_err() {
            log::info!("the kernel does not offer {capability:?}: slower, not wrong");
        }
    }
    // Each of these returns the nearest value that is allowed, which is then in force.
    let _ = config.set_max_write(MAX_REQUEST);
    let _ = config.set_max_readahead(MAX_REQUEST).map_err(|most| config.set_max_readahead(most));
    let _ = config.set_max_background(MAX_BACKGROUND);
    // Above this threshold the kernel stops reading ahead.
    let _ = config.set_congestion_threshold(MAX_BACKGROUND);
}
