//! Operations on what is beside the content.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rand::RngExt;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, setxattr, utimensat};

use super::TreeModel;

impl TreeModel {
    pub(super) fn chmod(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let modes = [0o600, 0o644, 0o755, 0o666, 0o711];
        let mode = modes[self.random.random_range(0..modes.len())];
        fs::set_permissions(self.root.join(path), PermissionsExt::from_mode(mode)).unwrap();
        self.files[id].mode = mode;
    }

    pub(super) fn note(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let length = self.random.random_range(0..300);
        let bytes = self.some_bytes(length);
        setxattr(self.root.join(path), "user.note", &bytes, XattrFlags::empty()).unwrap();
        self.files[id].note = Some(bytes);
    }

    pub(super) fn set_mtime(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let time = (
            self.random.random_range(0..4_000_000_000),
            self.random.random_range(0..1_000_000_000),
        );
        let spec = Timespec { tv_sec: time.0, tv_nsec: time.1 };
        let times = Timestamps { last_access: spec, last_modification: spec };
        utimensat(CWD, self.root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        self.files[id].mtime = Some(time);
    }
}
