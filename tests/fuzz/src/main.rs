//! Feeds libFuzzer's inputs to one parser of atrest: the one that `ATREST_FUZZ` names.
#![no_main]

use std::env;
use std::sync::OnceLock;

use atrest::fuzzing::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = env::var("ATREST_FUZZ").unwrap_or_default();
        let target = atrest::fuzzing::target(&name);
        TARGET.get_or_init(|| target.expect("ATREST_FUZZ names no target"));
    },
    |data: &[u8]| {
        TARGET.get().expect("it was found at the start")(data);
    }
);
