//! The model of what a crash may leave is itself tried.

use crate::common::promises::{Change, Promise};

#[test]
fn a_promise_tells_a_loss() {
    let mut promise = Promise::of(vec![1; 10]);
    promise.begin(Change::Write(5, vec![2; 10]));
    for found in
        [vec![1; 10], [vec![1; 5], vec![2; 10]].concat(), [vec![1; 10], vec![0; 5]].concat()]
    {
        assert_eq!(promise.check(&found), Ok(()));
    }
    assert!(promise.check(&[1; 9]).is_err());
    assert!(promise.check(&[vec![0], vec![1; 9]].concat()).is_err());
    promise.keep();
    assert!(promise.check(&[1; 10]).is_err());
    assert_eq!(promise.check(&[vec![1; 5], vec![2; 10]].concat()), Ok(()));
    promise.begin(Change::Truncate(3));
    assert_eq!(promise.check(&[1; 3]), Ok(()));
    promise.begin(Change::Replace(vec![7; 40]));
    assert_eq!(promise.check(&[7; 40]), Ok(()));
    assert!(promise.check(&[7; 39]).is_err());
}
