//! What every test that runs the binary shares: places that clean up after themselves, a vault
//! made by the command line, and a mount that is gone when the test ends, however it ends.
//!
//! ```ignore
//! let vault = Vault::init();
//! let mount = vault.mount(&["--no-writeback"]);
//! fs::write(mount.join("a"), b"hello").unwrap();
//! let mount = mount.remount(&[]);
//! assert_eq!(fs::read(mount.join("a")).unwrap(), b"hello");
//! ```
//!
//! A line of WARN or ERROR in the daemon's log fails the test that mounted it, unless the test
//! said that it expects one ([`Mounted::expect_line`]) or why any will do ([`Mounted::allow`]).
//!
//! Environment: `ATREST_TEST_DISK` and `ATREST_TEST_TMPFS` name the places where scratch
//! directories go (`/var/tmp`, `/dev/shm`); `ATREST_TEST_BACKING=tmpfs` makes the second the
//! default; `ATREST_CAMPAIGN=full` runs the long form of the campaigns; `ATREST_TEST_BARE=1` puts a
//! bare directory where the mount would be, which shows that a test asks for no more than the
//! filesystem below gives.

// Each test target includes the whole of this module and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod bytes;
pub mod campaign;
pub mod clock;
pub mod cluster;
pub mod files;
pub mod injector;
pub mod mapping;
pub mod mounted;
pub mod process;
pub mod promises;
pub mod scratch;
pub mod twin;
pub mod users;
pub mod vault;

pub use bytes::{pattern, random_bytes, rng};
pub use campaign::Campaign;
pub use files::write_secret;
pub use mapping::Mapping;
pub use mounted::{Allow, Mounted};
pub use process::{Outcome, require, run, run_within, wait_until};
pub use scratch::{Backing, Scratch};
pub use twin::Twin;
pub use users::{User, require_root};
pub use vault::Vault;
