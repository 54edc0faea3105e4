//! Finding that the directories above an inode form a cycle.

use crate::fs::Inode;

/// Ends a walk from an inode upwards that has entered a cycle. Directories that are moved in the
/// vault, behind the daemon's back, can close one.
#[derive(Debug, Default)]
pub struct CycleDetector {
    steps: usize,
    mark: Option<Inode>,
}

impl CycleDetector {
    /// Whether the walk is back at an earlier inode. A cycle is found within three times as many
    /// steps as there are up to and around it (Brent 1980; Knuth, TAOCP 2, exercise 3.1-7).
    pub fn is_cycle(&mut self, at: Inode) -> bool {
        let is_cycle = self.mark == Some(at);
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = Some(at);
        }
        is_cycle
    }
}
