//! Settings: read from the environment, checked once, all errors reported together.
//!
//! A [`Settings`] is complete. An error names the variable and the rule, never the value. A command requires only the
//! settings that it uses.

mod email;
mod providers;
mod raw;
mod reader;
mod settings;
mod sms;
mod templates;
mod tokens;
mod twilio;
mod validators;

use std::ffi::OsString;
use std::path::Path;

pub use self::providers::{
    EmailProvider, EmailWebhook, SendGrid, SmsProvider, Smtp, Twilio, TwilioSender, VerifyService,
};
use self::reader::Reader;
pub use self::settings::{
    ConfigError, ConfigErrors, DevProvider, Environment, Jwt, JwtKey, Role, Settings, Shown, signing_secret,
};
pub use self::templates::TemplateText;

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
            variables.insert("ENVIRONMENT".to_owned(), "development".to_owned());
        }
        // The file must not choose development itself: left behind on a server, it would replace keys with public ones and
        // simulate messages.
        if variables.get("ENVIRONMENT").is_some_and(|name| name.trim() == "development") {
            raw::add_dotenv(&mut variables, dotenv, &mut errors);
        }
        raw::add_files(&mut variables, &mut errors);
        let raw = raw::read(&variables);
        let mut reader = Reader::new(&raw, role, errors);
        reader.notice_unknown(&variables);
        let settings = reader.settings();
        let mut errors = reader.errors;
        for error in check(&settings) {
            // One error per variable: a second one would often repeat the first in other words.
            if errors.iter().all(|known| known.name != error.name) {
                errors.push(error);
            }
        }
        if errors.is_empty() {
            Ok(settings)
        } else {
            Err(ConfigErrors { errors, shown: settings.shown, notices: settings.notices })
        }
    }
}
