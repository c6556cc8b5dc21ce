//! `otpost audit`: lists and follows the acts of operators, from the audit stream and from the records that are not published yet.

use std::time::Duration;

use clap::Subcommand;
use serde_json::{Map, Value};

use super::output::{Exit, complain, invalid_redis_url, print_json_line, say, store_failed};
use crate::app;
use crate::broker::audit::{AuditFrom, AuditStream};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::audit::{AuditAct, is_selected};
use crate::domain::time::UnixMillis;
use crate::flow::inspect::audit::{ActRow, Acts, PENDING_MAX};

const READ_WITHIN: Duration = Duration::from_secs(60);
const FOLLOW_FOR: Duration = Duration::from_secs(3_600);

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

pub(super) async fn run(settings: &Settings, action: AuditAction, json: bool) -> Exit {
    match action {
        AuditAction::List { since, act, limit } => list(settings, since, act, limit.into(), json).await,
        AuditAction::Tail { act } => tail(settings, act, json).await,
    }
}

/// Shows what can be read: while RabbitMQ is away that are the records that wait for it.
async fn list(settings: &Settings, since: Duration, act: Option<String>, limit: usize, json: bool) -> Exit {
    let mut acts = Acts::new(act, limit);
    let since = UnixMillis(Clock::System.now().0.saturating_sub(since.as_millis().try_into().unwrap_or(0)));
    let published = read_published(settings, &mut acts, since).await;
    let pending = read_pending(settings, &mut acts, since).await;
    acts.records().for_each(|record| print_record(record, json));
    if acts.count() == 0 {
        eprintln!("otpost: no act is recorded in this time");
    } else if acts.count() == limit {
        eprintln!("otpost: there may be more than these {limit}: see --limit");
    }
    published.and(pending).err().unwrap_or(Exit::Done)
}

async fn read_published(settings: &Settings, acts: &mut Acts, since: UnixMillis) -> Result<(), Exit> {
    let Some(mut stream) = open(settings, AuditFrom::Since(since)).await? else { return Ok(()) };
    let read = acts.read_stream(stream.as_mut(), since, READ_WITHIN).await;
    stream.close().await;
    match read {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed("the audit stream is too long to be read in a minute: give a later --since")),
        Err(error) => Err(failed(&error)),
    }
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
    acts.read_pending(&store, since).await.map_err(|error| store_failed(&error))
}

async fn tail(settings: &Settings, act: Option<String>, json: bool) -> Exit {
    let mut stream = match open(settings, AuditFrom::Now).await {
        Ok(Some(stream)) => stream,
        Ok(None) => return Exit::Failed,
        Err(exit) => return exit,
    };
    let mut acts = Acts::new(act, PENDING_MAX.into());
    let pending = read_pending(settings, &mut acts, UnixMillis(0)).await;
    acts.records().for_each(|record| print_record(record, json));
    if let Err(exit) = pending {
        return exit;
    }
    loop {
        match stream.next(FOLLOW_FOR).await {
            Ok(None) => {}
            Ok(Some(body)) => {
                if let Some((_, record)) = acts.read(&body, false) {
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
    let ActRow { at, act, result, by, client_ip, subject, reason, pending } = ActRow::of(record);
    let (result, by) = (result.as_deref().unwrap_or("-"), by.as_deref().unwrap_or("-"));
    let mut line = format!("{at}  {act:<19}  {result:<5}  {by}");
    for more in [client_ip, subject].into_iter().flatten() {
        line.push_str(&format!("  {more}"));
    }
    if let Some(reason) = reason {
        line.push_str(&format!(": {reason}"));
    }
    if pending {
        line.push_str("  (pending)");
    }
    say(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_selected_by_its_beginning() {
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
