//! The recipient of a request: from the token of a person, or from the body of a service.

use axum::http::StatusCode;

use super::api::Api;
use super::auth::User;
use super::body::Body;
use super::problem::Problem;
use crate::domain::address::Address;
use crate::domain::channel::Channel;

const CHANNEL_RULE: &str = "must be \"sms\" or \"email\"";

pub(super) const fn claim_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Sms => "phone_number",
        Channel::Email => "email",
    }
}

impl User {
    /// The recipient as the token writes it, not validated.
    pub(super) fn claimed_recipient(&self, channel: Channel) -> Result<&str, Problem> {
        let claim = match channel {
            Channel::Sms => &self.claims.phone_number,
            Channel::Email => &self.claims.email,
        };
        let missing = || invalid(format!("the token has no `{}`", claim_name(channel)));
        claim.as_deref().ok_or_else(missing)
    }
}

impl Api {
    /// The recipient in the token of a person. The rules may still reject sending to it.
    pub(super) fn token_recipient(&self, user: &User, channel: Channel) -> Result<Address, Problem> {
        Address::parse_for(channel, user.claimed_recipient(channel)?, self.rules.default_region)
            .map_err(|fault| invalid(format!("the token's `{}` {fault}", claim_name(channel))))
    }

    /// The recipient in `to` of a body. Without `channel`, an `@` makes it an e-mail address.
    pub(super) fn address_in(&self, body: &Body) -> Result<Address, Problem> {
        let channel = named_channel(body)?;
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

/// The channel that a body names.
pub(super) fn named_channel(body: &Body) -> Result<Option<Channel>, Problem> {
    body.optional("channel", CHANNEL_RULE, Channel::parse)
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_recipient").detail(detail)
}
