//! `otpost forget`: forgets a person, and shows the jobs by which the provider's texts go.

use super::acting::{acting, say_done};
use super::output::{Exit, complain, invalid_redis_url, print_json, say, store_failed, warn_if_empty};
use super::recipient::read_recipient;
use super::table::table;
use crate::app;
use crate::config::Settings;
use crate::domain::operator_reason::parse_reason;
use crate::domain::time::seconds_rounded_up;
use crate::flow::operate::forget::{self, ForgetEnd, ForgetReport, Forgettable, RedactionJobRow};
use crate::provider::Provider;
use crate::store::{Store, StoreError};

#[derive(clap::Args)]
pub(super) struct ForgetArguments {
    /// A number in E.164, a national number of DEFAULT_REGION, or an e-mail address.
    #[arg(long, value_name = "RECIPIENT", allow_hyphen_values = true, required_unless_present = "status")]
    to: Option<String>,
    /// The reason: at most 200 characters, without a number, address or name.
    #[arg(long, value_name = "TEXT", required_unless_present = "status", value_parser = parse_reason)]
    reason: Option<String>,
    /// Show the jobs by which Twilio deletes texts.
    #[arg(long, conflicts_with_all = ["to", "reason"])]
    status: bool,
}

pub(super) async fn run(settings: &Settings, arguments: &ForgetArguments, json: bool) -> Exit {
    let store = match arguments.status {
        true => app::stores::read_only_store(settings),
        false => app::stores::redis_store(settings),
    };
    let Ok(store) = store else {
        return invalid_redis_url();
    };
    let exit = match &arguments.to {
        None => show_jobs(&store, json).await,
        Some(to) => {
            let Some(to) = read_recipient(settings, to) else { return Exit::Unusable };
            let recipients = settings.recipients.as_ref().expect("the settings of this command have the key");
            let person = Forgettable::new(recipients, to);
            match app::provider_adapters::sms_account(settings) {
                Ok(account) => {
                    forget_person(
                        &store,
                        account.as_deref(),
                        &person,
                        arguments.reason.as_deref().unwrap_or_default(),
                        json,
                    )
                    .await
                }
                Err(error) => {
                    complain(&format!("{error:#}"));
                    return Exit::Unusable;
                }
            }
        }
    };
    warn_if_empty(store.found_nothing());
    exit.unwrap_or_else(|error| store_failed(&error))
}

async fn show_jobs(store: &dyn Store, json: bool) -> Result<Exit, StoreError> {
    let jobs = forget::redaction_jobs(store).await?;
    match (json, jobs.is_empty()) {
        (true, _) => print_json(&jobs),
        (false, true) => say("no text is to be deleted"),
        (false, false) => print_jobs(&jobs),
    }
    Ok(Exit::Done)
}

async fn forget_person(
    store: &impl Store,
    account: Option<&dyn Provider>,
    person: &Forgettable,
    reason: &str,
    json: bool,
) -> Result<Exit, StoreError> {
    let account = account.filter(|account| forget::can_list(Some(*account), person));
    let by = acting();
    let report = match forget::forget(store, person, account.is_some(), reason, &by).await? {
        ForgetEnd::Forgotten(report) => report,
        ForgetEnd::InProgress(left) => {
            let seconds = seconds_rounded_up(left);
            complain(&format!(
                "nothing was changed: a request to {} is in progress, for {seconds} s at most; try again then",
                person.masked
            ));
            return Ok(Exit::No);
        }
    };
    if json {
        print_json(&[&report]);
    } else {
        print_report(&report);
    }
    let Some(account) = account.filter(|_| report.takes_older_messages()) else {
        say_done(store, &by, json).await;
        return Ok(Exit::Done);
    };
    match forget::list_older_messages(store, account, person).await? {
        Ok(count) => {
            if !json {
                say(&format!("{count} texts found at {}: workers have them deleted", account.name()));
            }
            say_done(store, &by, json).await;
            Ok(Exit::Done)
        }
        Err(error) => {
            complain(&format!("forgotten here, but older messages are not listed: {error}: run it again"));
            Ok(Exit::Failed)
        }
    }
}

fn print_report(report: &ForgetReport) {
    let ForgetReport { to, removed, kept, redaction } = report;
    say(&format!(
        "{to}: removed {} histories, {} codes, {} masked recipients of suppressions",
        removed.histories,
        removed.codes,
        u8::from(removed.suppression_note)
    ));
    let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["kept", "count", "until", "why"])];
    for kept in kept {
        let count = kept.count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        rows.push(row([kept.what, &count, kept.until.as_deref().unwrap_or("no end"), kept.why]));
    }
    table(&rows).iter().for_each(|line| say(line));
    match redaction.as_ref().map(|redaction| (&redaction.job, redaction.messages)) {
        None => say("no text at a provider that otpost can have deleted"),
        Some((Some(job), messages)) => {
            say(&format!("{messages} texts of a day to be deleted by job {job}: otpost forget --status"));
        }
        Some((None, _)) => complain("there are too many jobs: run it again when some have ended"),
    }
}

fn print_jobs(jobs: &[RedactionJobRow]) {
    let headings = ["job", "begun", "total", "done", "failed", "not found", "left", "older messages"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for job in jobs {
        let [total, done, failed, not_found, left] =
            [job.total, job.done, job.failed, job.not_found, job.left].map(|count| count.to_string());
        let older = job.older_messages.replace('_', " ");
        rows.push(vec![job.job.clone(), job.begun.clone(), total, done, failed, not_found, left, older]);
    }
    table(&rows).iter().for_each(|line| say(line));
}
