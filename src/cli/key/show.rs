//! Master keys as text.

use std::fmt::Write;

use serde_json::json;

use crate::keys::KeyDescription;

/// All of them, a line each and one for each version.
pub fn table(keys: &[KeyDescription]) -> String {
    let mut text = String::new();
    for key in keys {
        let default = if key.default { ", the default" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {}  {}{default}", key.name, key.id, key.state);
        versions(&mut text, key);
    }
    text.truncate(text.trim_end().len());
    text
}

/// One of them with all that is known of it.
pub fn in_full(key: &KeyDescription) -> String {
    let rotation = match (key.rotate_every_days, key.next_rotation) {
        (0, _) => "only when asked for".to_owned(),
        (days, Some(next)) => format!("every {days} days, next {next}"),
        (days, None) => format!("every {days} days, while it is enabled"),
    };
    let default = if key.default { "yes" } else { "no" };
    let mut text = format!(
        "name      {}\nid        {}\nkind      {}\nstate     {}\ndefault   {default}\nrotation  {rotation}\n",
        key.name, key.id, key.kind, key.state
    );
    if let Some(date) = key.deletion_date {
        let _ = writeln!(text, "deletion  after {date}");
    }
    versions(&mut text, key);
    text.truncate(text.trim_end().len());
    text
}

fn versions(text: &mut String, key: &KeyDescription) {
    for version in &key.versions {
        let state = json!(version.state);
        let state = state.as_str().unwrap_or_default();
        let _ = writeln!(text, "  version {:<4} {state:<8} {}", version.version.0, version.created);
    }
}
