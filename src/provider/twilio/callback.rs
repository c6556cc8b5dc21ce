//! Reads Twilio's signed status callbacks.

use secrecy::SecretString;

use super::TwilioSettingsFault;
use crate::provider::{Callback, CallbackFault, Callbacks, Report};

/// Reads status callbacks of one account. It holds secrets, hence no `Debug`.
pub struct TwilioCallbacks {}

impl TwilioCallbacks {
    /// For the URL that Twilio was told, an account, and its tokens: more than one while they are being rotated.
    pub fn new(
        _public_url: &str,
        _account_sid: &str,
        _tokens: Vec<SecretString>,
    ) -> Result<TwilioCallbacks, TwilioSettingsFault> {
        Ok(TwilioCallbacks {})
    }
}

impl Callbacks for TwilioCallbacks {
    fn read(&self, _call: &Callback<'_>) -> Result<Report, CallbackFault> {
        Err(CallbackFault::Forged)
    }
}
