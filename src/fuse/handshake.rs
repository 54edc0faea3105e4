//! What is asked of the kernel when a session begins.

use fuser::{InitFlags, KernelConfig};

/// Bytes of the largest request.
const MAX_REQUEST: u32 = 1024 * 1024;
/// Requests that the kernel may have under way without anybody waiting for them: what it writes
/// back and reads ahead. Fewer than the session has threads, so that a slow disk leaves some.
pub(super) const MAX_BACKGROUND: u16 = 8;

/// Asks for each capability by itself, since a kernel that lacks one refuses all at once.
///
/// Not for FUSE_ASYNC_DIO: with it the kernel drops the pages that a direct write has made stale
/// only before the write, so that one which a reader brings in meanwhile stays.
pub(super) fn negotiate(config: &mut KernelConfig, writeback: bool) {
    let mut wanted = vec![
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    ];
    if writeback {
        wanted.push(InitFlags::FUSE_WRITEBACK_CACHE);
    }
    for capability in wanted {
        if config.add_capabilities(capability).is_err() {
            log::info!("the kernel does not offer {capability:?}: slower, not wrong");
        }
    }
    // Each of these answers with the nearest that is allowed, which is then what holds.
    let _ = config.set_max_write(MAX_REQUEST);
    let _ = config.set_max_readahead(MAX_REQUEST).map_err(|most| config.set_max_readahead(most));
    let _ = config.set_max_background(MAX_BACKGROUND);
    // Reading ahead stops at so many: there are few enough.
    let _ = config.set_congestion_threshold(MAX_BACKGROUND);
}
