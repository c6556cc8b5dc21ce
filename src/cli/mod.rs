//! The command line. [`crate::app`] starts processes; every other command has a file here.
//!
//! Output is text, or with `--json` a list of objects. Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 the
//! answer is no.

mod acting;
mod audit;
mod check_number;
mod config;
mod conversion;
mod dead_letters;
mod defence;
mod forget;
mod health;
mod keys;
mod kill_switch;
mod log_level;
mod output;
mod panics;
mod providers;
mod rate_limit;
mod recipient;
mod reshard;
mod spend;
mod status;
mod store;
mod suppressions;
mod system_user;
mod table;
mod templates;
mod token;
mod topology;
mod why;

use std::time::Duration;

use clap::builder::PossibleValue;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use self::kill_switch::KillSwitchAction;
use self::output::{Exit, complain, print_json};
use crate::app;
use crate::config::{ConfigError, DevProvider, Role, Settings};
use crate::telemetry;

/// A one-time-password gateway: sends codes by SMS and e-mail, and checks them.
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
    /// Run everything in one process, for development: no account, no server, no setting.
    ///
    /// Broker and store are in memory unless AMQP_URL or REDIS_URL is set. Messages are shown on the console instead of
    /// sent.
    Dev {
        /// The provider of messages.
        #[arg(long, value_enum, default_value_t = DevProvider::Simulated)]
        provider: DevProvider,
    },
    /// Consume requests from the queue and send messages.
    Worker,
    /// Serve the HTTP API.
    Http,
    /// Run worker and HTTP API in one process.
    Serve,
    /// Show problems, servers, queues, processes, keys and limits. Exit with 3 if something needed does not work.
    Status,
    /// Check whether a code could be sent to phone numbers.
    CheckNumber {
        /// Numbers in E.164, or national numbers of DEFAULT_REGION.
        #[arg(required = true)]
        numbers: Vec<String>,
    },
    /// Show how much of its limits a phone number or an e-mail address has used.
    RateLimit {
        /// A number in E.164, a national number of DEFAULT_REGION, or an e-mail address.
        #[arg(value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: String,
    },
    /// Show how many of the codes that were sent were verified.
    Conversion(conversion::ConversionArguments),
    /// Show the budgets, and how much was spent on messages.
    Spend(spend::SpendArguments),
    /// Show the pumping defence, or overrule it for a country, a prefix or a number.
    Defence {
        #[command(subcommand)]
        action: defence::DefenceAction,
    },
    /// List, show, replay or drop dead letters.
    DeadLetters {
        #[command(subcommand)]
        action: dead_letters::DeadLetterAction,
    },
    /// Show the history of a request, or list the last requests of a recipient.
    ///
    /// A request that HTTP refuses before queueing (429) leaves no record: `otpost rate-limit` shows how much of its
    /// limits a recipient has used.
    #[command(override_usage = "otpost why [OPTIONS] <REQUEST_ID> [--to <RECIPIENT>]
       otpost why [OPTIONS] --to <RECIPIENT>
       otpost why [OPTIONS] --user <USER_ID>")]
    Why {
        /// The id of the request.
        #[arg(required_unless_present_any = ["to", "user"])]
        request_id: Option<String>,
        /// The recipient, to select one request of a shared id or to list the last requests: a number in E.164, a national
        /// number of DEFAULT_REGION, or an e-mail address.
        #[arg(long, value_name = "RECIPIENT", allow_hyphen_values = true)]
        to: Option<String>,
        /// The user_id of requests, to list those that are recorded. It reads all records, which takes seconds where there are many.
        #[arg(long, value_name = "USER_ID", conflicts_with_all = ["request_id", "to"])]
        user: Option<String>,
    },
    /// List, add or remove suppressed recipients.
    Suppressions {
        #[command(subcommand)]
        action: suppressions::SuppressionAction,
    },
    /// Forget a person: remove histories, codes and masked recipients, and have Twilio delete the texts. Exit with 3 while a request
    /// is in progress.
    #[command(override_usage = "otpost forget [OPTIONS] --to <RECIPIENT> --reason <TEXT>
       otpost forget [OPTIONS] --status")]
    Forget(forget::ForgetArguments),
    /// Read what is stored in Redis, for people.
    Store {
        #[command(subcommand)]
        action: store::StoreAction,
    },
    /// List or follow the acts of operators.
    Audit {
        #[command(subcommand)]
        action: audit::AuditAction,
    },
    /// Stop all sending in every worker, resume it, or show the state.
    KillSwitch {
        #[command(subcommand)]
        action: KillSwitchAction,
    },
    /// Change what all running processes log, for a while: set a filter, show it, or reset it.
    #[command(override_usage = "otpost log-level [OPTIONS] <FILTER> [--for <TIME>]
       otpost log-level [OPTIONS] show
       otpost log-level [OPTIONS] reset")]
    LogLevel {
        /// A level, or several of TARGET=LEVEL with commas between, such as info,otpost::store=debug; or show, or reset.
        #[arg(value_name = "FILTER", value_parser = log_level::parse_action)]
        action: log_level::LogLevelAction,
        /// Until the configured filter counts again: seconds (90s), minutes (15m) or hours (2h), at most 24h. Default: 15m.
        #[arg(long = "for", value_name = "TIME", value_parser = log_level::parse_time)]
        duration: Option<Duration>,
    },
    /// Compare keys with those of other processes, or accept new ones.
    Keys {
        #[command(subcommand)]
        action: keys::KeyAction,
    },
    /// Check the file that describes the providers of text messages.
    Providers {
        #[command(subcommand)]
        action: providers::ProviderAction,
    },
    /// Check message templates and the cost of texts.
    Templates {
        #[command(subcommand)]
        action: templates::TemplateAction,
    },
    /// Show the settings in effect, with secrets hidden, and every error in them.
    Config,
    /// Declare the exchanges and queues, and exit.
    Topology,
    /// Make a token for development.
    Token {
        /// The phone number of the person. Default without --email and --scope: +573001234567.
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
        phone: Option<String>,
        /// The e-mail address of the person.
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// The scopes, such as "otp:send otp:verify". Without --phone and --email, the token is for a service.
        #[arg(long, value_parser = token::scopes)]
        scope: Option<String>,
        /// The lifetime of the token in minutes.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1440))]
        minutes: u32,
    },
    /// Exit with 0 if the process at OPS_ADDR of this machine is ready. For container health checks.
    Health,
}

impl ValueEnum for DevProvider {
    fn value_variants<'a>() -> &'a [DevProvider] {
        &[DevProvider::Simulated, DevProvider::Configured]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            DevProvider::Simulated => PossibleValue::new("simulated").help("Shows messages on the console"),
            DevProvider::Configured => PossibleValue::new("twilio")
                .help("The configured providers, Twilio or others: real messages, real cost"),
        })
    }
}

/// Reads the arguments of this process, or ends it with an error or the help.
pub fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| output::refuse(&with_suggestion(error)))
}

/// Suggests the command with the same letters: clap finds no similarity between `dve` and `dev`.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let typed = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(typed)) if error.kind() == ErrorKind::InvalidSubcommand => letters(typed),
        _ => return error,
    };
    let command = Arguments::command();
    let similar = command.get_subcommands().map(|known| known.get_name().to_owned());
    let similar: Vec<String> = similar.filter(|name| letters(name) == typed).collect();
    if !similar.is_empty() && error.get(ContextKind::SuggestedSubcommand).is_none() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(similar));
    }
    error
}

pub async fn run(arguments: Arguments) -> Exit {
    panics::show_only_places();
    let role = role(&arguments.command);
    // The command that checks texts prints their errors.
    let check = if role == Role::Texts {
        app::config_check::config_errors_except_texts
    } else {
        app::config_check::config_errors
    };
    let settings = match Settings::load(role, check) {
        Ok(settings) => settings,
        Err(errors) if role == Role::Show => return config::show_errors(&errors, arguments.json),
        Err(errors) => {
            if arguments.json {
                let rows =
                    errors.errors.iter().map(|ConfigError { name, problem }| ErrorRow { name, problem });
                print_json(&rows.collect::<Vec<_>>());
            }
            let is_process = matches!(role, Role::Dev | Role::Worker | Role::Http | Role::Serve);
            let problem = if is_process { "cannot start" } else { "cannot do this" };
            eprintln!("otpost {problem} with these settings:\n{errors}");
            config::hint_at_environment(&errors);
            return Exit::Unusable;
        }
    };
    let json = arguments.json;
    match arguments.command {
        Command::Dev { provider } => start(role, settings, provider).await,
        Command::Worker | Command::Http | Command::Serve => {
            start(role, settings, DevProvider::Configured).await
        }
        Command::Status => status::run(&settings, json).await,
        Command::CheckNumber { numbers } => check_number::run(&settings, &numbers, json),
        Command::RateLimit { to } => rate_limit::run(&settings, &to, json).await,
        Command::Conversion(arguments) => conversion::run(&settings, &arguments, json).await,
        Command::Spend(arguments) => spend::run(&settings, &arguments, json).await,
        Command::Defence { action } => defence::run(&settings, &action, json).await,
        Command::DeadLetters { action } => dead_letters::run(&settings, &action, json).await,
        Command::Why { request_id: None, to: None, user: Some(user) } => {
            why::list_of_user(&settings, &user, json).await
        }
        Command::Why { request_id, to, .. } => {
            why::run(&settings, request_id.as_deref(), to.as_deref(), json).await
        }
        Command::Suppressions { action } => suppressions::run(&settings, &action, json).await,
        Command::Forget(arguments) => forget::run(&settings, &arguments, json).await,
        Command::Store { action } => store::run(&settings, &action, json).await,
        Command::Audit { action } => audit::run(&settings, action, json).await,
        Command::KillSwitch { action } => kill_switch::run(&settings, action, json).await,
        Command::LogLevel { action, duration } => log_level::run(&settings, action, duration, json).await,
        Command::Keys { action } => keys::run(&settings, &action, json).await,
        Command::Templates { action } => templates::run(&settings, &action, json),
        Command::Providers { action } => providers::run(&settings, &action, json),
        Command::Config => config::run(&settings, json),
        Command::Topology => topology::run(&settings, json).await,
        Command::Token { phone, email, scope, minutes } => {
            token::run(&settings, phone.as_deref(), email.as_deref(), scope.as_deref(), minutes, json)
        }
        Command::Health => health::run(&settings, json),
    }
}

#[derive(serde::Serialize)]
struct ErrorRow<'a> {
    name: &'a str,
    problem: &'a str,
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
        | Command::Store { .. }
        | Command::KillSwitch { .. }
        | Command::Keys { .. }
        | Command::Conversion(_)
        | Command::Forget(_)
        | Command::Spend(_)
        | Command::Defence { .. }
        | Command::LogLevel { .. } => Role::Store,
        // The recipient key is needed for a replay only.
        Command::Topology | Command::DeadLetters { .. } | Command::Audit { .. } => Role::Topology,
        Command::Status => Role::Status,
        Command::Templates { .. } => Role::Texts,
        Command::Providers { .. } => Role::Providers,
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
    let ended = app::run(role, settings, provider).await;
    telemetry::trace::stop().await;
    match ended {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(&format!("{error:#}"));
            Exit::Failed
        }
    }
}
