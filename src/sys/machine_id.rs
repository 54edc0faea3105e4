//! The machine's id (machine-id(5)).

use rustix::fs::CWD;

use super::regular::{Links, read_regular};

/// Bytes at most: an id and white space.
const MAX_LEN: u64 = 256;

/// The id in `/etc/machine-id`; `None` where there is none, or it is not made yet, as in the image of a
/// container or of a first boot.
pub fn machine_id() -> Option<String> {
    let text = read_regular(CWD, "/etc/machine-id", Links::Follow, MAX_LEN).ok()?;
    named(&text)
}

fn named(text: &[u8]) -> Option<String> {
    match std::str::from_utf8(text).ok()?.trim() {
        "" | "uninitialized" => None,
        id => Some(id.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_an_id_has_none() {
        for none in ["", " \n", "uninitialized\n"] {
            assert_eq!(named(none.as_bytes()), None);
        }
        assert_eq!(named(b"\xff"), None);
        assert_eq!(named(b" 3d12\n").as_deref(), Some("3d12"));
    }
}
