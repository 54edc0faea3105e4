//! What `tests/fuzz` feeds with bytes: each parser of what others can write. Besides that it ends, what
//! parses is written and parses again to the same.

use crate::{cli, format, fs, keys, store, sys, trail};

/// A parser that takes any bytes, and says whether they were what it parses.
pub type Target = fn(&[u8]) -> bool;

/// All of them; each has a directory of seeds in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("block", format::fuzzing::block),
    ("change-times", fs::fuzzing::change_times),
    ("control-request", cli::fuzzing::control_request),
    ("description", store::fuzzing::description),
    ("header", format::fuzzing::header),
    ("key-body", keys::fuzzing::key_body),
    ("key-file", keys::fuzzing::key_file),
    ("mount-options", cli::fuzzing::mount_options),
    ("mountinfo", sys::fuzzing::mountinfo),
    ("policy", keys::fuzzing::policy),
    ("record", store::fuzzing::record),
    ("recovery", keys::fuzzing::recovery),
    ("recovery-text", keys::fuzzing::recovery_text),
    ("root-attrs", store::fuzzing::root_attrs),
    ("state", store::fuzzing::state),
    ("trail-line", trail::fuzzing::line),
    ("trail-seal", trail::fuzzing::checkpoint),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_seed_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        let mut names: Vec<_> = std::fs::read_dir(&corpus)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, target) in TARGETS {
            for seed in std::fs::read_dir(corpus.join(name)).unwrap() {
                let path = seed.unwrap().path();
                assert!(target(&std::fs::read(&path).unwrap()), "{path:?}");
            }
        }
    }
}
