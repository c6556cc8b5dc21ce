//! `otpost audit`: lists and follows the acts of operators, from the audit stream and from the records that are not published yet.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::output::{Exit, complain, invalid_redis_url, print_json_line, say, store_failed};
use crate::app;
use crate::broker::audit::{AuditFrom, AuditStream};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::audit::{AuditAct, AuditHead, is_selected};
use crate::domain::time::UnixMillis;
use crate::store::AuditStore;

/// The stream has an end for a reader that gets no record for this long.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
const NEXT_WITHIN: Duration = Duration::from_millis(700);
const READ_WITHIN: Duration = Duration::from_secs(60);
const FOLLOW_FOR: Duration = Duration::from_secs(3_600);
/// Of each outbox.
const PENDING_MAX: u16 = 1_000;

#[derive(Subcommand)]
pub(super) enum AuditAction {
    /// List the newest acts, oldest first. With --json, one object a line.
    List {
        /// Since minutes (90m), hours (2h) or days (30d) ago.
        #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_since)]
        since: Duration,
        /// Only acts of this word, or that begin with it, such as kill_switch or look.
        #[arg(long, value_name = "ACT", value_parser = parse_act)]
        act: Option<String>,
        /// The most acts to list.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
    /// Show acts as they are published, until it is interrupted. It begins with those that are not published yet.
    Tail {
        /// Only acts of this word, or that begin with it, such as kill_switch or look.
        #[arg(long, value_name = "ACT", value_parser = parse_act)]
        act: Option<String>,
    },
}

fn parse_since(text: &str) -> Result<Duration, &'static str> {
    const RULE: &str = "must be a number of minutes (90m), hours (2h) or days (30d), at most 9999d";
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(RULE)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(RULE),
    };
    let is_number = (1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 =
        is_number.then(|| number.parse().ok()).flatten().filter(|number| *number > 0).ok_or(RULE)?;
    Ok(Duration::from_secs(number * seconds))
}

fn parse_act(text: &str) -> Result<String, String> {
    if AuditAct::ALL.iter().any(|act| is_selected(act.as_str(), text)) {
        return Ok(text.to_owned());
    }
    Err(format!("must be one of {}", AuditAct::ALL.map(AuditAct::as_str).join(", ")))
}

/// Acts by their ids, which begin with the time. A record that was published twice is there once.
struct Acts {
    selected: Option<String>,
    count_max: usize,
    records: BTreeMap<String, Map<String, Value>>,
}

impl Acts {
    fn add(&mut self, json: &[u8], is_pending: bool) {
        let Some((id, mut record)) = self.read(json) else { return };
        record.insert("pending".to_owned(), is_pending.into());
        self.records.entry(id).or_insert(record);
        if self.records.len() > self.count_max {
            self.records.pop_first();
        }
    }

    /// `None` if it is no record, or of another act.
    fn read(&self, json: &[u8]) -> Option<(String, Map<String, Value>)> {
        let head = AuditHead::read(json)?;
        let is_wanted = self.selected.as_ref().is_none_or(|selected| is_selected(&head.act, selected));
        Some((head.id, serde_json::from_slice(json).ok()?)).filter(|_| is_wanted)
    }

    async fn read_stream(&mut self, stream: &mut dyn AuditStream, since: UnixMillis) -> Result<(), String> {
        let (until, began) = (Clock::System.now(), Instant::now());
        let mut within = FIRST_WITHIN;
        while let Some(body) = stream.next(within).await.map_err(|error| error.to_string())? {
            within = NEXT_WITHIN;
            let at = AuditHead::read(&body).and_then(|head| head.time());
            if at.is_some_and(|at| at >= since) {
                self.add(&body, false);
            }
            if at.is_some_and(|at| at > until) {
                return Ok(());
            }
            if began.elapsed() > READ_WITHIN {
                return Err(
                    "the audit stream is too long to be read in a minute: give a later --since".to_owned()
                );
            }
        }
        Ok(())
    }
}

pub(super) async fn run(settings: &Settings, action: AuditAction, json: bool) -> Exit {
    match action {
        AuditAction::List { since, act, limit } => list(settings, since, act, limit.into(), json).await,
        AuditAction::Tail { act } => tail(settings, act, json).await,
    }
}

/// Shows what can be read: while RabbitMQ is away that are the records that wait for it.
async fn list(settings: &Settings, since: Duration, act: Option<String>, limit: usize, json: bool) -> Exit {
    let mut acts = Acts { selected: act, count_max: limit, records: BTreeMap::new() };
    let since = UnixMillis(Clock::System.now().0.saturating_sub(since.as_millis().try_into().unwrap_or(0)));
    let published = read_published(settings, &mut acts, since).await;
    let pending = read_pending(settings, &mut acts, since).await;
    acts.records.values().for_each(|record| print_record(record, json));
    if acts.records.is_empty() {
        eprintln!("otpost: no act is recorded in this time");
    } else if acts.records.len() == limit {
        eprintln!("otpost: there may be more than these {limit}: see --limit");
    }
    published.and(pending).err().unwrap_or(Exit::Done)
}

async fn read_published(settings: &Settings, acts: &mut Acts, since: UnixMillis) -> Result<(), Exit> {
    let Some(mut stream) = open(settings, AuditFrom::Since(since)).await? else { return Ok(()) };
    let read = acts.read_stream(stream.as_mut(), since).await;
    stream.close().await;
    read.map_err(|error| failed(&error))
}

/// `None` if there is no stream.
async fn open(settings: &Settings, from: AuditFrom) -> Result<Option<Box<dyn AuditStream>>, Exit> {
    let stream = app::brokers::audit_stream(settings, from).await;
    let stream = stream.map_err(|error| failed(&format!("{error:#}")))?;
    if stream.is_none() {
        complain("RabbitMQ has no audit stream yet: a worker declares it, or otpost topology");
    }
    Ok(stream)
}

async fn read_pending(settings: &Settings, acts: &mut Acts, since: UnixMillis) -> Result<(), Exit> {
    if settings.redis_url.is_none() {
        complain("REDIS_URL is not set: acts that are not published yet are not shown");
        return Ok(());
    }
    let store = app::stores::read_only_store(settings).map_err(|_| invalid_redis_url())?;
    for outbox in 0..store.outboxes() {
        let records = store.read_outbox(outbox, true, PENDING_MAX).await;
        for record in records.map_err(|error| store_failed(&error))?.records {
            let at = AuditHead::read(record.as_bytes()).and_then(|head| head.time());
            if at.is_some_and(|at| at >= since) {
                acts.add(record.as_bytes(), true);
            }
        }
    }
    Ok(())
}

async fn tail(settings: &Settings, act: Option<String>, json: bool) -> Exit {
    let mut stream = match open(settings, AuditFrom::Now).await {
        Ok(Some(stream)) => stream,
        Ok(None) => return Exit::Failed,
        Err(exit) => return exit,
    };
    let mut acts = Acts { selected: act, count_max: PENDING_MAX.into(), records: BTreeMap::new() };
    let pending = read_pending(settings, &mut acts, UnixMillis(0)).await;
    acts.records.values().for_each(|record| print_record(record, json));
    if let Err(exit) = pending {
        return exit;
    }
    loop {
        match stream.next(FOLLOW_FOR).await {
            Ok(None) => {}
            Ok(Some(body)) => {
                if let Some((_, mut record)) = acts.read(&body) {
                    record.insert("pending".to_owned(), false.into());
                    print_record(&record, json);
                }
            }
            Err(error) => return failed(&error.to_string()),
        }
    }
}

fn failed(error: &str) -> Exit {
    complain(error);
    Exit::Failed
}

fn print_record(record: &Map<String, Value>, json: bool) {
    if json {
        return print_json_line(record);
    }
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or("-");
    let by = |name: &str| record.get("actor").and_then(|actor| actor.get(name)).and_then(Value::as_str);
    let who = by("user").or(by("token_id")).or(by("sub_digest")).unwrap_or("-");
    let mut line = format!("{}  {:<19}  {:<5}  {who}", text("at"), text("act"), text("result"));
    for more in [by("client_ip"), record.get("subject").and_then(Value::as_str)].into_iter().flatten() {
        line.push_str(&format!("  {more}"));
    }
    if let Some(reason) = record.get("reason").and_then(Value::as_str) {
        line.push_str(&format!(": {reason}"));
    }
    if record.get("pending") == Some(&Value::Bool(true)) {
        line.push_str("  (pending)");
    }
    say(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(selected: Option<&str>, count_max: usize) -> Acts {
        Acts { selected: selected.map(str::to_owned), count_max, records: BTreeMap::new() }
    }

    fn record(id: &str, act: &str) -> Vec<u8> {
        format!(r#"{{"id":"{id}","at":"2026-12-01T00:00:00.000Z","act":"{act}"}}"#).into_bytes()
    }

    #[test]
    fn the_newest_acts_are_kept_and_each_once() {
        let mut acts = acts(None, 2);
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
        let mut acts = acts(Some("kill_switch"), 9);
        acts.add(&record("a", "kill_switch_on"), false);
        acts.add(&record("b", "suppress"), false);
        assert_eq!(acts.records.len(), 1);
        assert!(parse_act("look").is_ok() && parse_act("looks").is_err());
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(parse_since("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for text in ["", "d", "0d", "-1d", "30", "10000d", "1.5h", "9é"] {
            assert!(parse_since(text).is_err(), "{text}");
        }
    }
}
