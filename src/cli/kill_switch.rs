//! `otpost kill-switch`: stops all sending in every worker, allows it again, or says how it stands.

use serde::Serialize;

use super::{Exit, KillSwitchAction, print_json, say, store_failed};
use crate::app;
use crate::config::Settings;
use crate::store::{KillSwitch, Store, StoreError};

const REASON_CHARS_MAX: usize = 200;
const NO_REASON: &str = "(none given)";

/// How the kill switch stands.
#[derive(Serialize)]
struct Standing {
    on: bool,
    /// Nothing if it was turned on just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// How it stands now and, where it was turned, how it stood before.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    now: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Standing>,
}

pub(super) async fn run(settings: &Settings, turn: KillSwitchAction, json: bool) -> Exit {
    let Ok(store) = app::stores::redis_store(settings) else {
        eprintln!("otpost: REDIS_URL is no address of a Redis");
        return Exit::Unusable;
    };
    let asks_only = matches!(turn, KillSwitchAction::Status);
    let row = match turned(&store, turn).await {
        Ok(row) => row,
        Err(error) => return store_failed(&error),
    };
    let exit = if asks_only && row.now.on { Exit::No } else { Exit::Done };
    if json {
        print_json(&[row]);
    } else {
        print_row(&row);
    }
    exit
}

async fn turned(store: &impl Store, turn: KillSwitchAction) -> Result<Row, StoreError> {
    match turn {
        KillSwitchAction::Status => Ok(Row { now: standing(store.kill_switch().await?), before: None }),
        KillSwitchAction::Off => {
            let before = standing(store.set_kill_switch(None).await?);
            Ok(Row { now: standing(None), before: Some(before) })
        }
        KillSwitchAction::On { reason } => {
            // Turned on again without a reason it keeps the one that it had.
            let reason = match reason {
                Some(reason) => reason,
                None => store.kill_switch().await?.map_or_else(|| NO_REASON.to_owned(), |on| on.reason),
            };
            let before = standing(store.set_kill_switch(Some(&reason)).await?);
            let now = Standing { on: true, since: before.since.clone(), reason: Some(reason) };
            Ok(Row { now, before: Some(before) })
        }
    }
}

fn standing(switch: Option<KillSwitch>) -> Standing {
    match switch {
        None => Standing { on: false, since: None, reason: None },
        Some(KillSwitch { since, reason }) => {
            Standing { on: true, since: Some(since.to_string()), reason: Some(reason) }
        }
    }
}

fn print_row(row: &Row) {
    say(&format!("kill switch  {}", in_words(&row.now)));
    if let Some(before) = &row.before {
        say(&format!("before       {}", in_words(before)));
    }
}

fn in_words(standing: &Standing) -> String {
    let Standing { on, since, reason } = standing;
    if !on {
        return "off: messages are sent".to_owned();
    }
    let since = since.as_deref().unwrap_or("just now");
    format!("on since {since}: nothing is sent; reason: {}", reason.as_deref().unwrap_or(NO_REASON))
}

/// A reason as it may be kept and shown.
pub(super) fn read_reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.chars().any(char::is_control) || !(1..=REASON_CHARS_MAX).contains(&text.chars().count()) {
        return Err("must be 1 to 200 characters, none of them a control character");
    }
    Ok(covered(text))
}

/// The same without what looks like somebody's number or e-mail address, as a reason is shown to whoever asks. A date
/// stays.
fn covered(text: &str) -> String {
    const DIGITS_MIN: usize = 7;
    const GROUPED_DIGITS_MIN: usize = 9;
    let mut covered = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let joins = |character: char| character.is_numeric() || "+-.() ".contains(character);
        let end = rest.find(|next| joins(next) != joins(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let digits = run.chars().filter(|character| character.is_numeric()).count();
        let in_a_row = run.split(|character: char| !character.is_numeric()).map(|row| row.chars().count());
        let is_number = in_a_row.max().unwrap_or(0) >= DIGITS_MIN
            || digits >= GROUPED_DIGITS_MIN && !is_date(run)
            || digits >= DIGITS_MIN && run.contains('+');
        let shown = |character: char| if is_number && character.is_numeric() { '#' } else { character };
        covered.extend(run.chars().map(shown));
        rest = after;
    }
    let cover = |word: &str| -> String {
        word.chars().map(|character| if character.is_alphanumeric() { '*' } else { character }).collect()
    };
    let words = covered.split(' ').map(|word| match word.contains('@') {
        true => cover(word),
        false => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether digits begin as in `2026-11-22`.
fn is_date(run: &str) -> bool {
    let mut parts =
        run.trim_start().splitn(3, '-').map(|part| part.bytes().take_while(u8::is_ascii_digit).count());
    (parts.next(), parts.next(), parts.next()) == (Some(4), Some(2), Some(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::memory::MemoryStore;

    #[test]
    fn a_reason_is_short_and_in_one_line() {
        assert_eq!(read_reason(" número: ataque "), Ok("número: ataque".to_owned()));
        assert!(read_reason(&"ñ".repeat(200)).is_ok());
        for text in ["", "  ", "two\nlines", "\u{1b}[2J", &"ñ".repeat(201)] {
            assert!(read_reason(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reason_holds_nobodys_number_or_address() {
        for (text, kept) in [
            ("asked by +573001234567 and ana@shop.example.", "asked by +############ and ***@****.*******."),
            ("300 123 4567, (601) 234-5678", "### ### ####, (###) ###-####"),
            ("3001234567", "##########"),
            (
                "pumping to +44 since 2026-11-22 13:36, ticket 48213",
                "pumping to +44 since 2026-11-22 13:36, ticket 48213",
            ),
        ] {
            assert_eq!(read_reason(text).as_deref(), Ok(kept));
        }
    }

    #[tokio::test]
    async fn turning_it_again_changes_nothing_but_a_reason_that_is_given() {
        let store = MemoryStore::new(Clock::System);
        let on =
            |reason: Option<&str>| turned(&store, KillSwitchAction::On { reason: reason.map(str::to_owned) });
        assert_eq!(on(None).await.expect("answers").now.reason.as_deref(), Some(NO_REASON));
        let since = store.kill_switch().await.expect("answers").expect("it is on").since;
        let row = on(Some("pumping")).await.expect("answers");
        assert_eq!(row.now.since.as_deref(), Some(since.to_string().as_str()));
        assert_eq!(row.before.expect("it stood somehow").reason.as_deref(), Some(NO_REASON));
        assert_eq!(on(None).await.expect("answers").now.reason.as_deref(), Some("pumping"));
        for was_on in [true, false] {
            let row = turned(&store, KillSwitchAction::Off).await.expect("answers");
            assert_eq!((row.now.on, row.before.map(|before| before.on)), (false, Some(was_on)));
        }
    }
}
