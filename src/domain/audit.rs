//! Records of operators' acts, which are published to the audit stream. Recipients are masked.

use std::fmt::Display;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operator_reason::masked_id;
use super::time::{UnixMillis, serialize_rfc3339};

/// Longer texts are cut. A request with 100 dead letters has 1,298 characters of ids.
const SUBJECT_CHARS_MAX: usize = 1_300;
const TOKEN_CHARS_MAX: usize = 128;

/// An act of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditAct {
    /// All sending was stopped.
    KillSwitchOn,
    /// Sending was resumed.
    KillSwitchOff,
    /// A recipient was suppressed.
    Suppress,
    /// The suppression of a recipient was removed.
    EndSuppression,
    /// Numbers were denied, whatever the pumping defence holds.
    DefenceDeny,
    /// Numbers were allowed, whatever the pumping defence holds.
    DefenceAllow,
    /// An override of the pumping defence was removed.
    DefenceRemove,
    /// The data of a person is deleted.
    Forget,
    /// Dead letters are replayed.
    ReplayDeadLetters,
    /// Dead letters are dropped.
    DropDeadLetters,
    /// The log filter was set or reset.
    LogLevel,
    /// Key check values are recorded in place of others.
    AcceptKeys,
    /// The number of shards is changed.
    Reshard,
    /// The history of a request is shown.
    LookRequest,
    /// The requests or the stored value of a recipient are shown.
    LookRecipient,
    /// The requests of a user are shown.
    LookUser,
    /// The use of a recipient's limits is shown.
    LookLimits,
    /// Dead letters are shown, with masked excerpts.
    LookDeadLetters,
}

/// The progress of the act when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    /// It was made in one step with the record.
    Done,
    /// It was to be made: it may have failed, or changed a part.
    Begun,
}

impl AuditAct {
    pub const ALL: [AuditAct; 18] = [
        AuditAct::KillSwitchOn,
        AuditAct::KillSwitchOff,
        AuditAct::Suppress,
        AuditAct::EndSuppression,
        AuditAct::DefenceDeny,
        AuditAct::DefenceAllow,
        AuditAct::DefenceRemove,
        AuditAct::Forget,
        AuditAct::ReplayDeadLetters,
        AuditAct::DropDeadLetters,
        AuditAct::LogLevel,
        AuditAct::AcceptKeys,
        AuditAct::Reshard,
        AuditAct::LookRequest,
        AuditAct::LookRecipient,
        AuditAct::LookUser,
        AuditAct::LookLimits,
        AuditAct::LookDeadLetters,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            AuditAct::KillSwitchOn => "kill_switch_on",
            AuditAct::KillSwitchOff => "kill_switch_off",
            AuditAct::Suppress => "suppress",
            AuditAct::EndSuppression => "end_suppression",
            AuditAct::DefenceDeny => "defence_deny",
            AuditAct::DefenceAllow => "defence_allow",
            AuditAct::DefenceRemove => "defence_remove",
            AuditAct::Forget => "forget",
            AuditAct::ReplayDeadLetters => "replay_dead_letters",
            AuditAct::DropDeadLetters => "drop_dead_letters",
            AuditAct::LogLevel => "log_level",
            AuditAct::AcceptKeys => "accept_keys",
            AuditAct::Reshard => "reshard",
            AuditAct::LookRequest => "look_request",
            AuditAct::LookRecipient => "look_recipient",
            AuditAct::LookUser => "look_user",
            AuditAct::LookLimits => "look_limits",
            AuditAct::LookDeadLetters => "look_dead_letters",
        }
    }

    /// It stops messages. Such an act is made even if there is no room for its record.
    pub const fn stops(self) -> bool {
        matches!(self, AuditAct::KillSwitchOn | AuditAct::Suppress | AuditAct::DefenceDeny)
    }

    /// The store makes the act in the step that records it. Others are recorded before they begin.
    const fn is_one_step(self) -> bool {
        matches!(
            self,
            AuditAct::KillSwitchOn
                | AuditAct::KillSwitchOff
                | AuditAct::Suppress
                | AuditAct::EndSuppression
                | AuditAct::DefenceDeny
                | AuditAct::DefenceAllow
                | AuditAct::DefenceRemove
                | AuditAct::LogLevel
        )
    }
}

/// Is this act selected by a word, its own or the beginning of it, such as `look`?
pub fn is_selected(act: &str, word: &str) -> bool {
    act.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The operator who acts.
#[derive(Clone, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AuditActor {
    /// By a command.
    Command {
        /// The system user.
        user: String,
    },
    /// By HTTP.
    Http {
        /// The claim `jti` of the token.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_id: Option<String>,
        /// A keyed digest of the claim `sub`, if the token has no id.
        #[serde(skip_serializing_if = "Option::is_none")]
        sub_digest: Option<String>,
        /// The address of the client.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        client_ip: Option<IpAddr>,
    },
}

impl AuditActor {
    /// The id of the token is shown as visible ASCII.
    pub fn http(jti: Option<&str>, sub_digest: impl Display, client_ip: Option<IpAddr>) -> AuditActor {
        let shown = |character: char| if character.is_ascii_graphic() { character } else { '?' };
        let token_id = jti.map(|jti| jti.chars().take(TOKEN_CHARS_MAX).map(shown).collect());
        let sub_digest = jti.is_none().then(|| sub_digest.to_string());
        AuditActor::Http { token_id, sub_digest, client_ip }
    }
}

/// An act of an operator: the JSON body of a message in the audit stream.
#[derive(Clone, Serialize, JsonSchema)]
pub struct AuditRecord {
    /// Tells the act from others, and its repeats in the stream from it. It begins with the time.
    id: String,
    /// The time of the act, by the clock of the process (RFC 3339).
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    at: UnixMillis,
    /// The act.
    act: AuditAct,
    /// The operator.
    actor: AuditActor,
    /// A masked recipient, the id of a request, ids of dead letters, a log filter, names of keys, numbers of shards, a country or a prefix of
    /// numbers. What reads as a number or an address in an id is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The reason that the operator gave, with digits of numbers masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The progress of the act when it was recorded.
    result: AuditResult,
}

impl AuditRecord {
    /// `random` makes the id unlike those of other acts in the same millisecond.
    pub fn new(act: AuditAct, actor: AuditActor, at: UnixMillis, random: u64) -> AuditRecord {
        let id = format!("{:012x}{random:016x}", at.0);
        let result = if act.is_one_step() { AuditResult::Done } else { AuditResult::Begun };
        AuditRecord { id, at, act, actor, subject: None, reason: None, result }
    }

    /// Names a request. Its id may hold a number or an address, or be one.
    pub fn about_request(self, id: &str) -> AuditRecord {
        self.about(masked_id(id))
    }

    /// Names the subject, masked.
    pub fn about(self, subject: impl Display) -> AuditRecord {
        let subject = subject.to_string().chars().take(SUBJECT_CHARS_MAX).collect();
        AuditRecord { subject: Some(subject), ..self }
    }

    /// A masked reason.
    pub fn because(self, reason: Option<&str>) -> AuditRecord {
        AuditRecord { reason: reason.map(str::to_owned), ..self }
    }

    pub fn stops(&self) -> bool {
        self.act.stops()
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record is plain data")
    }
}

/// The fields of a stored or published record that tell it from others.
#[derive(Deserialize)]
pub struct AuditHead {
    pub id: String,
    pub at: String,
    pub act: String,
}

impl AuditHead {
    /// `None` if it is no record.
    pub fn read(json: &[u8]) -> Option<AuditHead> {
        serde_json::from_slice(json).ok()
    }

    pub fn time(&self) -> Option<UnixMillis> {
        UnixMillis::parse_rfc3339(&self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMillis = UnixMillis(1_800_000_000_000);

    fn actor() -> AuditActor {
        AuditActor::http(Some("t 1\n"), "digest", Some([192, 0, 2, 1].into()))
    }

    #[test]
    fn a_record_is_json_with_the_fields_that_apply() {
        let record = AuditRecord::new(AuditAct::EndSuppression, actor(), AT, 7).about("+57******4567");
        let json: serde_json::Value = serde_json::from_str(&record.to_json()).expect("JSON");
        let expected = serde_json::json!({
            "id": "01a3185c50000000000000000007", "at": "2027-01-15T08:00:00.000Z", "act": "end_suppression",
            "actor": {"kind": "http", "token_id": "t?1?", "client_ip": "192.0.2.1"}, "subject": "+57******4567",
            "result": "done",
        });
        assert_eq!(json, expected);
        let head = AuditHead::read(record.to_json().as_bytes()).expect("a record");
        assert_eq!((head.id.as_str(), head.time()), ("01a3185c50000000000000000007", Some(AT)));
    }

    #[test]
    fn a_token_without_an_id_is_known_by_a_digest_and_texts_are_bounded() {
        let actor = AuditActor::http(None, "digest", None);
        let record = AuditRecord::new(AuditAct::LookUser, actor, AT, u64::MAX).about("x".repeat(9_000));
        let json = record.to_json();
        assert!(json.contains(r#""actor":{"kind":"http","sub_digest":"digest"}"#), "{json}");
        assert!(json.contains(r#""result":"begun""#) && json.len() < 2_000, "{json}");
    }

    #[test]
    fn an_act_is_published_as_its_word() {
        for act in AuditAct::ALL {
            assert_eq!(serde_json::json!(act), act.as_str());
        }
    }

    #[test]
    fn a_word_selects_acts_by_their_beginning() {
        assert!(is_selected("kill_switch_on", "kill_switch") && is_selected("suppress", "suppress"));
        assert!(!is_selected("kill_switch_on", "kill_s") && !is_selected("suppress", "end"));
    }
}
