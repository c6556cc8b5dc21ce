//! Rendered messages, and the values that they are rendered with.

use zeroize::Zeroizing;

use super::autofill::Autofill;
use super::email::RenderedEmail;
use super::gsm7::{self, Segments};
use crate::domain::time::UnixMillis;
use crate::domain::time_zone::Zone;

/// The values of a message. It holds a code: no `Debug`.
pub struct TextValues<'a> {
    pub template: Option<&'a str>,
    /// A language tag, checked by the caller.
    pub locale: Option<&'a str>,
    pub code: &'a str,
    pub user_name: Option<&'a str>,
    pub minutes: u32,
    pub expires_at: UnixMillis,
    /// The time zone of `expires_at` in the text.
    pub zone: Option<&'a Zone>,
    /// The last line of a text message. An e-mail has none.
    pub autofill: Option<&'a Autofill>,
}

/// A text message ready to be sent. It holds a code: no `Debug`, no `Display`, zeroized when dropped.
pub struct RenderedSms {
    body: Zeroizing<String>,
    segments: Segments,
}

impl RenderedSms {
    pub(super) fn new(body: Zeroizing<String>) -> RenderedSms {
        let segments = gsm7::measure(&body);
        RenderedSms { body, segments }
    }

    /// The text with the code in it: for the provider and the simulation's console.
    pub fn expose(&self) -> &str {
        &self.body
    }

    pub fn segments(&self) -> Segments {
        self.segments
    }
}

/// A message ready to be sent, by its channel. It holds a code: no `Debug`.
pub enum Rendered {
    Sms(RenderedSms),
    Email(RenderedEmail),
    /// The provider writes the text, with a code of its own.
    ByProvider,
}

impl Rendered {
    /// The plain text with the code in it.
    pub fn expose(&self) -> &str {
        match self {
            Rendered::Sms(sms) => sms.expose(),
            Rendered::Email(mail) => mail.text(),
            Rendered::ByProvider => "",
        }
    }

    /// `None` for an e-mail.
    pub fn segments(&self) -> Option<u32> {
        match self {
            Rendered::Sms(sms) => Some(sms.segments().count),
            Rendered::Email(_) | Rendered::ByProvider => None,
        }
    }

    pub fn mail(&self) -> Option<&RenderedEmail> {
        match self {
            Rendered::Sms(_) | Rendered::ByProvider => None,
            Rendered::Email(mail) => Some(mail),
        }
    }
}
