//! The call by which some vendors ask if a webhook is ours: a GET with a token that we chose and a challenge, which is the
//! answer.

use secrecy::SecretString;

use super::answers::required_place;
use super::place::{Parts, Place};
use super::proof::is_in_query;
use super::secrets::{self, ReadSecret};
use super::table::{Faults, Table};
use crate::provider::Callback;

const CHALLENGE_BYTES_MAX: usize = 256;

/// It holds a secret: no `Debug`.
pub(super) struct Handshake {
    challenge: Place,
    token: Place,
    secret: SecretString,
}

impl Handshake {
    pub(super) fn read(
        table: &mut Table<'_>,
        read: &ReadSecret<'_>,
        faults: &mut Faults<'_>,
    ) -> Option<Handshake> {
        let challenge = required_place(table, "challenge", &["query"], faults);
        let token = required_place(table, "token", &["query"], faults);
        let secret = secrets::required(table, "secret", read, faults);
        Some(Handshake { challenge: challenge?, token: token?, secret: secret? })
    }

    /// The challenge, if the token is ours. Other characters than those of tokens are no challenge: the answer shows it.
    pub(super) fn answer(&self, call: &Callback<'_>) -> Option<String> {
        let parts = Parts { json: None, body: &[], headers: None, query: call.query.unwrap_or_default() };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let challenge = self.challenge.read(&parts)?;
        let is_challenge =
            (1..=CHALLENGE_BYTES_MAX).contains(&challenge.len()) && challenge.bytes().all(is_plain);
        (is_challenge && is_in_query(&self.token, &self.secret, call)).then(|| challenge.into_owned())
    }
}
