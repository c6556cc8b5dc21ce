//! Classifies the failures of an SMTP exchange.
//!
//! The step, the reply code and the enhanced status code decide, never a text, because texts differ from relay to relay and
//! hold addresses.
//!
//! Replies: RFC 5321 §4.2.3 and §4.3.2, of a log-in RFC 4954 §6. Enhanced numbers: RFC 3463, RFC 5248.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;

use lettre::transport::smtp::Error;

use super::replies::Unwritten;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::tls::fault::{ServerWords, TlsFault};

/// An invalid URL or sender: the rule, never the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmtpSettingsError {
    #[error("must be a URL with a host, as smtps://user:password@mail.example:465")]
    Url,
    #[error("must begin with smtps:// or smtp://")]
    Scheme,
    #[error("must have nothing behind the host and the port")]
    Rest,
    #[error("must have a user and a password, percent-encoded, or neither")]
    Credentials,
    #[error("must be an address that mail servers take")]
    From,
    #[error("needs certificates of authorities for TLS, and this machine has none (SSL_CERT_FILE)")]
    Authorities,
}

/// The failure of a step.
#[derive(Debug)]
pub(super) enum Fault {
    Library(Error),
    Connect(io::Error),
    /// `None`: the connection broke during the handshake.
    Tls(Option<TlsFault>),
    NoStartTls,
    /// Bytes followed the `220` of STARTTLS.
    Injected,
    /// A reply of success that is not the one for this step.
    OtherReply,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Library(error)
    }
}

impl Fault {
    /// The code of a reply that refuses.
    pub(super) fn reply_code(&self) -> Option<u16> {
        match self {
            Fault::Library(error) => error.status().map(u16::from),
            _ => None,
        }
    }

    /// The text of a reply that refuses.
    fn text(&self) -> String {
        match self {
            Fault::Library(error) => error.source().map(ToString::to_string).unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// The relay lacks STARTTLS, or a login method that we support.
    fn is_lack(&self) -> bool {
        match self {
            Fault::Library(error) => error.is_client(),
            Fault::NoStartTls => true,
            _ => false,
        }
    }

    /// Set if nothing of the step was written.
    pub(super) fn unwritten(&self) -> Option<Unwritten> {
        let Fault::Library(error) = self else { return None };
        error.source()?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref().copied()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Connecting, TLS and `EHLO`.
    Hello,
    LogIn,
    /// `MAIL FROM`.
    From,
    /// `RCPT TO`.
    To,
    /// `DATA`.
    Text,
}

pub(super) const TIMED_OUT: &str = "timed out before the answer";

/// True if the relay refused this e-mail, over a connection that it keeps open. A relay that closes the connection (`421`,
/// RFC 5321 §3.8) may take the e-mail over another.
pub(super) fn refuses_the_email(fault: &Fault) -> bool {
    fault.reply_code().is_some_and(|reply_code| reply_code != CLOSING)
}

/// True if the relay certainly does not have the e-mail, of which the text was the last step: nothing of the text was
/// written, or the answer to it is a refusal. With a 4yz, `421` included, a relay takes no responsibility (RFC 5321 §4.2.1
/// and §4.2.5).
pub(super) fn surely_not_taken(fault: &Fault) -> bool {
    fault.reply_code().is_some() || fault.unwritten().is_some()
}

const CLOSING: u16 = 421;

/// The failure of an exchange that certainly sent nothing.
pub(super) fn failure(step: Step, fault: &Fault) -> SendFailure {
    let Some(reply_code) = fault.reply_code() else {
        return match step {
            // Another attempt is no use.
            Step::Hello | Step::LogIn if fault.is_lack() => SendFailure::refused(Scope::Account, None),
            _ => SendFailure::NotConnected { detail: detail(fault).into_owned() },
        };
    };
    match class(step, reply_code, enhanced(reply_code, &fault.text())) {
        Class::Later => SendFailure::Deferred { provider_code: Some(reply_code.into()) },
        Class::Slower => SendFailure::Throttled { provider_code: Some(reply_code.into()), retry_after: None },
        Class::Closed => SendFailure::NotConnected { detail: format!("answered with SMTP {reply_code}") },
        Class::Never(scope) => SendFailure::refused(scope, Some(reply_code.into())),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Defer this e-mail: a full mailbox, or greylisting.
    Later,
    /// Defer this e-mail, and send fewer.
    Slower,
    /// The connection or the relay is closed.
    Closed,
    /// Refused for good.
    Never(Scope),
}

fn class(step: Step, reply_code: u16, enhanced: Option<(u16, u16)>) -> Class {
    match (step, reply_code) {
        (_, CLOSING) => Class::Closed,
        // A relay that requires a login or TLS accepts no e-mail without it.
        (_, 530 | 534 | 535 | 538) => Class::Never(Scope::Account),
        (Step::Hello | Step::LogIn, 400..500) => Class::Closed,
        // Before the recipient is known, or with an enhanced code of the relay itself.
        (Step::From, 400..500) => Class::Slower,
        (_, 400..500) if enhanced.is_some_and(is_about_the_relay) => Class::Slower,
        (_, 400..500) => Class::Later,
        (Step::Hello | Step::LogIn | Step::From, _) => Class::Never(Scope::Account),
        // Without an enhanced code the cause may be us: a relay that refuses our e-mails refuses each recipient.
        (Step::To, 550 | 551 | 553 | 556) if enhanced.is_some_and(is_about_the_mailbox) => {
            Class::Never(Scope::Recipient)
        }
        // The cause may be us: a policy, a reputation, a size.
        (Step::To | Step::Text, _) => Class::Never(Scope::Unrecognised),
    }
}

/// No such mailbox or domain, or one that is closed.
fn is_about_the_mailbox(enhanced: (u16, u16)) -> bool {
    matches!(enhanced, (1, 1 | 2 | 3 | 6 | 10) | (2, 1))
}

/// Its disk is full, or it takes nothing for now.
fn is_about_the_relay((subject, _): (u16, u16)) -> bool {
    subject == 3
}

/// Subject and detail of an enhanced number of the reply's own kind: `5.1.1 …` behind a 550 is (1, 1).
fn enhanced(reply_code: u16, text: &str) -> Option<(u16, u16)> {
    let mut parts = text.split_whitespace().next()?.splitn(3, '.').map(|part| part.parse::<u16>().ok());
    let kind = parts.next()??;
    let found = (parts.next()??, parts.next()??);
    (kind == reply_code / 100).then_some(found)
}

const WORDS: ServerWords =
    ServerWords { server: "the mail server", url: "SMTP_URL", ca: "SMTP_CA_FILE", client_certificate: None };

/// The failed step, in words that name no address.
pub(super) fn detail(fault: &Fault) -> Cow<'static, str> {
    match fault {
        Fault::Tls(Some(fault)) => fault.sentence(&WORDS).into(),
        fault => step_in_words(fault).into(),
    }
}

fn step_in_words(fault: &Fault) -> &'static str {
    let error = match fault {
        Fault::Library(error) => error,
        Fault::Connect(error) if error.kind() == io::ErrorKind::TimedOut => return TIMED_OUT,
        Fault::Connect(_) => return "no connection, or it broke before the answer",
        Fault::Tls(_) => return "the TLS handshake failed",
        Fault::NoStartTls => return LACKING,
        Fault::Injected => return UNASKED,
        Fault::OtherReply => return "the mail server sent another reply than the step has",
    };
    if fault.unwritten() == Some(Unwritten::Unasked) {
        UNASKED
    } else if error.is_timeout() {
        TIMED_OUT
    } else if error.is_client() {
        LACKING
    } else if error.is_response() {
        "the answer broke off or cannot be read"
    } else if error.status().is_some() {
        "the mail server refused"
    } else {
        "no connection, or it broke before the answer"
    }
}

const LACKING: &str = "the mail server lacks what is needed (STARTTLS, or a way to log in)";
const UNASKED: &str = "the mail server sent a reply that no command asked for";

/// The feature that the relay lacks for a step, and the remedy.
pub(super) fn lacks(step: Step) -> &'static str {
    match step {
        Step::LogIn => {
            "the mail server offers no log-in (AUTH PLAIN or LOGIN): leave the user and the password out if it needs \
             none, else take its port for submission, 465 or 587"
        }
        _ => {
            "the mail server offers no STARTTLS: take smtps:// and port 465 if it has TLS from the first byte, else \
             another server"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(step: Step, reply_code: u16, text: &str, expected: Class) {
        assert_eq!(
            class(step, reply_code, enhanced(reply_code, text)),
            expected,
            "{step:?} {reply_code} {text}"
        );
    }

    #[test]
    fn a_mailbox_that_is_not_there_is_about_the_recipient_only() {
        check(Step::To, 550, "5.1.1 <x>: no such user", Class::Never(Scope::Recipient));
        check(Step::To, 550, "no such user", Class::Never(Scope::Unrecognised));
        check(Step::To, 550, "relay not permitted", Class::Never(Scope::Unrecognised));
        check(Step::To, 550, "5.2.1 disabled", Class::Never(Scope::Recipient));
        check(Step::To, 556, "5.1.10 null MX", Class::Never(Scope::Recipient));
    }

    #[test]
    fn a_policy_is_not_the_recipients_fault() {
        check(Step::To, 550, "5.7.1 relaying denied", Class::Never(Scope::Unrecognised));
        check(Step::To, 554, "5.7.1 blocked", Class::Never(Scope::Unrecognised));
        check(Step::Text, 554, "5.7.1 looks like spam", Class::Never(Scope::Unrecognised));
        check(Step::Text, 550, "no", Class::Never(Scope::Unrecognised));
    }

    #[test]
    fn greylisting_and_full_mailboxes_are_for_later() {
        for reply_code in [450, 451, 452] {
            check(Step::To, reply_code, "4.7.1 try again", Class::Later);
            check(Step::To, reply_code, "4.2.2 full", Class::Later);
            check(Step::Text, reply_code, "", Class::Later);
        }
    }

    #[test]
    fn a_relay_that_is_full_itself_is_for_less() {
        for reply_code in [450, 451, 452] {
            check(Step::From, reply_code, "4.7.1 try again", Class::Slower);
            check(Step::From, reply_code, "", Class::Slower);
            check(Step::To, reply_code, "4.3.2 not now", Class::Slower);
            check(Step::Text, reply_code, "4.3.1 disk full", Class::Slower);
            // A number of another kind than the reply says nothing.
            check(Step::Text, reply_code, "5.3.1 odd", Class::Later);
        }
    }

    #[test]
    fn what_concerns_us_concerns_every_email() {
        check(Step::LogIn, 535, "5.7.8 bad credentials", Class::Never(Scope::Account));
        check(Step::From, 530, "5.7.0 authentication required", Class::Never(Scope::Account));
        check(Step::To, 530, "5.7.0 must issue STARTTLS first", Class::Never(Scope::Account));
        check(Step::From, 550, "5.7.1 sender not allowed", Class::Never(Scope::Account));
        check(Step::Hello, 554, "no service", Class::Never(Scope::Account));
    }

    #[test]
    fn a_relay_that_is_closing_is_out_of_reach() {
        for step in [Step::Hello, Step::LogIn, Step::From, Step::To, Step::Text] {
            check(step, 421, "4.3.2 closing", Class::Closed);
        }
        check(Step::LogIn, 454, "4.7.0 temporary", Class::Closed);
    }
}
