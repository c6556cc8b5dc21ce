//! What settings make: each part of the gateway from what is set.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::app::dev_provider::DevProvider;
use crate::broker::rabbit::RabbitSettings;
use crate::broker::rabbit::dead_letters::RabbitDeadLetters;
use crate::broker::rabbit::error::RabbitError;
use crate::broker::rabbit::probe::RabbitProbe;
use crate::broker::rabbit::topology::{self, Declared};
use crate::broker::{DeadLetters, Names};
use crate::clock::Clock;
use crate::config::{
    ConfigError, EmailProvider, Role, SendGrid, Settings, Smtp, TemplateText, Twilio, TwilioSender,
    VerifyService,
};
use crate::domain::channel::Channel;
use crate::domain::recipient_rules::RecipientRules;
use crate::domain::retry::RetryPolicy;
use crate::flow::gateway::Policy;
use crate::flow::inspect::status::{Inspector, ProcessInfo, ProviderHealthCache};
use crate::flow::receipts::ReceiptProcessor;
use crate::http::Webhooks;
use crate::http::page::Handset;
use crate::provider::sendgrid::events::SendGridEvents;
use crate::provider::sendgrid::{SendGridMail, SendGridSettings};
use crate::provider::simulated::SimulatedProvider;
use crate::provider::smtp::{SmtpProvider, SmtpSettings, SmtpSettingsError};
use crate::provider::twilio::callback::TwilioCallbacks;
use crate::provider::twilio::messages::TwilioMessages;
use crate::provider::twilio::verify::{TwilioVerify, VerifySettings};
use crate::provider::twilio::{Authentication, Sender, TwilioSettings};
use crate::provider::unconfigured::UnconfiguredProvider;
use crate::provider::{Callbacks, CodeVerifier, DeliveryReceipt, Provider};
use crate::store::redis::RedisStore;
use crate::telemetry::events;
use crate::text::lint::{Lint, Place, TextFault};
use crate::text::{SmsEncoding, TemplateFile, TextSettings, Texts};

/// When a provider that reports by itself is asked about a message all the same.
const RECEIPT_DUE_REPORTED: Duration = Duration::from_secs(300);
/// When one that does not is asked first.
const RECEIPT_DUE_ASKED: Duration = Duration::from_secs(60);
/// How long an e-mail in doubt waits for SendGrid's report.
const DOUBT_REPORT_WAIT: Duration = Duration::from_secs(20);
/// Reports of simulated messages under way at once.
const REPORTS_MAX: usize = 1_000;
/// Who reports of them.
const SIMULATED: &str = "simulated";

/// The broker's settings, where a broker is set.
pub(super) fn rabbit_settings(settings: &Settings) -> anyhow::Result<Option<RabbitSettings>> {
    let Some(url) = &settings.amqp_url else {
        return Ok(None);
    };
    let names = Names::new(&settings.amqp_prefix);
    let rabbit = RabbitSettings::new(url.expose_secret(), names, settings.prefetch);
    rabbit.map(Some).context("AMQP_URL")
}

/// Declares the exchanges and queues, and answers what they are.
pub(crate) async fn declare_topology(settings: &Settings) -> anyhow::Result<Vec<Declared>> {
    let rabbit = rabbit_settings(settings)?.context("AMQP_URL must be set")?;
    topology::declare_topology(&rabbit).await.map_err(|error| rabbit_failed(&error))
}

/// A look at what the broker that settings name holds aside.
pub(crate) async fn dead_letters(settings: &Settings) -> anyhow::Result<Box<dyn DeadLetters>> {
    let rabbit = rabbit_settings(settings)?.context("AMQP_URL must be set")?;
    let letters = RabbitDeadLetters::open(&rabbit).await.map_err(|error| rabbit_failed(&error))?;
    Ok(Box::new(letters))
}

/// Which server it was, and its last word. Never its address.
fn rabbit_failed(error: &RabbitError) -> anyhow::Error {
    anyhow!("RabbitMQ (AMQP_URL) {}", error.in_words())
}

/// The store that settings name.
pub(crate) fn redis_store(settings: &Settings) -> anyhow::Result<RedisStore> {
    let url = settings.redis_url.as_ref().context("REDIS_URL must be set")?;
    RedisStore::connect(url.expose_secret(), &settings.redis_prefix)
        .map_err(|_| anyhow!("REDIS_URL is no valid address"))
}

/// Whom settings let us send to.
pub(crate) fn rules(settings: &Settings) -> RecipientRules {
    RecipientRules {
        sms_enabled: settings.sms_enabled,
        email_enabled: settings.email_enabled,
        default_region: settings.default_region,
        allowed_countries: settings.allowed_countries.clone(),
        allow_landline: settings.allow_landline,
    }
}

pub(super) fn policy(settings: &Settings, channel: Channel) -> Policy {
    Policy {
        limits: settings.limits.on(channel),
        code_life: settings.code_life,
        code_length: settings.code_length,
        retry: RetryPolicy::default(),
        provider_timeout: settings.provider_timeout,
        in_doubt: settings.in_doubt,
        doubt_report_wait: doubt_report_wait(settings, channel),
        receipt_due_after: settings.receipt_wait.and_then(|_| receipt_due(settings)),
        reply_to_allowed: settings.reply_to_allowed.clone(),
    }
}

/// SendGrid's reports come within seconds, and only where somebody can prove them.
fn doubt_report_wait(settings: &Settings, channel: Channel) -> Duration {
    let by_sendgrid = channel == Channel::Email && matches!(settings.email, Some(EmailProvider::SendGrid(_)));
    if by_sendgrid && settings.sendgrid_webhook_key.is_some() { DOUBT_REPORT_WAIT } else { Duration::ZERO }
}

/// What reports by itself is asked late, what does not soon, and Verify, which says nothing of single messages, never.
fn receipt_due(settings: &Settings) -> Option<Duration> {
    let twilio = settings.twilio.as_ref();
    let reports = twilio.is_some_and(|twilio| twilio.status_callback.is_some());
    let due = if reports { RECEIPT_DUE_REPORTED } else { RECEIPT_DUE_ASKED };
    Some(due).filter(|_| twilio.is_none_or(|twilio| twilio.verify.is_none()))
}

/// The webhooks of those whose calls can be proven.
pub(super) fn webhooks(
    settings: &Settings,
    tracker: &Arc<ReceiptProcessor>,
) -> anyhow::Result<Arc<Webhooks>> {
    Ok(Arc::new(Webhooks {
        twilio: twilio_callbacks(settings)?,
        sendgrid: sendgrid_events(settings)?,
        tracker: tracker.clone(),
    }))
}

/// Where Twilio is told to call us.
fn twilio_callbacks(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Callbacks>>> {
    let Some(twilio) = &settings.twilio else { return Ok(None) };
    let Some(url) = twilio.status_callback.as_deref() else {
        return Ok(None);
    };
    let callbacks = TwilioCallbacks::new(url, &twilio.account_sid, twilio.tokens.clone())
        .context("TWILIO_STATUS_CALLBACK_URL")?;
    Ok(Some(Arc::new(callbacks)))
}

fn sendgrid_events(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Callbacks>>> {
    let Some(key) = &settings.sendgrid_webhook_key else {
        return Ok(None);
    };
    let events = SendGridEvents::new(key, Clock::System).context("SENDGRID_WEBHOOK_PUBLIC_KEY")?;
    Ok(Some(Arc::new(events)))
}

/// What a channel's messages say. What they cost is told once, by the channel where it is paid for by length.
pub(super) fn texts(settings: &Settings, channel: Channel) -> anyhow::Result<Texts> {
    let texts = Texts::built_in(text_settings(settings))
        .map_err(|faults| anyhow!("the texts cannot be used: {faults:?}"))?;
    let costs = |lint: &&Lint| channel == Channel::Sms && lint.segments.count > 1;
    for Lint { template, locale, segments, .. } in texts.lints().iter().filter(costs) {
        let (count, encoding) = (segments.count, segments.encoding.as_str());
        events::notice(&format!("template {template}.{locale} costs up to {count} segments as {encoding}"));
    }
    Ok(texts)
}

/// What texts are made from.
pub(crate) fn text_settings(settings: &Settings) -> TextSettings {
    let sms_encoding = if settings.gsm7 { SmsEncoding::Gsm7 } else { SmsEncoding::Unicode };
    TextSettings {
        brand: settings.brand.clone(),
        sms_encoding,
        default_locale: settings.default_locale.clone(),
        default_zone: settings.default_zone.clone(),
        templates: settings.templates.iter().flatten().map(template_file).collect(),
    }
}

/// What is wrong with texts: one fault a file, as there is one a variable.
pub(super) fn text_faults(settings: &Settings) -> Vec<ConfigError> {
    let mut faults: Vec<ConfigError> = Vec::new();
    for TextFault { place, problem } in Texts::lint(text_settings(settings)).1 {
        let name = match &place {
            // Who makes no texts does not read them, and cannot know whether there is one in this language.
            Place::DefaultLocale if settings.templates.is_none() => continue,
            Place::File(file) => format!("TEMPLATES_DIR/{file}"),
            place => place.to_string(),
        };
        match faults.iter_mut().find(|fault| fault.name == name) {
            Some(fault) if matches!(place, Place::File(_)) => {
                fault.problem = format!("{}; {problem}", fault.problem);
            }
            Some(_) => {}
            None => faults.push(ConfigError::new(&name, problem)),
        }
    }
    faults
}

fn template_file(template: &TemplateText) -> TemplateFile {
    TemplateFile { name: template.name.clone(), source: template.text.clone() }
}

/// A look at everything that settings name, from a process that does nothing else.
pub(crate) fn inspector(settings: &Settings) -> anyhow::Result<Inspector> {
    let rabbit = rabbit_settings(settings)?.context("AMQP_URL must be set")?;
    Ok(Inspector {
        process: facts(settings, "command", None),
        store: Arc::new(redis_store(settings)?),
        store_in_memory: false,
        broker: Some(Arc::new(RabbitProbe::new(rabbit))),
        provider: account(settings)?,
        email_provider: email_account(settings)?,
        clock: Clock::System,
        provider_health: ProviderHealthCache::default(),
        email_provider_health: ProviderHealthCache::default(),
    })
}

/// What a look at everything tells without asking anybody.
pub(super) fn facts(settings: &Settings, role: &'static str, started: Option<Instant>) -> ProcessInfo {
    let given = settings.shown.iter().filter(|shown| shown.given);
    let mut configured: Vec<&'static str> = given.map(|shown| shown.name).collect();
    configured.sort_unstable();
    ProcessInfo {
        version: env!("CARGO_PKG_VERSION"),
        role,
        production: !settings.is_development(),
        sms_enabled: settings.sms_enabled,
        email_enabled: settings.email_enabled,
        configured,
        limits: settings.limits,
        started,
    }
}

/// The account that is set for sending, for asking how it is.
pub(super) fn account(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Provider>>> {
    let sends = |twilio: &&Twilio| twilio.sender.is_some() || twilio.verify.is_some();
    let Some(twilio) = settings.twilio.as_ref().filter(sends) else {
        return Ok(None);
    };
    text_provider(twilio, settings.provider_timeout).map(Some)
}

/// Who carries text messages by an account: its senders, or a service that makes the codes, too.
fn text_provider(twilio: &Twilio, timeout: Duration) -> anyhow::Result<Arc<dyn Provider>> {
    Ok(match &twilio.verify {
        Some(service) => Arc::new(TwilioVerify::new(&verify_settings(twilio, service, timeout))?),
        None => Arc::new(TwilioMessages::new(twilio_settings(twilio, timeout)?)?),
    })
}

/// Who checks the codes that are not ours. Where it is not there or refuses us, people's right codes would be called over.
pub(super) async fn checker(settings: &Settings) -> anyhow::Result<Option<Arc<dyn CodeVerifier>>> {
    let Some(twilio) = &settings.twilio else { return Ok(None) };
    let Some(service) = &twilio.verify else { return Ok(None) };
    let verify = TwilioVerify::new(&verify_settings(twilio, service, settings.provider_timeout))?;
    match verify.check_credentials().await {
        Err(fault) if fault.is_refusal() && !settings.is_development() => {
            bail!("{}: {fault}: check TWILIO_VERIFY_SERVICE_SID and the account", verify.name())
        }
        Err(fault) => events::notice(&format!("{}: {fault}", verify.name())),
        Ok(()) => {}
    }
    Ok(Some(Arc::new(verify)))
}

fn verify_settings(twilio: &Twilio, service: &VerifyService, timeout: Duration) -> VerifySettings {
    VerifySettings {
        account_sid: twilio.account_sid.clone(),
        authentication: authentication(twilio),
        service_sid: service.sid.clone(),
        base_url: service.base_url.clone(),
        timeout,
    }
}

fn authentication(twilio: &Twilio) -> Authentication {
    Authentication { user: twilio.user.clone(), password: twilio.password.clone() }
}

/// Who carries the messages. Production never simulates, and refused credentials stop it.
pub(super) async fn provider(
    settings: &Settings,
    dev_provider: DevProvider,
    tracker: &Arc<ReceiptProcessor>,
    handset: Option<&Arc<Handset>>,
) -> anyhow::Result<Arc<dyn Provider>> {
    let twilio = match (&settings.twilio, dev_provider) {
        (Some(twilio), DevProvider::Twilio) => twilio,
        (None, DevProvider::Twilio) if !settings.is_development() => bail!("TWILIO_ACCOUNT_SID must be set"),
        (None, DevProvider::Twilio) => {
            events::notice("no account at Twilio is set: text messages are simulated");
            return Ok(simulated(Channel::Sms, settings, tracker, handset));
        }
        (set, DevProvider::Simulated) => {
            if set.is_some() {
                events::notice(&not_used("the account at Twilio", Channel::Sms));
            }
            return Ok(simulated(Channel::Sms, settings, tracker, handset));
        }
    };
    let provider = text_provider(twilio, settings.provider_timeout)?;
    let set = match provider.makes_codes() {
        true => {
            "TWILIO_VERIFY_SERVICE_SID, TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (or TWILIO_API_KEY_SID and its secret)"
        }
        false => "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (or TWILIO_API_KEY_SID and its secret)",
    };
    tested(provider, Channel::Sms, set, settings, tracker).await
}

/// A provider whose credentials were asked about. Refused ones stop the start, where messages are not simulated instead.
async fn tested(
    provider: Arc<dyn Provider>,
    channel: Channel,
    set: &str,
    settings: &Settings,
    tracker: &Arc<ReceiptProcessor>,
) -> anyhow::Result<Arc<dyn Provider>> {
    match provider.check_credentials().await {
        Ok(()) => Ok(provider),
        Err(fault) if fault.is_refusal() => {
            if settings.is_development() {
                events::notice(&format!("{}: {fault}: {} are simulated", provider.name(), messages(channel)));
                return Ok(simulated(channel, settings, tracker, None));
            }
            bail!("{}: {fault}: check {set}", provider.name())
        }
        // An outage of the provider is no reason not to start: what is asked for waits, and is tried in time.
        Err(fault) => {
            events::notice(&format!("{}: {fault}", provider.name()));
            Ok(provider)
        }
    }
}

/// Who has set it may wonder.
fn not_used(set: &str, channel: Channel) -> String {
    let messages = messages(channel);
    format!("{set} is set and not used: {messages} are simulated; otpost dev --provider twilio sends them")
}

fn messages(channel: Channel) -> &'static str {
    match channel {
        Channel::Sms => "text messages",
        Channel::Email => "e-mails",
    }
}

/// Whoever is set for e-mails, for sending and for asking how it is.
pub(super) fn email_account(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Provider>>> {
    let timeout = settings.provider_timeout;
    Ok(match &settings.email {
        _ if !settings.email_enabled => None,
        Some(EmailProvider::SendGrid(sendgrid)) => {
            Some(Arc::new(SendGridMail::new(sendgrid_settings(sendgrid, timeout))?))
        }
        Some(EmailProvider::Smtp(smtp)) => Some(Arc::new(smtp_provider(smtp, timeout).context("SMTP_URL")?)),
        None => None,
    })
}

/// Who carries the e-mails: whoever is set, else they are shown, or nobody does.
pub(super) async fn email_provider(
    settings: &Settings,
    dev_provider: DevProvider,
    tracker: &Arc<ReceiptProcessor>,
    handset: Option<&Arc<Handset>>,
) -> anyhow::Result<Arc<dyn Provider>> {
    if !settings.email_enabled {
        return Ok(Arc::new(UnconfiguredProvider));
    }
    let set = match &settings.email {
        Some(EmailProvider::Smtp(_)) => "SMTP_URL",
        _ => "SENDGRID_API_KEY",
    };
    match (email_account(settings)?, dev_provider) {
        (Some(provider), DevProvider::Twilio) => {
            tested(provider, Channel::Email, set, settings, tracker).await
        }
        (account, _) => {
            if account.is_some() {
                events::notice(&not_used(set, Channel::Email));
            }
            Ok(simulated(Channel::Email, settings, tracker, handset))
        }
    }
}

fn sendgrid_settings(sendgrid: &SendGrid, timeout: Duration) -> SendGridSettings {
    SendGridSettings {
        api_key: sendgrid.api_key.clone(),
        from: sendgrid.from.clone(),
        base_url: sendgrid.base_url.clone(),
        timeout,
    }
}

/// Where the page shows messages. There is none, and so no page, but in `otpost dev` with simulated messages.
pub(super) fn handset(role: Role, dev_provider: DevProvider, settings: &Settings) -> Option<Arc<Handset>> {
    let simulates = matches!((role, dev_provider), (Role::Dev, DevProvider::Simulated));
    simulates.then(|| Arc::new(Handset::new(&settings.brand, Clock::System.now())))
}

/// Shows messages, and reports of them as a real provider would: where Verify is set, what it refuses is refused.
pub(super) fn simulated(
    channel: Channel,
    settings: &Settings,
    tracker: &Arc<ReceiptProcessor>,
    handset: Option<&Arc<Handset>>,
) -> Arc<dyn Provider> {
    let (sender, mut reports) = tokio::sync::mpsc::channel::<DeliveryReceipt>(REPORTS_MAX);
    let tracker = tracker.clone();
    tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            if let Err(error) = tracker.process(SIMULATED, &report).await {
                events::receipt_failed(report.request.as_str(), &error);
            }
        }
    });
    let writes_texts = settings.sms_verify && channel == Channel::Sms;
    let provider = SimulatedProvider::on_stdout(channel).writing_texts(writes_texts);
    provider.on_receipts(sender);
    if let Some(handset) = handset {
        provider.on_messages(handset.clone());
    }
    Arc::new(provider)
}

pub(super) fn smtp_provider(smtp: &Smtp, timeout: Duration) -> Result<SmtpProvider, SmtpSettingsError> {
    SmtpProvider::new(&SmtpSettings { url: smtp.url.clone(), from: smtp.from.clone(), timeout })
}

fn twilio_settings(twilio: &Twilio, timeout: Duration) -> anyhow::Result<TwilioSettings> {
    let sender = twilio.sender.as_ref().context("TWILIO_FROM_NUMBER must be set")?;
    Ok(TwilioSettings {
        account_sid: twilio.account_sid.clone(),
        authentication: authentication(twilio),
        sender: match sender {
            TwilioSender::Numbers(numbers) => Sender::Numbers(numbers.clone()),
            TwilioSender::Service(sid) => Sender::MessagingService(sid.clone()),
        },
        base_url: twilio.base_url.clone(),
        timeout,
        status_callback: twilio.status_callback.clone(),
    })
}
