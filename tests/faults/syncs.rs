//! A sync that the daemon needs for other work uses up the kernel's only report of a lost write.

use std::fs::{self, File};

use crate::calls::{LIMIT, mount};
use crate::common::files::errno;
use crate::common::injector::{Fault, Injector, Plan};
use crate::common::mounted::is_mounted;
use crate::common::{Vault, pattern, require_root, wait_until};

#[test]
fn a_failed_sync_within_a_cut_is_told_to_each_descriptor() {
    require_root();
    let vault = Vault::init();
    let before = vault.mount(&[]);
    for number in 0..CALLS {
        fs::write(before.join(number.to_string()), pattern(0, 9000)).unwrap();
    }
    before.unmount();
    let injector = Injector::new(vault.scratch().path());
    let mut mount = mount(&vault, &injector, false);
    let open =
        |number: usize| File::options().write(true).open(mount.join(number.to_string())).unwrap();
    // One file for each call of a cut, until the one that fails is the sync.
    let (file, other) = (0..CALLS)
        .map(|after| (after, open(after), open(after)))
        .find_map(|(after, file, other)| {
            injector.arm(Plan { fault: Fault::Error(libc::EIO), after, times: 1 });
            let cut = other.set_len(5000);
            let failed = injector.heal().1;
            let is_sync = failed.iter().any(|call| call.contains("fdatasync"));
            is_sync.then(|| assert_eq!(errno(cut), libc::EIO)).map(|()| (file, other))
        })
        .expect("a cut that syncs");
    for file in [&file, &other] {
        assert_eq!(errno(file.sync_all()), libc::EIO);
        file.sync_all().unwrap();
    }
    drop((file, other));
    let outcome = mount.try_unmount();
    assert!(!outcome.success(), "a clean end: {outcome}");
    let path = mount.path().to_owned();
    wait_until(LIMIT, || (!is_mounted(&path)).then_some(())).expect("unmounted");
    mount.forget();
}

/// More than a cut has.
const CALLS: usize = 20;
