//! Writes an e-mail in SendGrid's format.
//!
//! All text goes into JSON strings, so that it cannot become a header or a recipient. The custom arguments, which each event
//! returns, hold the request's id and the number of the attempt, and nothing of the person or the code: SendGrid keeps
//! them for good and shows them to its staff.
//!
//! Tracking is off: no link is rewritten and no image is added, because both would observe the person.

use serde::Serialize;

use crate::domain::email::EmailAddress;
use crate::domain::email_sender::Mailbox;
use crate::provider::{Mail, Message};

/// The parts that all e-mails share.
pub(super) struct Template {
    from: Mailbox,
}

#[derive(Serialize)]
struct Body<'a> {
    personalizations: [Personalization<'a>; 1],
    from: Party<'a>,
    subject: &'a str,
    content: [Content<'a>; 2],
    tracking_settings: TrackingSettings,
}

#[derive(Serialize)]
struct Personalization<'a> {
    to: [Party<'a>; 1],
    custom_args: Arguments<'a>,
}

/// Each event returns them among SendGrid's own fields. The values must be texts. The attempt is for readers of SendGrid's
/// log: no code here reads it.
#[derive(Serialize)]
struct Arguments<'a> {
    otpost_request: &'a str,
    otpost_attempt: &'a str,
}

#[derive(Serialize)]
struct Party<'a> {
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// The plain text has to come first.
#[derive(Serialize)]
struct Content<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    value: &'a str,
}

#[derive(Default, Serialize)]
struct TrackingSettings {
    click_tracking: ClickTracking,
    open_tracking: Switch,
    subscription_tracking: Switch,
    ganalytics: Switch,
}

#[derive(Default, Serialize)]
struct ClickTracking {
    enable: bool,
    enable_text: bool,
}

#[derive(Default, Serialize)]
struct Switch {
    enable: bool,
}

impl Template {
    pub(super) fn new(from: Mailbox) -> Template {
        Template { from }
    }

    pub(super) fn body(&self, message: &Message<'_>, to: &EmailAddress, mail: Mail<'_>) -> Vec<u8> {
        let body = Body {
            personalizations: [Personalization {
                to: [Party { email: to.as_str(), name: None }],
                custom_args: Arguments {
                    otpost_request: message.request_id.as_str(),
                    otpost_attempt: &message.attempt.to_string(),
                },
            }],
            from: Party { email: self.from.address().as_str(), name: self.from.name() },
            subject: mail.subject,
            content: [
                Content { kind: "text/plain", value: message.body },
                Content { kind: "text/html", value: mail.html },
            ],
            tracking_settings: TrackingSettings::default(),
        };
        serde_json::to_vec(&body).expect("an e-mail is plain data")
    }
}
