//! Phrases that several messages share.

use crate::keys::policy::{Effect, Grant, Principal};
use crate::service::principals;
use crate::sys::Show;

/// So many of something.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A grant in the words of the command line.
pub fn grant_words(grant: &Grant) -> String {
    let whom = match grant.principal {
        Principal::User(uid) => format!("--user {}", principals::user_name(uid)),
        Principal::Group(gid) => format!("--group {}", principals::group_name(gid)),
        Principal::Everyone => "--everyone".to_owned(),
    };
    let effect = match grant.effect {
        Effect::Allow => "--allow",
        Effect::Deny => "--deny",
    };
    let until = grant.until.map_or_else(String::new, |until| format!(" --until {until}"));
    let under = grant
        .under
        .as_ref()
        .map_or_else(String::new, |under| format!(" --under {}", under.shown()));
    format!("{whom} {effect} {}{until}{under}", grant.actions)
}
