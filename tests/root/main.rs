//! What several users may expect of one mount: root only, since root alone can become others.

#[path = "../common/mod.rs"]
mod common;
