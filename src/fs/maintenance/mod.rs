//! Work on all files of the vault, and what runs beside the requests.

pub mod reaper;
pub mod recover;
pub mod references;
pub mod rewrap;
pub mod rewrap_runs;
pub mod tally;
pub mod verify;
pub mod visit;
pub mod walk;
