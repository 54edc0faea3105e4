//! After the daemon's death the next mount recovers all files, and then nothing is excused.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::common::{Allow, Mounted, pattern};

each_cache!(a_mount_after_a_crash_recovers_all_files);

fn a_mount_after_a_crash_recovers_all_files(mut mount: Mounted) {
    let content = pattern(0, 30_000);
    fs::create_dir(mount.join("dir")).unwrap();
    for name in ["dir/written", "synced"] {
        fs::write(mount.join(name), &content).unwrap();
        File::open(mount.join(name)).unwrap().sync_all().unwrap();
    }
    let times = |mount: &Mounted| {
        let stat = fs::metadata(mount.join("synced")).unwrap();
        (stat.mtime(), stat.mtime_nsec())
    };
    let before = times(&mount);
    mount.kill9();
    let vault = mount.vault().clone();
    let record = || fs::read_to_string(vault.path().join(".atrest/state.json")).unwrap();
    let mount = mount.remount(&[]);
    assert!(record().contains(r#""crashed":[[1,1]]"#), "{}", record());
    assert_eq!(times(&mount), before);
    let mount = mount.remount(&[]);
    assert!(record().contains(r#""crashed":[]"#), "{}", record());
    assert_eq!(times(&mount), before);
    for name in ["dir/written", "synced"] {
        assert!(fs::read(mount.join(name)).unwrap() == content, "{name}");
    }
    mount.unmount();
    // What an append in a crashed mount would have left is now somebody's doing.
    let sealed = File::options().write(true).open(vault.path().join("dir/written")).unwrap();
    sealed.set_len(sealed.metadata().unwrap().len() + 2 * 4096).unwrap();
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Errors);
    let refused = fs::read(mount.join("dir/written")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    assert!(vault.run(&["verify"]).fails().stdout.contains("was extended"));
}
