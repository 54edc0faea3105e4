//! What a fuzzer does with bytes of this layer.

use crate::daemon::options::Options;
use crate::service::request::Request;
/// A line that a client sends to the daemon.
pub fn control_request(bytes: &[u8]) -> bool {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return false };
    let allowed = request.check().is_ok();
    let written = serde_json::to_vec(&request).expect("a request is JSON");
    let again: Request = serde_json::from_slice(&written).expect("what was written parses");
    assert_eq!(again, request);
    assert_eq!(again.check().is_ok(), allowed);
    true
}

/// A list of `-o`: applied twice it says what it says once.
pub fn mount_options(bytes: &[u8]) -> bool {
    let Ok(list) = str::from_utf8(bytes) else { return false };
    let mut options = Options::default();
    if options.apply(list).is_err() {
        return false;
    }
    let once = options.clone();
    options.apply(list).expect("it was applied before");
    assert_eq!(options, once);
    true
}
