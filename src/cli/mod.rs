//! The command line. Starting is done by [`crate::app`]; a command that is more than a start has a file here.
//!
//! Output is for people, or with `--json` a list of objects for machines. Exit codes: 0 done, 1 failed, 2 wrong usage or
//! settings, 3 the answer is no.

mod check_number;
mod config;
mod dead_letters;
mod health;
mod kill_switch;
mod rate_limit;
mod recipient;
mod status;
mod suppressions;
mod templates;
mod token;
mod topology;
mod why;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::app;
use crate::config::{ConfigError, ConfigErrors, DevProvider, Role, Settings};
use crate::store::StoreError;
use crate::telemetry;

/// A one-time-password gateway: RabbitMQ in, Twilio out, limits in Redis.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Arguments {
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in this process, on a laptop: no account, no server, no setting.
    ///
    /// Uses a broker and a store in memory unless AMQP_URL or REDIS_URL is set, and shows messages on the console
    /// instead of sending them.
    Dev {
        /// Who carries the messages.
        #[arg(long, value_enum, default_value_t = ProviderChoice::Simulated)]
        provider: ProviderChoice,
    },
    /// Send what is asked for on the queue.
    Worker,
    /// Answer users and back ends over HTTP.
    Http,
    /// Worker and HTTP in one process.
    Serve,
    /// Show how everything is: servers, provider, kill switch, limits. Exit with 3 if something needed is down.
    Status,
    /// Say of phone numbers whether a code could be sent to them.
    CheckNumber {
        /// Numbers in E.164, or national ones of DEFAULT_REGION.
        #[arg(required = true)]
        numbers: Vec<String>,
    },
    /// Show how much of its limits a phone number or an e-mail address has used.
    RateLimit {
        /// A number in E.164, a national one of DEFAULT_REGION, or an e-mail address.
        #[arg(value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: String,
    },
    /// Look at what was set aside, replay it or drop it.
    DeadLetters {
        #[command(subcommand)]
        action: dead_letters::Action,
    },
    /// Say what happened to a request, or list the last requests of a recipient.
    ///
    /// What is refused over HTTP before it is queued (429) is no request yet and leaves no record: `otpost rate-limit`
    /// says what a recipient has used of its limits.
    #[command(override_usage = "otpost why [OPTIONS] <REQUEST_ID> [--to <RECIPIENT>]
       otpost why [OPTIONS] --to <RECIPIENT>")]
    Why {
        /// The request's id.
        #[arg(required_unless_present = "to")]
        request_id: Option<String>,
        /// A number in E.164, a national one of DEFAULT_REGION, or an e-mail address: whose request it is, or whose
        /// requests to list.
        #[arg(long, value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: Option<String>,
    },
    /// Show whom nothing is sent to, send nothing to somebody more, or let messages go to somebody again.
    Suppressions {
        #[command(subcommand)]
        action: suppressions::Action,
    },
    /// Stop all sending at once, in every worker, until it is allowed again.
    KillSwitch {
        #[command(subcommand)]
        turn: KillSwitchAction,
    },
    /// Check what messages say, and what that costs.
    Templates {
        #[command(subcommand)]
        action: templates::Action,
    },
    /// Show the settings in effect, secrets covered, and everything wrong with them.
    Config,
    /// Declare the exchanges and queues, and exit.
    Topology,
    /// Make a token to try things out with. Development only.
    Token {
        /// The number that the token's person has; +573001234567 if neither an e-mail address nor a scope is given.
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
        phone: Option<String>,
        /// The e-mail address that the token's person has.
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// The scopes that it has, as "otp:verify". Without a number and an e-mail address it is a service's token.
        #[arg(long)]
        scope: Option<String>,
        /// How long it is good for.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1440))]
        minutes: u32,
    },
    /// Exit with 0 if the process on this machine's OPS_ADDR is ready. For container health checks.
    Health,
}

/// What to do about the kill switch.
#[derive(Subcommand)]
enum KillSwitchAction {
    /// Stop sending. What is asked for waits.
    On {
        /// Why, for whoever finds it on: at most 200 characters.
        #[arg(long, value_name = "TEXT", value_parser = kill_switch::read_reason)]
        reason: Option<String>,
    },
    /// Allow sending again.
    Off,
    /// Say whether sending is stopped: exit with 3 if it is.
    Status,
}

/// The value of `otpost dev --provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProviderChoice {
    /// Show messages on the console.
    Simulated,
    /// Send real messages, at real cost, by the providers of the settings.
    Twilio,
}

impl From<ProviderChoice> for DevProvider {
    fn from(choice: ProviderChoice) -> DevProvider {
        match choice {
            ProviderChoice::Simulated => DevProvider::Simulated,
            ProviderChoice::Twilio => DevProvider::Configured,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It could not be done.
    Failed,
    /// Wrong usage or settings.
    Unusable,
    /// The answer is no.
    No,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Failed => ExitCode::from(1),
            Exit::Unusable => ExitCode::from(2),
            Exit::No => ExitCode::from(3),
        }
    }
}

/// Runs a command to its end.
pub async fn run(arguments: Arguments) -> Exit {
    let role = role(&arguments.command);
    // What is wrong with texts is told by the command that looks at them.
    let check =
        if role == Role::Texts { app::check::config_errors_except_texts } else { app::check::config_errors };
    let settings = match Settings::load(role, check) {
        Ok(settings) => settings,
        Err(faults) if role == Role::Show => return config::show_faults(&faults, arguments.json),
        Err(faults) => {
            if arguments.json {
                let rows =
                    faults.errors.iter().map(|ConfigError { name, problem }| FaultRow { name, problem });
                print_json(&rows.collect::<Vec<_>>());
            }
            let starts = matches!(role, Role::Dev | Role::Worker | Role::Http | Role::Serve);
            let what = if starts { "cannot start" } else { "cannot do this" };
            eprintln!("otpost {what} with these settings:\n{faults}");
            hint_at_environment(&faults);
            return Exit::Unusable;
        }
    };
    let json = arguments.json;
    match arguments.command {
        Command::Dev { provider } => start(role, settings, provider.into()).await,
        Command::Worker | Command::Http | Command::Serve => {
            start(role, settings, DevProvider::Configured).await
        }
        Command::Status => status::run(&settings, json).await,
        Command::CheckNumber { numbers } => check_number::run(&settings, &numbers, json),
        Command::RateLimit { to } => rate_limit::run(&settings, &to, json).await,
        Command::DeadLetters { action } => dead_letters::run(&settings, &action, json).await,
        Command::Why { request_id, to } => {
            why::run(&settings, request_id.as_deref(), to.as_deref(), json).await
        }
        Command::Suppressions { action } => suppressions::run(&settings, &action, json).await,
        Command::KillSwitch { turn } => kill_switch::run(&settings, turn, json).await,
        Command::Templates { action } => templates::run(&settings, &action, json),
        Command::Config => config::run(&settings, json),
        Command::Topology => topology::run(&settings, json).await,
        Command::Token { phone, email, scope, minutes } => {
            token::run(&settings, phone.as_deref(), email.as_deref(), scope.as_deref(), minutes)
        }
        Command::Health => health::run(&settings),
    }
}

/// A setting that stands in the way, for machines.
#[derive(serde::Serialize)]
struct FaultRow<'a> {
    name: &'a str,
    problem: &'a str,
}

/// Whoever tries things out on a laptop is asked for all that production needs.
fn hint_at_environment(faults: &ConfigErrors) {
    if faults.shown.iter().any(|shown| shown.name == "ENVIRONMENT" && !shown.given) {
        eprintln!("this is production, as ENVIRONMENT is not set; on a laptop set ENVIRONMENT=development");
    }
}

fn role(command: &Command) -> Role {
    match command {
        Command::Dev { .. } => Role::Dev,
        Command::Worker => Role::Worker,
        Command::Http => Role::Http,
        Command::Serve => Role::Serve,
        Command::RateLimit { .. }
        | Command::Why { .. }
        | Command::Suppressions { .. }
        | Command::KillSwitch { .. } => Role::Store,
        // They need the broker too, and the key of recipients for a replay only.
        Command::Topology | Command::DeadLetters { .. } => Role::Topology,
        Command::Status => Role::Status,
        Command::Templates { .. } => Role::Texts,
        Command::Token { .. } => Role::Token,
        Command::CheckNumber { .. } | Command::Health => Role::Offline,
        Command::Config => Role::Show,
    }
}

async fn start(role: Role, settings: Settings, provider: DevProvider) -> Exit {
    if let Err(problem) = telemetry::start_logging(&settings.log_filter, settings.log_json) {
        eprintln!("otpost cannot start with these settings:\n  RUST_LOG {problem}");
        return Exit::Unusable;
    }
    match app::run(role, settings, provider).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("otpost: {error:#}");
            Exit::Failed
        }
    }
}

/// Tells why Redis did not do what was asked: which server, and where to look. Never its address.
fn store_failed(error: &StoreError) -> Exit {
    match error {
        StoreError::Unavailable(detail) => {
            eprintln!("otpost: Redis (REDIS_URL) cannot be reached: {detail}");
        }
        StoreError::Refused(detail) => eprintln!("otpost: Redis (REDIS_URL) refused: {detail}"),
        StoreError::Garbled { .. } => eprintln!("otpost: Redis (REDIS_URL): {error}"),
    }
    Exit::Failed
}

/// Prints a list of objects for machines.
fn print_json<T: serde::Serialize>(rows: &[T]) {
    say(&serde_json::to_string_pretty(rows).expect("rows are plain data"));
}

/// Prints a line. Whoever stops reading, as `head` does, has read enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
