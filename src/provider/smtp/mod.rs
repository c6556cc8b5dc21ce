//! SMTP: submits e-mails to a relay.
//!
//! The step of the exchange decides the class of a failure. Before the text is sent, another attempt is safe; from its first
//! byte to the relay's answer the attempt is in doubt. A relay has no lookup and no receipts, so an attempt in doubt stays
//! in doubt. Each copy of a request's e-mail has the same `Message-ID`: a mailbox can recognise a duplicate.
//!
//! A password or a code never crosses a network in clear text: TLS comes first, with a certificate for the relay's name,
//! except to this machine.
//!
//! A connection sends one e-mail at a time and is reused while it is fresh. Steps and replies: RFC 5321; submission:
//! RFC 6409; TLS: RFC 8314 and, for STARTTLS, RFC 3207.

mod errors;
mod relay;
mod replies;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox as HeaderMailbox, MultiPart};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::response::{Response, Severity};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

pub use self::errors::SmtpSettingsError;
use self::errors::{Fault, Step, TIMED_OUT, detail, failure, lacks, refuses_the_email, surely_not_taken};
use self::relay::Relay;
use crate::domain::address::Address;
use crate::domain::email_sender::Mailbox;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::time::UnixMillis;
use crate::provider::{
    Accepted, CredentialError, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message, Provider,
    ProviderMessage, WRONG_CHANNEL,
};
use crate::telemetry::trace::spans;
use crate::tls::TlsClient;

/// Everything needed to hand e-mails to a relay. It holds a secret, hence no `Debug`.
pub struct SmtpSettings {
    /// `smtps://user:password@host:465` for TLS from the first byte; `smtp://user:password@host:587` for
    /// STARTTLS before anything else.
    pub url: SecretString,
    /// Without it, the relay's certificate must be trusted by this machine.
    pub tls: Option<TlsClient>,
    pub from: Mailbox,
    /// The limit of one exchange, from connecting to the last answer.
    pub timeout: Duration,
}

/// A relay closes a connection that is idle for minutes; a much younger one is still open.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// An idle connection without an answer in this time is closed: there must be time for a new one.
const IDLE_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Idle connections that are kept; more are closed.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// Hands e-mails to one relay.
pub struct SmtpProvider {
    relay: Relay,
    from: HeaderMailbox,
    timeout: Duration,
    idle: Mutex<Vec<IdleConnection>>,
}

struct IdleConnection {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl SmtpProvider {
    /// For a relay. Nothing connects yet.
    pub fn new(settings: &SmtpSettings) -> Result<SmtpProvider, SmtpSettingsError> {
        let from = settings.from.address();
        let relay = Relay::parse(&settings.url, domain(from.as_str()), settings.tls.as_ref())?;
        let address = from.as_str().parse().map_err(|_| SmtpSettingsError::From)?;
        let from = HeaderMailbox::new(settings.from.name().map(str::to_owned), address);
        Ok(SmtpProvider { relay, from, timeout: settings.timeout, idle: Mutex::default() })
    }

    /// `None` without TLS.
    pub fn tls(&self) -> Option<&TlsClient> {
        self.relay.tls()
    }

    /// A connection after `MAIL FROM`, `RCPT TO` and `DATA`, ready for the text.
    async fn addressed(&self, to: &lettre::Address, by: Instant) -> Result<AsyncSmtpConnection, SendFailure> {
        // A connection that the relay has closed fails here, where nothing is lost.
        if let Some(mut connection) = self.take_idle() {
            let soon = by.min(Instant::now() + IDLE_ANSWERS_WITHIN);
            match timeout_at(soon, self.envelope(&mut connection, to)).await {
                Ok(Ok(())) => return Ok(connection),
                Ok(Err((step, fault))) if refuses_the_email(&fault) => return Err(failure(step, &fault)),
                // The other idle connections go to the same relay.
                Ok(Err(_)) | Err(_) => self.drop_idle(),
            }
        }
        let fresh = async {
            let mut connection = self.relay.connect().await?;
            self.envelope(&mut connection, to).await?;
            Ok(connection)
        };
        match timeout_at(by, fresh).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err((step, fault))) => Err(failure(step, &fault)),
            Err(_) => Err(SendFailure::NotConnected { detail: TIMED_OUT.to_owned() }),
        }
    }

    async fn envelope(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &lettre::Address,
    ) -> Result<(), (Step, Fault)> {
        let from = Mail::new(Some(self.from.email.clone()), vec![]);
        let from = connection.command(from).await.map_err(Fault::from).and_then(check_completed);
        from.map_err(|fault| (Step::From, fault))?;
        let to = connection.command(Rcpt::new(to.clone(), vec![])).await;
        to.map_err(Fault::from).and_then(check_completed).map_err(|fault| (Step::To, fault))?;
        let text = connection.command(Data).await.map_err(|error| (Step::Text, error.into()))?;
        // Without it the relay would take the text for commands.
        if text.has_code(354) { Ok(()) } else { Err((Step::Text, Fault::OtherReply)) }
    }

    /// The e-mail in its wire format, and its `Message-ID`.
    fn written(&self, message: &Message<'_>, to: lettre::Address) -> Option<(String, Vec<u8>)> {
        let id = self.message_id(message);
        let mail = message.mail?;
        let email = lettre::Message::builder()
            .from(self.from.clone())
            .to(HeaderMailbox::new(None, to))
            .subject(mail.subject)
            .message_id(Some(format!("<{id}>")))
            // Prevents automatic replies (RFC 3834 §5).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(MultiPart::alternative_plain_html(message.body.to_owned(), mail.html.to_owned()))
            .ok()?;
        Some((id, email.formatted()))
    }

    /// The same for every attempt of a request. A digest, so that the source of an e-mail reveals nothing.
    fn message_id(&self, message: &Message<'_>) -> String {
        let digest = Sha256::new()
            .chain_update(message.request_id.as_str())
            .chain_update([0])
            .chain_update(message.to.as_str())
            .finalize();
        format!("{}@{}", hex::encode(&digest[..16]), self.from.email.domain())
    }

    fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| connection.since.elapsed() < IDLE_MAX);
        idle.pop().map(|connection| connection.connection)
    }

    fn drop_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keep_idle(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(IdleConnection { connection, since: Instant::now() });
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
        let invalid = SendFailure::refused(Scope::Request, None);
        let Ok(to) = to.as_str().parse::<lettre::Address>() else { return Err(invalid) };
        let Some((message_id, text)) = self.written(message, to.clone()) else { return Err(invalid) };
        let began = Instant::now();
        let (host, port) = self.relay.server();
        let _span = spans::smtp_send(host, port);
        // The envelope gets half of the time at most: a text that is sent too late would be in doubt.
        let mut connection = self.addressed(&to, began + self.timeout / 2).await?;
        let answer = timeout_at(began + self.timeout, connection.message(&text)).await;
        let answer = answer.map(|answer| answer.map_err(Fault::from).and_then(check_completed));
        let in_doubt = |detail: &str| SendFailure::InDoubt { detail: detail.to_owned() };
        match answer {
            Ok(Ok(())) => {
                self.keep_idle(connection);
                Ok(Accepted { message_id: Some(message_id), segments: None, verification_sid: None })
            }
            Ok(Err(fault)) if surely_not_taken(&fault) => Err(failure(Step::Text, &fault)),
            Ok(Err(fault)) => Err(in_doubt(&detail(&fault))),
            Err(_) => Err(in_doubt(TIMED_OUT)),
        }
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let unanswered = |detail: &str| CredentialError::Unanswered(detail.to_owned());
        match timeout_at(Instant::now() + self.timeout, self.relay.connect()).await {
            Ok(Ok(connection)) => {
                self.keep_idle(connection);
                Ok(())
            }
            Ok(Err((step, fault))) => Err(match (failure(step, &fault), fault.reply_code()) {
                // A relay may refuse connections for an hour: that does not prevent the start.
                (SendFailure::Refused { .. }, Some(reply)) if step == Step::LogIn => {
                    // Reply codes of a login mean the same as HTTP statuses here.
                    CredentialError::Refused { status: reply, provider_code: None }
                }
                (SendFailure::Refused { .. }, None) => CredentialError::UnsupportedLogin(lacks(step)),
                _ => unanswered(&detail(&fault)),
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

/// Refuses a reply that asks for more, such as `354`.
fn check_completed(reply: Response) -> Result<(), Fault> {
    let completed = reply.code().severity == Severity::PositiveCompletion;
    if completed { Ok(()) } else { Err(Fault::OtherReply) }
}

fn domain(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}
