//! A sealed file: plaintext by byte range over a backing file of blocks.
//!
//! | file | what it does |
//! |---|---|
//! | `state` | the state of an open file, as a table of states and events |
//! | `header`, `permitted` | a header on the disk; what a crash may leave of the file by it |
//! | `file` | [`SealedFile`], its locks, its syncs |
//! | `load` | reads and authenticates the header |
//! | `blocks` | reads and writes single blocks |
//! | `commit` | writes the header |
//! | `first_key` | gives an empty file its key and its header |
//! | `recovery` | every rule about what a crash leaves |
//! | `read`, `write`, `resize`, `holes`, `narrow`, `rewrap` | the operations |

mod blocks;
mod commit;
mod file;
mod first_key;
mod header;
mod holes;
mod length;
mod load;
mod narrow;
mod permitted;
mod read;
mod recovery;
mod resize;
mod rewrap;
mod state;
mod tracked;
mod write;

pub use file::SealedFile;
pub use length::plain_len;
pub use recovery::Recovered;
pub use rewrap::Rewrapped;
