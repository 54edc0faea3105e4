//! A vault and what lies around it, as somebody leaves them who wants harm: every command ends, with
//! success or in a sentence, and nothing outside the vault changes. Root only.

#[path = "../common/mod.rs"]
mod common;

mod confined;
mod control;
mod locks;
mod names;
mod odd_files;

use common::User;

/// One whom /etc/passwd knows, since fusermount3 asks for the name.
fn nobody() -> User {
    User { uid: 65_534, gid: 65_534, groups: vec![65_534] }
}
