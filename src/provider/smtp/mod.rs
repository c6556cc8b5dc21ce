//! SMTP: hands e-mails to a relay, which carries them on.
//!
//! The steps of an exchange decide what a failure means. Until the text itself is handed over nothing has left us, so
//! a failure is safe to try again; from its first byte to the relay's answer it is in doubt. A relay shows nothing of
//! what it took, so a doubt stays one, and what becomes of an e-mail later is not told. Each copy of a request's e-mail
//! has the same `Message-ID`: a mailbox that gets two can tell.
//!
//! A password and a code never go over a network in clear: TLS comes first, with a certificate that holds for the
//! relay's name, except to this very machine.
//!
//! A connection takes one e-mail at a time and is used again while it is fresh. Steps and replies: RFC 5321; submission:
//! RFC 6409; TLS: RFC 8314 and, for STARTTLS, RFC 3207.

mod errors;
mod relay;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox as HeaderMailbox, MultiPart};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

pub use self::errors::SmtpSettingsError;
use self::errors::{Step, TIMED_OUT, detail, failure, lacks, was_answered};
use self::relay::Relay;
use crate::domain::address::Address;
use crate::domain::mailbox::Mailbox;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::time::UnixMillis;
use crate::provider::{
    Accepted, CredentialError, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message, Provider,
    ProviderMessage, WRONG_CHANNEL,
};

/// Everything needed to hand e-mails to a relay. It holds a secret, hence no `Debug`.
pub struct SmtpSettings {
    /// `smtps://user:password@host:465` for TLS from the first byte; `smtp://user:password@host:587` turns to TLS before
    /// anything is told.
    pub url: SecretString,
    /// Who e-mails come from.
    pub from: Mailbox,
    /// The limit of one exchange, from connecting to the last answer.
    pub timeout: Duration,
}

/// A relay closes a connection that rests for minutes; a much younger one is still there.
const REST_MAX: Duration = Duration::from_secs(20);
/// One that rested and does not answer so soon is gone: there must be time for another.
const RESTED_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Connections that rest at once; more are closed.
const RESTING_MAX: usize = 32;

/// Hands e-mails to one relay.
pub struct SmtpProvider {
    relay: Relay,
    from: HeaderMailbox,
    timeout: Duration,
    resting: Mutex<Vec<Rested>>,
}

struct Rested {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl SmtpProvider {
    /// For a relay. Nothing connects yet.
    pub fn new(settings: &SmtpSettings) -> Result<SmtpProvider, SmtpSettingsError> {
        let from = settings.from.address();
        let relay = Relay::parse(&settings.url, domain(from.as_str()))?;
        let address = from.as_str().parse().map_err(|_| SmtpSettingsError::From)?;
        let from = HeaderMailbox::new(settings.from.name().map(str::to_owned), address);
        Ok(SmtpProvider { relay, from, timeout: settings.timeout, resting: Mutex::default() })
    }

    /// A connection that knows whom the next e-mail is from and for, and waits for its text.
    async fn addressed(&self, to: &lettre::Address, by: Instant) -> Result<AsyncSmtpConnection, SendFailure> {
        // One that the relay gave up meanwhile is found out here, where nothing is lost.
        if let Some(mut rested) = self.rested() {
            let soon = by.min(Instant::now() + RESTED_ANSWERS_WITHIN);
            match timeout_at(soon, self.envelope(&mut rested, to)).await {
                Ok(Ok(())) => return Ok(rested),
                Ok(Err((step, error))) if was_answered(&error) => return Err(failure(step, &error)),
                // Those that rest beside it came from the same relay.
                Ok(Err(_)) | Err(_) => self.forget_rested(),
            }
        }
        let fresh = async {
            let mut connection = self.relay.connect().await?;
            self.envelope(&mut connection, to).await?;
            Ok(connection)
        };
        match timeout_at(by, fresh).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err((step, error))) => Err(failure(step, &error)),
            Err(_) => Err(SendFailure::Unreachable { detail: TIMED_OUT.to_owned() }),
        }
    }

    async fn envelope(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &lettre::Address,
    ) -> Result<(), (Step, lettre::transport::smtp::Error)> {
        let from = Mail::new(Some(self.from.email.clone()), vec![]);
        connection.command(from).await.map_err(|error| (Step::From, error))?;
        connection.command(Rcpt::new(to.clone(), vec![])).await.map_err(|error| (Step::To, error))?;
        connection.command(Data).await.map_err(|error| (Step::Text, error))?;
        Ok(())
    }

    /// The e-mail as it goes over the wire, and its name.
    fn written(&self, message: &Message<'_>, to: lettre::Address) -> Option<(String, Vec<u8>)> {
        let id = self.message_id(message);
        let mail = message.mail?;
        let email = lettre::Message::builder()
            .from(self.from.clone())
            .to(HeaderMailbox::new(None, to))
            .subject(mail.subject)
            .message_id(Some(format!("<{id}>")))
            // So that nobody's absence note answers it (RFC 3834 §5).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(MultiPart::alternative_plain_html(message.body.to_owned(), mail.html.to_owned()))
            .ok()?;
        Some((id, email.formatted()))
    }

    /// The same for every try of a request. Whoever reads an e-mail's source learns nothing by it.
    fn message_id(&self, message: &Message<'_>) -> String {
        let digest = Sha256::new()
            .chain_update(message.request.as_str())
            .chain_update([0])
            .chain_update(message.to.as_str())
            .finalize();
        format!("{}@{}", hex::encode(&digest[..16]), self.from.email.domain())
    }

    fn rested(&self) -> Option<AsyncSmtpConnection> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|rested| rested.since.elapsed() < REST_MAX);
        resting.pop().map(|rested| rested.connection)
    }

    fn forget_rested(&self) {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn rest(&self, connection: AsyncSmtpConnection) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        if resting.len() < RESTING_MAX {
            resting.push(Rested { connection, since: Instant::now() });
        }
    }
}

#[async_trait]
impl Provider for SmtpProvider {
    fn name(&self) -> &'static str {
        "smtp"
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let Address::Email(to) = message.to else { return Err(WRONG_CHANNEL) };
        let unwritten = SendFailure::rejected(Scope::Request, None);
        let Ok(to) = to.as_str().parse::<lettre::Address>() else { return Err(unwritten) };
        let Some((message_id, text)) = self.written(message, to.clone()) else { return Err(unwritten) };
        let began = Instant::now();
        // Half of the time at most is for getting there: a text that is handed over in haste would be in doubt.
        let mut connection = self.addressed(&to, began + self.timeout / 2).await?;
        let answer = timeout_at(began + self.timeout, connection.message(&text)).await;
        let in_doubt = |detail: &str| SendFailure::InDoubt { detail: detail.to_owned() };
        match answer {
            Ok(Ok(_)) => {
                self.rest(connection);
                Ok(Accepted { message_id: Some(message_id), segments: None, verification: None })
            }
            Ok(Err(error)) if was_answered(&error) => Err(failure(Step::Text, &error)),
            Ok(Err(error)) => Err(in_doubt(detail(&error))),
            Err(_) => Err(in_doubt(TIMED_OUT)),
        }
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let unanswered = |detail: &str| CredentialError::Unanswered(detail.to_owned());
        match timeout_at(Instant::now() + self.timeout, self.relay.connect()).await {
            Ok(Ok(connection)) => {
                self.rest(connection);
                Ok(())
            }
            Ok(Err((step, error))) => Err(match (failure(step, &error), error.status()) {
                // A relay that greets us with a refusal may do so for an hour: no reason not to start.
                (SendFailure::Rejected { .. }, Some(reply)) if step == Step::LogIn => {
                    // A reply to a log-in is a number as HTTP's are, and means the same.
                    CredentialError::Refused { status: reply.into(), code: None }
                }
                (SendFailure::Rejected { .. }, None) => CredentialError::NoWayIn(lacks(step)),
                _ => unanswered(detail(&error)),
            }),
            Err(_) => Err(unanswered(TIMED_OUT)),
        }
    }

    async fn find(&self, _to: &Address, _since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }

    async fn fetch(&self, _message_id: &str) -> Result<FetchedMessage, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }
}

fn domain(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}
