//! Whose code it is about: the recipient that a person's token names, or the one in a service's body.

use axum::http::StatusCode;

use super::Api;
use super::auth::User;
use super::body::Body;
use super::problem::Problem;
use crate::domain::address::Address;
use crate::domain::channel::Channel;

/// What `channel` must be, where a body may name one.
const CHANNEL_RULE: &str = "must be \"sms\" or \"email\"";

/// The claim that holds a person's recipient of a channel.
pub(super) const fn claim_of(channel: Channel) -> &'static str {
    match channel {
        Channel::Sms => "phone_number",
        Channel::Email => "email",
    }
}

impl User {
    /// The recipient as the token writes it.
    pub(super) fn written(&self, channel: Channel) -> Result<&str, Problem> {
        let claim = match channel {
            Channel::Sms => &self.claims.phone_number,
            Channel::Email => &self.claims.email,
        };
        let none = || invalid(format!("the token has no `{}`", claim_of(channel)));
        claim.as_deref().ok_or_else(none)
    }
}

impl Api {
    /// The recipient that a person's token names, whether or not anything would be sent there.
    pub(super) fn own_address(&self, user: &User, channel: Channel) -> Result<Address, Problem> {
        Address::parse_for(channel, user.written(channel)?, self.rules.default_region)
            .map_err(|fault| invalid(format!("the token's `{}` {fault}", claim_of(channel))))
    }

    /// The recipient in the `to` of a body: a number or an e-mail address, as `channel` says or as it looks.
    pub(super) fn address_in(&self, body: &Body) -> Result<Address, Problem> {
        let channel = body.optional("channel", CHANNEL_RULE, Channel::parse)?;
        let rule = "must be a phone number or an e-mail address";
        let text = body.required("to", rule, |text| Some(text.to_owned()))?;
        let region = self.rules.default_region;
        let to = match channel {
            Some(channel) => Address::parse_for(channel, &text, region),
            None => Address::parse(&text, region),
        };
        to.map_err(|fault| Problem::invalid(format!("`to` {fault}")))
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_recipient").detail(detail)
}
