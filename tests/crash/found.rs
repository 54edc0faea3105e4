//! Sequences that once failed, as short as they got.

use super::scenario::{Before, Scenario};
use crate::common_store::Op::{self, *};

fn check(before: Before, base: &[Op], ops: &[Op]) {
    Scenario { before, base: base.to_vec(), ops: ops.to_vec() }.holds();
}

#[test]
fn a_block_longer_than_the_file_is_not_vouched_for_by_the_next_mount() {
    // The append's block is on the disk, its size is not; a later mount writes elsewhere in the
    // file and ends cleanly, and the mount after that makes the file longer.
    check(Before::Same, &[Write { at: 0, len: 9000 }], &[Write { at: 9000, len: 600 }]);
}

#[test]
fn a_header_of_this_mount_that_is_not_durable_does_not_allow_a_cut() {
    let ops = [Write { at: 0, len: 12_000 }, Truncate(5000)];
    check(Before::Clean, &[Write { at: 0, len: 9000 }], &ops);
}

#[test]
fn a_header_of_this_mount_that_is_not_durable_does_not_allow_a_hole() {
    let ops = [Write { at: 0, len: 12_000 }, Punch { at: 3808, len: 4064 }];
    check(Before::Clean, &[Write { at: 0, len: 9000 }], &ops);
}

#[test]
fn a_header_committed_at_release_is_not_yet_durable() {
    let ops = [Write { at: 9000, len: 10 }, Reopen, Truncate(5000)];
    check(Before::Clean, &[Write { at: 0, len: 9000 }], &ops);
}

#[test]
fn a_cut_in_the_middle_of_a_shrink_does_not_show_a_block_that_holds_less_than_the_file() {
    let base = [Write { at: 0, len: 100 }, Truncate(9000)];
    check(Before::Same, &base, &[Truncate(3000)]);
}

#[test]
fn a_shrink_within_a_last_block_that_holds_little_goes_through_no_other_length() {
    let base = [Write { at: 0, len: 100 }, Truncate(3000)];
    check(Before::Same, &base, &[Truncate(2000)]);
}

#[test]
fn a_shrink_within_a_hole_goes_through_no_other_length() {
    let base = [Write { at: 0, len: 100 }, Truncate(5000)];
    check(Before::Same, &base, &[Truncate(4500)]);
}

#[test]
fn a_block_past_the_size_does_not_come_back_when_the_file_grows_over_it() {
    // The new last block is on the disk before the size that it belongs to: part of it lies
    // where the file's length is kept.
    check(Before::Same, &[Write { at: 0, len: 100 }], &[Write { at: 3808, len: 4000 }]);
}

#[test]
fn space_allocated_for_a_file_that_lost_its_header_holds_nothing_of_its_former_life() {
    check(Before::Same, &[], &[Write { at: 0, len: 12_000 }]);
}

#[test]
fn a_cut_in_the_middle_of_a_shrink_finds_the_length_whatever_reached_its_last_block() {
    let base = [Write { at: 0, len: 100 }, Truncate(9000)];
    check(Before::Crashed, &base, &[Write { at: 3000, len: 2000 }, Truncate(3808)]);
}
