//! What a fuzzer does with bytes of this layer.

use super::ops::open_files::change_times::ChangeTimes;

/// `ctimes`, which is not authenticated.
pub fn change_times(bytes: &[u8]) -> bool {
    let times = ChangeTimes::from_bytes(bytes);
    assert_eq!(times.to_bytes(), None);
    bytes.starts_with(b"atctimes")
}
