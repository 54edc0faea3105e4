//! The threads of a session: which of them read the FUSE device, and which wait until they are needed.
//!
//! `fuser` runs each thread of a session in a loop: read a request from the device, answer it. What is
//! here takes part at two points, [`on_request`](pool::WorkerPool::on_request) and
//! [`on_reply`](pool::WorkerPool::on_reply), and keeps two costs low for a program that makes one request
//! after another:
//!
//! - *Wake-ups between CPUs.* A thread that has answered polls the device for some microseconds before it
//!   sleeps ([`busy_poll`]): the next request is often there by then, and a wake-up takes longer. On two
//!   CPUs it runs on the caller's CPU instead ([`cpu_pairing`]).
//! - *Wake-ups of other threads.* The kernel wakes one reader of the device for each request. So threads
//!   without work stand by here, outside of the device. They are woken when requests wait, and one of
//!   them, the watchdog, steps in when no thread reads the device, so that a reply may depend on another
//!   request's.
//!
//! Requests that wait for a disk are handed on to a [`blocking_pool`].
//!
//! # States of a thread
//!
//! ```text
//!               on_request                on_reply: more readers than needed
//!    reading ──────────────▶ working ─────────────────────────────────────────┐
//!       ▲                       │ on_reply: needed                            ▼
//!       │                       ▼                                        standing by
//!       └─────────────── busy polling ◀─────────────────────────── ┌──────────────────┐
//!                                           pending_wakes > 0      │      parked      │
//!                                                                  │       ▲  │ Wanted│
//!                                                                  │   Off │  ▼       │
//!                                                                  │     watchdog     │
//!                                                                  │       ▲  │ pair- │
//!                                                                  │       │  ▼ ing   │
//!                                                                  │ occupying a CPU  │
//!                                                                  └──────────────────┘
//! ```
//!
//! [`PoolState`](state::PoolState) counts `reading` (with the threads that poll), `busy` (working) and
//! `standing_by`. Two threads are to read the device, so that a request that waits for a disk delays no
//! other, and nothing has to watch for that. In a run of requests (`RUN_THRESHOLD`, and no stall lately)
//! one reads it, and the watchdog checks every `WATCHDOG_INTERVAL` that requests are taken.
//!
//! # Which event wakes which thread
//!
//! | Event | Wakes |
//! |---|---|
//! | on_request: no thread reads the device, and this is no run, or more requests wait than one thread should answer | the watchdog by `watchdog_wake`; without one the thread that was parked last, by its `worker_wake`. It works |
//! | on_request: no thread reads the device, and none is woken to | the thread that was parked last. It becomes the watchdog |
//! | on_request: the caller and the thread that answers are a pair | the watchdog, or else the thread that was parked last. It occupies the other CPU |
//! | on_reply: this thread is on standby, and no thread reads the device | none. This thread becomes the watchdog |
//! | The watchdog's interval ends without a request | none. With two readers the watchdog parks, with fewer it works; with none it also notes a stall |
//! | A thread of the session ends | all |
//!
//! No wake-up gets lost: `pending_wakes` and the watchdog's state change under the lock under which a
//! thread decides to wait, and a standby thread waits only while `pending_wakes` is 0.

pub(super) mod blocking_pool;
pub(super) mod busy_poll;
pub(super) mod cpu_pairing;
pub(super) mod pool;
mod state;
