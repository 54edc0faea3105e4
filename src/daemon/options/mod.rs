//! The options of a mount: their values, the table of them, and the lists in which fstab has them.

mod list;
mod table;
mod trail;
mod values;

pub use table::{MountOption, OPTIONS, Value};
pub use trail::OnFailure;
pub use values::Options;
