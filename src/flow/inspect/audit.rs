//! The acts of operators: those of the audit stream, and those that are not published yet.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use crate::broker::audit::{AuditFrom, AuditStream, AuditStreamSource};
use crate::clock::Clock;
use crate::domain::audit::{AuditHead, is_selected};
use crate::domain::time::UnixMillis;
use crate::store::{Store, StoreError};

/// The stream has an end for a reader that gets no record for this long.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
const NEXT_WITHIN: Duration = Duration::from_millis(700);
/// Of each outbox.
pub const PENDING_MAX: u16 = 1_000;
/// Of the acts in an answer.
const SHOWN_MAX: usize = 100;
/// For connecting and reading.
const SHOWN_WITHIN: Duration = Duration::from_secs(8);

/// Acts by their ids, which begin with the time. A record that was published twice is there once.
pub struct Acts {
    selected: Option<String>,
    count_max: usize,
    records: BTreeMap<String, Map<String, Value>>,
}

impl Acts {
    /// The newest acts of a word, or of a beginning of it.
    pub fn new(selected: Option<String>, count_max: usize) -> Acts {
        Acts { selected, count_max, records: BTreeMap::new() }
    }

    /// The oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Map<String, Value>> {
        self.records.values()
    }

    pub fn count(&self) -> usize {
        self.records.len()
    }

    fn add(&mut self, json: &[u8], is_pending: bool) {
        let Some((id, record)) = self.read(json, is_pending) else { return };
        self.records.entry(id).or_insert(record);
        if self.records.len() > self.count_max {
            self.records.pop_first();
        }
    }

    /// `None` if it is no record, or of another act.
    pub fn read(&self, json: &[u8], is_pending: bool) -> Option<(String, Map<String, Value>)> {
        let head = AuditHead::read(json)?;
        let is_wanted = self.selected.as_ref().is_none_or(|selected| is_selected(&head.act, selected));
        let mut record: Map<String, Value> = serde_json::from_slice(json).ok().filter(|_| is_wanted)?;
        record.insert("pending".to_owned(), is_pending.into());
        Some((head.id, record))
    }

    /// False if the stream is too long to be read within a time.
    pub async fn read_stream(
        &mut self,
        stream: &mut dyn AuditStream,
        since: UnixMillis,
        within: Duration,
    ) -> Result<bool, String> {
        let (until, began) = (Clock::System.now(), Instant::now());
        let mut next_within = FIRST_WITHIN;
        while let Some(body) = stream.next(next_within).await.map_err(|error| error.to_string())? {
            next_within = NEXT_WITHIN;
            let at = AuditHead::read(&body).and_then(|head| head.time());
            if at.is_some_and(|at| at >= since) {
                self.add(&body, false);
            }
            if at.is_some_and(|at| at > until) {
                return Ok(true);
            }
            if began.elapsed() > within {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub async fn read_pending(&mut self, store: &dyn Store, since: UnixMillis) -> Result<(), StoreError> {
        for outbox in 0..store.outboxes() {
            for record in store.read_outbox(outbox, true, PENDING_MAX).await?.records {
                let at = AuditHead::read(record.as_bytes()).and_then(|head| head.time());
                if at.is_some_and(|at| at >= since) {
                    self.add(record.as_bytes(), true);
                }
            }
        }
        Ok(())
    }
}

/// The newest acts, as a page shows them.
#[derive(Serialize)]
pub struct ActsReport {
    /// The newest first.
    pub acts: Vec<ActRow>,
    /// The audit stream was not read, or not to its end: there are more acts than these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

#[derive(Serialize)]
pub struct ActRow {
    pub at: String,
    pub act: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The system user, the id of the token, or a digest of its subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It is not published yet.
    pub pending: bool,
}

impl ActRow {
    pub fn of(record: &Map<String, Value>) -> ActRow {
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
        let actor = |name: &str| record.get("actor")?.get(name)?.as_str().map(str::to_owned);
        ActRow {
            at: text("at").unwrap_or_default(),
            act: text("act").unwrap_or_default(),
            result: text("result"),
            by: actor("user").or_else(|| actor("token_id")).or_else(|| actor("sub_digest")),
            client_ip: actor("client_ip"),
            subject: text("subject"),
            reason: text("reason"),
            pending: record.get("pending") == Some(&Value::Bool(true)),
        }
    }
}

/// The newest acts since a time, within a few seconds.
pub async fn last_acts(
    store: &dyn Store,
    source: Option<&dyn AuditStreamSource>,
    since: UnixMillis,
) -> Result<ActsReport, StoreError> {
    let mut acts = Acts::new(None, SHOWN_MAX);
    acts.read_pending(store, since).await?;
    let missing = match source {
        Some(source) => {
            let reading = timeout(SHOWN_WITHIN, read_published(&mut acts, source, since)).await;
            reading.unwrap_or_else(|_| Some("RabbitMQ did not answer in time".to_owned()))
        }
        None => None,
    };
    Ok(ActsReport { acts: acts.records().rev().map(ActRow::of).collect(), missing })
}

/// The fault that kept acts from being read.
async fn read_published(
    acts: &mut Acts,
    source: &dyn AuditStreamSource,
    since: UnixMillis,
) -> Option<String> {
    let mut stream = match source.open(AuditFrom::Since(since)).await {
        Ok(Some(stream)) => stream,
        Ok(None) => return None,
        Err(error) => return Some(error.to_string()),
    };
    let read = acts.read_stream(stream.as_mut(), since, SHOWN_WITHIN - FIRST_WITHIN).await;
    stream.close().await;
    match read {
        Ok(true) => None,
        Ok(false) => {
            Some("the audit stream is too long to be read at once: ask for a shorter time".to_owned())
        }
        Err(error) => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, act: &str) -> Vec<u8> {
        format!(r#"{{"id":"{id}","at":"2026-12-01T00:00:00.000Z","act":"{act}"}}"#).into_bytes()
    }

    #[test]
    fn the_newest_acts_are_kept_and_each_once() {
        let mut acts = Acts::new(None, 2);
        for id in ["b", "a", "c", "b", "a"] {
            acts.add(&record(id, "suppress"), false);
        }
        acts.add(&record("c", "suppress"), true);
        acts.add(b"no record", false);
        let kept: Vec<_> =
            acts.records.iter().map(|(id, record)| (id.as_str(), &record["pending"])).collect();
        assert_eq!(kept, [("b", &Value::Bool(false)), ("c", &Value::Bool(false))]);
    }

    #[test]
    fn a_word_selects_acts() {
        let mut acts = Acts::new(Some("kill_switch".to_owned()), 9);
        acts.add(&record("a", "kill_switch_on"), false);
        acts.add(&record("b", "suppress"), false);
        assert_eq!(acts.count(), 1);
    }

    #[test]
    fn an_act_names_its_operator() {
        for (actor, by) in [
            (r#"{"kind":"command","user":"ana"}"#, Some("ana")),
            (r#"{"kind":"http","token_id":"t-1","client_ip":"192.0.2.1"}"#, Some("t-1")),
            (r#"{"kind":"http","sub_digest":"ab12"}"#, Some("ab12")),
            (r#"7"#, None),
        ] {
            let record = format!(r#"{{"at":"x","act":"suppress","actor":{actor},"pending":true}}"#);
            let row = ActRow::of(&serde_json::from_str(&record).expect("JSON"));
            assert_eq!((row.by.as_deref(), row.pending), (by, true));
        }
    }
}
