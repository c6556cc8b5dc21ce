//! The rules of settings that only the adapters know. A violation would make the start fail.

use super::brokers::rabbit_settings;
use super::stores::redis_settings;
use super::{certificates, provider_adapters, texts};
use crate::clock::Clock;
use crate::config::{ConfigError, Settings};
use crate::domain::test_number::{TEST_DAYS_MAX, Validity};
use crate::http::{ProofSigner, Tokens};
use crate::telemetry;

/// All errors that the adapters find in settings, without connecting.
///
/// Must run inside the runtime, which the store's client requires.
pub fn config_errors(settings: &Settings) -> Vec<ConfigError> {
    let mut errors = config_errors_except_texts(settings);
    errors.extend(texts::config_errors(settings));
    errors
}

/// The same without the texts, for the command that checks the texts itself.
pub(crate) fn config_errors_except_texts(settings: &Settings) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    errors.extend(rabbit_settings(settings).err().into_iter().flatten());
    errors.extend(redis_settings(settings).and_then(Result::err).into_iter().flatten());
    let tokens = settings.jwt.as_ref().map(Tokens::new);
    if let Some(Err(problem)) = &tokens {
        errors.push(ConfigError::new(problem.setting(), problem.to_string()));
    }
    let problem = match (tokens, settings.proofs.as_ref().map(ProofSigner::new)) {
        (_, Some(Err(problem))) => Some(problem),
        (Some(Ok(tokens)), Some(Ok(proofs))) => tokens.apart_from(&proofs).err(),
        _ => None,
    };
    errors.extend(problem.map(|problem| ConfigError::new("PROOF_KEY", problem.to_string())));
    let too_long = settings.test_numbers.positions(Validity::TooLong, Clock::System.now());
    if let Some(position) = too_long.first() {
        let problem = format!("entry {position} must end in at most {TEST_DAYS_MAX} days");
        errors.push(ConfigError::new("OTP_TEST_NUMBERS", problem));
    }
    errors.extend(provider_adapters::config_errors(settings));
    if let Some(Err(faults)) = settings.traces.as_ref().map(certificates::otlp_tls) {
        errors.extend(faults);
    }
    if let Err(problem) = telemetry::check_filter(&settings.log_filter) {
        errors.push(ConfigError::new("RUST_LOG", problem));
    }
    errors
}

/// Settings that have no effect any more.
pub(crate) fn expired_test_numbers(settings: &Settings) -> Vec<String> {
    let expired = settings.test_numbers.positions(Validity::Expired, Clock::System.now());
    let notice =
        |position| format!("OTP_TEST_NUMBERS: entry {position} has expired, and is a number like any other");
    expired.into_iter().map(notice).collect()
}
