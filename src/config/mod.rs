//! Settings: read from the environment, checked once, all errors reported together.
//!
//! A [`Settings`] is complete. An error names the variable and the rule, never the value. A command requires only the
//! settings that it uses.

mod collector;
mod dotenv;
mod email;
mod key_patterns;
mod key_rules;
mod proofs;
mod providers;
mod providers_file;
mod published_keys;
mod raw;
mod reader;
mod settings;
mod sms;
mod spend;
mod templates;
mod test_numbers;
mod text_file;
mod tls_files;
mod tokens;
mod traces;
mod twilio;
mod validators;

use std::ffi::OsString;
use std::path::Path;

pub use self::collector::Traces;
pub use self::providers::{
    EmailProvider, EmailWebhook, ProvidersFile, Retention, SendGrid, SmsProvider, Smtp, Twilio, TwilioSender,
    VerifyService,
};
pub use self::providers_file::secret_file;
use self::reader::Reader;
pub use self::settings::{
    ClientFiles, ConfigError, ConfigErrors, DevProvider, Environment, Jwt, JwtKey, ProofSettings, Role,
    Settings, Shown, SpendSettings, TlsFiles, signing_secret,
};
pub(crate) use self::spend::read_prices;
pub use self::templates::TemplateText;

const ENVIRONMENT: &str = "ENVIRONMENT";

impl Settings {
    /// Reads the process's environment and, in development, `.env`.
    pub fn load(
        role: Role,
        check: impl FnOnce(&Settings) -> Vec<ConfigError>,
    ) -> Result<Settings, ConfigErrors> {
        Settings::read(role, std::env::vars_os(), Path::new(".env"), check)
    }

    /// Reads the given variables and, in development, the given file. `check` adds the rules of the adapters that will use
    /// the settings.
    pub fn read(
        role: Role,
        variables: impl Iterator<Item = (OsString, OsString)>,
        dotenv: &Path,
        check: impl FnOnce(&Settings) -> Vec<ConfigError>,
    ) -> Result<Settings, ConfigErrors> {
        let mut errors = Vec::new();
        let mut variables = raw::environment(variables, &mut errors);
        if role == Role::Dev {
            variables.insert(ENVIRONMENT.to_owned(), "development".to_owned());
        }
        let is_development = variables.get(ENVIRONMENT).is_some_and(|name| name.trim() == "development");
        let is_unread = !is_development && dotenv::is_here(dotenv);
        let file = dotenv::read(dotenv);
        let named = file.variables.get(ENVIRONMENT).filter(|name| !name.is_empty()).cloned();
        // The file must not choose development itself: left behind on a server, it would replace keys with public ones and
        // simulate messages.
        if is_development {
            raw::add_dotenv(&mut variables, file, &mut errors);
        }
        raw::add_files(&mut variables, &mut errors);
        raw::check_secrets(&variables, &mut errors);
        let raw = raw::read(&variables);
        let mut reader = Reader::new(&raw, role, errors);
        if named.as_ref().is_some_and(|name| (name == "development") != is_development) {
            reader.notices.push(".env sets ENVIRONMENT to another value, which has no effect".to_owned());
        }
        reader.notice_unknown(&variables);
        let mut settings = reader.settings(&variables);
        let mut errors = reader.errors;
        for error in check(&settings) {
            // One error per variable: a second one would often repeat the first in other words.
            if errors.iter().all(|known| known.name != error.name) {
                errors.push(error);
            }
        }
        const UNREAD: &str = "is here and not read: production takes settings from the environment alone";
        match (is_unread, errors.is_empty()) {
            (true, true) => settings.notices.push(format!("{} {UNREAD}", raw::DOTENV)),
            // The settings that are missing may be in the file.
            (true, false) => errors.push(ConfigError::new(raw::DOTENV, UNREAD)),
            (false, _) => {}
        }
        if errors.is_empty() {
            return Ok(settings);
        }
        let is_given = variables.contains_key(ENVIRONMENT) || named.is_some_and(|name| name != "development");
        let (shown, notices) = (settings.shown, settings.notices);
        Err(ConfigErrors { errors, shown, notices, production_by_default: !is_given })
    }
}
