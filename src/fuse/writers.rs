//! The files of which the kernel's cache may have dirty pages.

use dashmap::DashMap;

use crate::fs::Inode;

/// How often each file is open for writing. The kernel writes dirty pages back before it releases an open
/// file, and a shared mapping counts as one: a file that is not open for writing has no dirty pages.
#[derive(Debug, Default)]
pub(super) struct Writers(DashMap<Inode, u32>);

impl Writers {
    /// Counts an open file, if it is open for writing.
    pub(super) fn opened(&self, inode: Inode, for_writing: bool) {
        if for_writing {
            *self.0.entry(inode).or_default() += 1;
        }
    }

    /// Uncounts an open file, if it was open for writing.
    pub(super) fn released(&self, inode: Inode, for_writing: bool) {
        if for_writing {
            self.0.remove_if_mut(&inode, |_, times| {
                *times = times.saturating_sub(1);
                *times == 0
            });
        }
    }

    /// Whether the file is open for writing more than once.
    pub(super) fn are_several(&self, inode: Inode) -> bool {
        self.0.get(&inode).is_some_and(|times| *times > 1)
    }

    /// Whether the kernel may have dirty pages of the file.
    pub(super) fn has(&self, inode: Inode) -> bool {
        self.0.contains_key(&inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_writers_until_the_last_one_is_released() {
        let (writers, inode) = (Writers::default(), Inode(7));
        writers.opened(inode, false);
        assert!(!writers.has(inode));
        writers.opened(inode, true);
        writers.opened(inode, true);
        writers.released(inode, false);
        writers.released(inode, true);
        assert!(writers.has(inode));
        writers.released(inode, true);
        assert!(!writers.has(inode) && writers.0.is_empty());
    }
}
