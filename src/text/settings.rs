//! The settings of texts.

use crate::domain::time_zone::Zone;

/// A fourth digit would look like a second code. No code lives that long, and a shorter time in the text does no harm.
pub(super) const MINUTES_MAX: u32 = 999;

#[derive(Clone, Debug)]
pub struct TextSettings {
    pub brand: String,
    pub sms_encoding: SmsEncoding,
    pub default_locale: String,
    /// The time zone of times in texts if a request names none.
    pub default_zone: Zone,
    /// Each template of e-mails needs a text in the default locale.
    pub sends_emails: bool,
    /// The operator's own: each replaces the built-in text of its name and locale, or adds one.
    pub templates: Vec<TemplateFile>,
}

/// A template file: `<template>.<locale>.txt` or, for e-mails, `<template>.<locale>.email.txt`, in MiniJinja's language, with `brand`, `user_name` (none: no
/// greeting), `code`, `minutes` and `expires_at`, a time of the day. A text may test only if there is a name and if it is one
/// minute; any other test of a value is an error.
#[derive(Clone, Debug)]
pub struct TemplateFile {
    pub name: String,
    /// The text, or the reason why it could not be read.
    pub source: Result<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmsEncoding {
    /// Only GSM-7: other characters are folded, and names that cannot be folded are left out.
    Gsm7,
    /// The text as written, at any cost.
    Unicode,
}
