//! Sealed files without a mount: against a plain model, under failing disks, and under an
//! attacker's hands.

#[path = "../common/store/mod.rs"]
mod common_store;

mod bench_file;
mod concurrent_faults;
mod every_call;
mod extents;
mod failed_syncs;
mod faults;
mod found;
mod model;
mod recovered;
mod rewrap;
mod seek;
mod tamper;
mod two_writers;
mod write_back;
