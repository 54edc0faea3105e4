//! What each operation does in each state, and what the key list shows of it.

use crate::crypto::Secret;
use crate::format::KeyVersion;
use crate::keys::tests::*;

const SUBJECT: [u8; 16] = [3; 16];
const DAY: i64 = 24 * 60 * 60;

fn after(days: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + days * DAY).unwrap()
}

#[test]
fn a_key_that_is_not_enabled_does_nothing_and_what_it_wrapped_comes_back_with_it() {
    let mut ring = KeyRing::create(VaultId::random());
    let key = Secret::random();
    let (id, version, wrap) = ring.wrap(DEFAULT_KEY, &SUBJECT, &key).unwrap();
    let mut expect = |change: &dyn Fn(&mut KeyRing), refused: Option<fn(&KeyError) -> bool>| {
        change(&mut ring);
        let unwrapped = ring.unwrap(&id, version, &SUBJECT, &wrap);
        let wrapped = ring.wrap_by_id(&id, &SUBJECT, &key);
        match refused {
            None => {
                assert_eq!(unwrapped.unwrap().expose(), key.expose());
                assert!(wrapped.is_ok());
            }
            Some(kind) => {
                assert!(kind(&unwrapped.unwrap_err()));
                assert!(kind(&wrapped.unwrap_err()));
                assert!(kind(&ring.clone().rotate(DEFAULT_KEY).unwrap_err()));
                assert!(kind(&ring.clone().make_default(DEFAULT_KEY).unwrap_err()));
                assert!(ring.rotation_due(Timestamp::MAX).is_empty());
            }
        }
    };
    let disabled: fn(&KeyError) -> bool = |e| matches!(e, KeyError::Ring(RingError::Disabled(_)));
    let pending: fn(&KeyError) -> bool =
        |e| matches!(e, KeyError::Ring(RingError::PendingDeletion { .. }));
    let destroyed: fn(&KeyError) -> bool = |e| matches!(e, KeyError::Ring(RingError::Destroyed(_)));
    expect(&|_| (), None);
    expect(&|ring| ring.disable(DEFAULT_KEY).unwrap(), Some(disabled));
    expect(&|ring| ring.disable(DEFAULT_KEY).unwrap(), Some(disabled));
    expect(&|ring| ring.enable(DEFAULT_KEY).unwrap(), None);
    expect(&|ring| assert!(ring.schedule_deletion(DEFAULT_KEY, 7).is_ok()), Some(pending));
    expect(&|ring| assert!(ring.enable(DEFAULT_KEY).is_err()), Some(pending));
    expect(&|ring| assert!(ring.disable(DEFAULT_KEY).is_err()), Some(pending));
    expect(&|ring| assert!(ring.schedule_deletion(DEFAULT_KEY, 30).is_err()), Some(pending));
    expect(&|ring| assert!(ring.destroy(DEFAULT_KEY, after(6)).is_err()), Some(pending));
    expect(&|ring| ring.cancel_deletion(DEFAULT_KEY).unwrap(), Some(disabled));
    expect(&|ring| assert!(ring.cancel_deletion(DEFAULT_KEY).is_err()), Some(disabled));
    expect(&|ring| ring.enable(DEFAULT_KEY).unwrap(), None);
    expect(&|ring| assert!(ring.destroy(DEFAULT_KEY, after(9999)).is_err()), None);
    expect(&|ring| assert!(ring.schedule_deletion(DEFAULT_KEY, 30).is_ok()), Some(pending));
    expect(&|ring| ring.destroy(DEFAULT_KEY, after(31)).unwrap(), Some(destroyed));
    expect(&|ring| assert!(ring.enable(DEFAULT_KEY).is_err()), Some(destroyed));
    expect(&|ring| assert!(ring.cancel_deletion(DEFAULT_KEY).is_err()), Some(destroyed));
}

#[test]
fn the_waiting_period_is_7_to_30_days() {
    let mut ring = KeyRing::create(VaultId::random());
    for days in [0, 6, 31, u32::MAX] {
        let refused = ring.schedule_deletion(DEFAULT_KEY, days);
        assert!(
            matches!(refused, Err(KeyError::Ring(RingError::BadWaitingPeriod(found))) if found == days)
        );
    }
    let until = ring.schedule_deletion(DEFAULT_KEY, 30).unwrap();
    assert!((until.as_second() - after(30).as_second()).abs() <= 1);
    let early = ring.destroy(DEFAULT_KEY, after(29));
    assert!(matches!(early, Err(KeyError::Ring(RingError::TooEarly { .. }))));
    ring.destroy(DEFAULT_KEY, after(31)).unwrap();
}

#[test]
fn a_retired_version_is_gone_and_the_current_one_stays() {
    let mut ring = KeyRing::create(VaultId::random());
    let key = Secret::random();
    let (id, first, wrap) = ring.wrap(DEFAULT_KEY, &SUBJECT, &key).unwrap();
    let refused = ring.retire(DEFAULT_KEY, first);
    assert!(matches!(refused, Err(KeyError::Ring(RingError::CurrentVersion { .. }))));
    let second = ring.rotate(DEFAULT_KEY).unwrap();
    assert!(matches!(
        ring.retire(DEFAULT_KEY, second),
        Err(KeyError::Ring(RingError::CurrentVersion { .. }))
    ));
    let unknown = ring.retire(DEFAULT_KEY, KeyVersion(3));
    assert!(matches!(unknown, Err(KeyError::Ring(RingError::NoSuchVersion { .. }))));
    assert!(ring.unwrap(&id, first, &SUBJECT, &wrap).is_ok());

    ring.retire(DEFAULT_KEY, first).unwrap();
    let unwrapped = ring.unwrap(&id, first, &SUBJECT, &wrap);
    assert!(matches!(unwrapped, Err(KeyError::Ring(RingError::VersionRetired { .. }))));
    assert!(matches!(
        ring.retire(DEFAULT_KEY, first),
        Err(KeyError::Ring(RingError::VersionRetired { .. }))
    ));
    assert!(ring.wrap(DEFAULT_KEY, &SUBJECT, &key).is_ok());
}

#[test]
fn a_key_is_due_when_its_current_version_is_older_than_its_period() {
    let mut ring = KeyRing::create(VaultId::random());
    let due = |ring: &KeyRing, days| ring.rotation_due(after(days)).len();
    assert_eq!((due(&ring, 364), due(&ring, 366)), (0, 1));
    ring.set_rotation(DEFAULT_KEY, 30).unwrap();
    assert_eq!((due(&ring, 29), due(&ring, 31)), (0, 1));
    ring.set_rotation(DEFAULT_KEY, 0).unwrap();
    assert_eq!(due(&ring, 999_999), 0);
    ring.set_rotation(DEFAULT_KEY, u32::MAX).unwrap();
    assert_eq!(due(&ring, 999_999), 0);
}

#[test]
fn the_description_shows_all_but_the_material() {
    let mut ring = KeyRing::create(VaultId::random());
    ring.rotate(DEFAULT_KEY).unwrap();
    ring.retire(DEFAULT_KEY, KeyVersion(1)).unwrap();
    ring.rotate(DEFAULT_KEY).unwrap();
    let until = ring.schedule_deletion(DEFAULT_KEY, 10).unwrap();
    ring.create_key("photos").unwrap();
    let json = serde_json::to_value(ring.describe()).unwrap();
    assert_eq!(json[0]["name"], "default");
    assert_eq!(json[0]["id"], ring.default_key().id().to_string());
    assert_eq!(json[0]["kind"], "local");
    assert_eq!(json[0]["default"], true);
    assert_eq!(json[0]["state"], "pending-deletion");
    assert_eq!(json[0]["deletion_date"], until.to_string());
    assert_eq!(json[0]["current_version"], 3);
    assert_eq!(json[0]["rotate_every_days"], 365);
    assert_eq!(json[0]["next_rotation"], serde_json::Value::Null);
    let states: Vec<_> = json[0]["versions"].as_array().unwrap().iter().collect();
    assert_eq!(states.len(), 3);
    assert_eq!(states[0]["state"], "retired");
    assert_eq!(states[1]["state"], "enabled");
    assert_eq!(states[2]["state"], "current");
    assert!(states[2]["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(json[1]["default"], false);
    assert!(json[1]["next_rotation"].is_string());
    assert_eq!(format!("{ring:?}").matches("[secret]").count(), 4);
}
