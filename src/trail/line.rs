//! A line of the trail: an event as JSON, in CloudTrail's field names.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::event::{Event, EventName, Purpose};
use crate::crypto::random;

/// What `resources` says of a master key's type.
const KEY_TYPE: &str = "atrest::MasterKey";

/// A line without its `chain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line<'a> {
    /// Its number in the trail, from 1.
    pub sequence: u64,
    /// The time of the event.
    pub event_time: Timestamp,
    /// The kind of event.
    pub event_name: EventName,
    /// The user and process.
    #[serde(borrow)]
    pub user_identity: Identity<'a>,
    /// The parameters.
    #[serde(borrow)]
    pub request_parameters: Request<'a>,
    /// The master keys that were used.
    #[serde(borrow, skip_serializing_if = "Vec::is_empty", default)]
    pub resources: Vec<Resource<'a>>,
    /// The version of the master key.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub additional_event_data: Option<Additional<'a>>,
    /// The code of a refusal or failure; absent after success.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub error_code: Option<Cow<'a, str>>,
    /// The message of a refusal or failure.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub error_message: Option<Cow<'a, str>>,
    /// Whether nothing could be changed by it.
    pub read_only: bool,
    /// A random id.
    #[serde(rename = "requestID")]
    pub request_id: Uuid,
}

/// The user and process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity<'a> {
    /// Their user.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// Their process.
    pub pid: u32,
    /// The program.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<Cow<'a, str>>,
}

/// The parameters of the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// What the wrap of the file's key is bound to.
    #[serde(borrow)]
    pub encryption_context: Context<'a>,
    /// The file's path in the mount.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub path: Option<Cow<'a, str>>,
    /// The operation.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<Cow<'a, str>>,
    /// What a file was opened for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub access: Option<Purpose>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
}

/// What the wrap of a file's key is bound to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context<'a> {
    /// The vault's id.
    #[serde(borrow)]
    pub volume_id: Cow<'a, str>,
    /// The file's id, in hexadecimal.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub file_id: Option<Cow<'a, str>>,
}

/// A master key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resource<'a> {
    /// Always a master key.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Its id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Its name at the time.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
}

/// Additional fields.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Additional<'a> {
    /// The master key's id and the number of its version.
    #[serde(borrow)]
    pub key_material_id: Cow<'a, str>,
}

impl Line<'_> {
    /// The line of an event at `time` in the vault `volume`. [`super::chain::Chain::append`] numbers it.
    pub(super) fn of<'a>(event: &'a Event, time: Timestamp, volume: &'a str) -> Line<'a> {
        let Event { subject, key, file, parameters, failed, .. } = event;
        let version =
            |key: &super::UsedKey| key.version.map(|version| format!("{}/{version}", key.id));
        Line {
            sequence: 0,
            event_time: time,
            event_name: event.name,
            user_identity: Identity {
                uid: subject.uid,
                gid: subject.gid,
                pid: subject.pid,
                executable: subject.executable.as_deref().map(Cow::Borrowed),
            },
            request_parameters: Request {
                encryption_context: Context {
                    volume_id: volume.into(),
                    file_id: file.map(|file| file.to_string().into()),
                },
                path: parameters.path.as_deref().map(Cow::Borrowed),
                operation: parameters.operation.map(Cow::Borrowed),
                access: parameters.purpose,
                details: parameters.details.clone(),
            },
            resources: key
                .iter()
                .map(|key| Resource {
                    kind: KEY_TYPE.into(),
                    id: key.id.to_string().into(),
                    name: key.name.as_str().into(),
                })
                .collect(),
            additional_event_data: key
                .as_ref()
                .and_then(version)
                .map(|id| Additional { key_material_id: id.into() }),
            error_code: failed.as_ref().map(|failed| failed.code.into()),
            error_message: failed.as_ref().map(|failed| failed.message.as_str().into()),
            read_only: event.read_only,
            request_id: uuid::Builder::from_random_bytes(random::request_id()).into_uuid(),
        }
    }
}
