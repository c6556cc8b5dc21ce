//! Writes an e-mail as SendGrid takes it.
//!
//! All text goes in as JSON strings, so that nothing of it can become a header or a recipient. What comes back with each
//! report are the request's id and the number of the try, and nothing of the person or the code: SendGrid keeps such
//! arguments for good and shows them to its staff.
//!
//! No link is rewritten and no picture is put in: such an e-mail is for reading, and what looks at its links would look
//! at the person.

use serde::Serialize;

use crate::domain::email::EmailAddress;
use crate::domain::mailbox::Mailbox;
use crate::provider::{Mail, Message};

/// What all e-mails have in common.
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

/// What reports bring back, among fields of SendGrid's own. The values are texts to it. The number of the try is for whoever
/// looks at SendGrid's log: nothing here reads it.
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
                    otpost_request: message.request.as_str(),
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
