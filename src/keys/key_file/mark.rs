//! The mark of one state of a key file, kept elsewhere to recognize an older or another file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::crypto::{self, Secret};

/// The length of the kept part of a digest, in bytes.
const DIGEST_LEN: usize = 16;

/// The mark of one state of a key file. It reveals nothing about the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFileMark {
    /// How many times the file had been written.
    #[serde(rename = "key_file", default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// A digest of the file's content, in base64.
    #[serde(rename = "key_file_digest", default, skip_serializing_if = "String::is_empty")]
    digest: String,
    /// A digest of the anchor, which stays while any passphrase does, in base64.
    #[serde(rename = "key_file_anchor", default, skip_serializing_if = "String::is_empty")]
    anchor: String,
    /// The number of versions of all keys, retired ones included, which never decreases. 0 in marks
    /// that are older than this field.
    #[serde(rename = "key_file_versions", default, skip_serializing_if = "is_zero")]
    versions: u64,
}

impl KeyFileMark {
    /// The mark of a file with this content, as the program writes it.
    pub(super) fn of(generation: u64, content: &[u8], anchor: &Secret, versions: u64) -> Self {
        let short = |digest: [u8; 32]| STANDARD.encode(&digest[..DIGEST_LEN]);
        Self {
            generation,
            digest: short(crypto::digest(anchor, content)),
            anchor: short(crypto::fingerprint(anchor)),
            versions,
        }
    }

    /// Whether a ring with this number of versions is older than this state.
    pub fn has_more_versions(&self, versions: u64) -> bool {
        versions < self.versions
    }

    /// Whether it has the form of a mark: digests of 16 bytes, in base64.
    pub fn is_sound(&self) -> bool {
        let decodes = |text: &str| STANDARD.decode(text).is_ok_and(|it| it.len() == DIGEST_LEN);
        decodes(&self.digest) && decodes(&self.anchor)
    }

    /// A message where `now` is provably neither this state nor a later one.
    pub fn contradicts(&self, now: &Self) -> Option<String> {
        let differ = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        let (state, seen) = (now.generation, self.generation);
        if state < seen {
            return Some(format!(
                "its key file is of state {state}, and was of state {seen} when last used with it"
            ));
        }
        if state == seen && differ(&self.digest, &now.digest) {
            return Some(format!(
                "its key file is another one of state {state} than was last used with it"
            ));
        }
        if self.has_more_versions(now.versions) {
            return Some(
                "its key file lacks versions that it had when last used with it: it was restored \
                 from an older backup"
                    .to_owned(),
            );
        }
        differ(&self.anchor, &now.anchor).then(|| {
            "its key file was made anew: it has another anchor than the one last used with it"
                .to_owned()
        })
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_state_with_the_same_anchor_is_the_only_one_to_follow() {
        let (anchor, other) = (Secret::random(), Secret::random());
        let mark = KeyFileMark::of(7, b"content", &anchor, 3);
        for later in [mark.clone(), KeyFileMark::of(8, b"more", &anchor, 4)] {
            assert_eq!(mark.contradicts(&later), None);
        }
        let refused = [
            (KeyFileMark::of(6, b"content", &anchor, 3), "is of state 6"),
            (KeyFileMark::of(7, b"more", &anchor, 3), "is another one of state 7"),
            (KeyFileMark::of(8, b"more", &other, 3), "has another anchor"),
            (KeyFileMark::of(8, b"more", &other, 2), "lacks versions"),
        ];
        for (mark_now, what) in refused {
            let told = mark.contradicts(&mark_now).unwrap();
            assert!(told.contains(what), "{told}");
        }
    }
}
