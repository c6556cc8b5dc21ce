//! Builds the adapters of the providers in the settings. Beside [`provider_file`], no other file of the wiring names them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::sms_providers::{ConfiguredProvider, SmsProviders};
use super::{certificates, provider_file};
use crate::clock::Clock;
use crate::config::{
    ConfigError, EmailProvider, EmailWebhook, SendGrid, Settings, SmsProvider, Smtp, Twilio, TwilioSender,
    VerifyService,
};
use crate::domain::channel::Channel;
use crate::provider::sendgrid::events::SendGridEvents;
use crate::provider::sendgrid::{SendGridMail, SendGridSettings};
use crate::provider::smtp::{SmtpProvider, SmtpSettings};
use crate::provider::twilio::callback::TwilioCallbacks;
use crate::provider::twilio::inbound::{self, InboundSettings, TwilioInbound};
use crate::provider::twilio::messages::TwilioMessages;
use crate::provider::twilio::verify::{TwilioVerify, VerifySettings};
use crate::provider::twilio::{self, Authentication, Retention, Sender, TwilioSettings};
use crate::provider::{Callbacks, CodeVerifier, InboundMessages, Provider, http_client};
use crate::telemetry::events;

/// The first poll for a receipt if the provider sends status callbacks.
const RECEIPT_DUE_WITH_CALLBACK: Duration = Duration::from_secs(300);
/// The same if it sends none.
const RECEIPT_DUE_WITHOUT_CALLBACK: Duration = Duration::from_secs(60);
/// SendGrid's events come within seconds.
const SENDGRID_EVENT_WAIT: Duration = Duration::from_secs(20);

/// The errors that the adapters find in settings, without connecting.
pub(super) fn config_errors(settings: &Settings) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut error = |name, problem: String| errors.push(ConfigError::new(name, problem));
    const BASE_URL_RULE: &str = "must be a URL without user, query or fragment";
    if let Some(SmsProvider::Twilio(twilio)) = &settings.sms_provider {
        if http_client::base_url(&twilio.base_url).is_err() {
            error("TWILIO_API_BASE_URL", BASE_URL_RULE.to_owned());
        }
        if twilio.verify.as_ref().is_some_and(|service| http_client::base_url(&service.base_url).is_err()) {
            error("TWILIO_VERIFY_BASE_URL", BASE_URL_RULE.to_owned());
        }
        if let Some(Err(problem)) = twilio.status_callback.as_deref().map(twilio::check_status_callback) {
            error("TWILIO_STATUS_CALLBACK_URL", problem.to_string());
        }
        if let Some(Err(problem)) = twilio.inbound_url.as_deref().map(inbound::check_url) {
            error("TWILIO_INBOUND_URL", problem.to_string());
        }
    }
    if let Some(EmailProvider::SendGrid(sendgrid)) = &settings.email_provider
        && http_client::base_url(&sendgrid.base_url).is_err()
    {
        error("SENDGRID_API_BASE_URL", BASE_URL_RULE.to_owned());
    }
    if let Some(EmailWebhook::SendGrid { public_key }) = &settings.email_webhook
        && let Err(problem) = SendGridEvents::new(public_key, Clock::System)
    {
        error("SENDGRID_WEBHOOK_PUBLIC_KEY", problem.to_string());
    }
    if let Some(SmsProvider::File(file)) = &settings.sms_provider {
        errors.extend(provider_file::config_errors(file, settings));
    }
    if let Some(EmailProvider::Smtp(smtp)) = &settings.email_provider {
        errors.extend(smtp_provider(smtp, settings.provider_timeout).err().into_iter().flatten());
    }
    errors
}

/// The account for text messages; `None` if this process has none that can send.
pub(crate) fn sms_account(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Provider>>> {
    match &settings.sms_provider {
        Some(SmsProvider::Twilio(twilio)) if twilio.sender.is_none() && twilio.verify.is_none() => Ok(None),
        Some(SmsProvider::File(file)) if !file.sends => Ok(None),
        Some(provider) => sms_adapter(provider, settings).map(Some),
        None => Ok(None),
    }
}

/// The name without an account in the settings: `status` shows it where the worker's account is not known.
pub(super) fn sms_provider_name(settings: &Settings) -> &'static str {
    match &settings.sms_provider {
        Some(SmsProvider::File(file)) => {
            provider_file::provider(file, settings).map_or("file", |known| known.name())
        }
        _ => "twilio",
    }
}

pub(super) fn sms_adapter(provider: &SmsProvider, settings: &Settings) -> anyhow::Result<Arc<dyn Provider>> {
    let timeout = settings.provider_timeout;
    let twilio = match provider {
        SmsProvider::Twilio(twilio) => twilio,
        SmsProvider::File(file) => return provider_file::provider(file, settings),
    };
    Ok(match &twilio.verify {
        Some(service) => Arc::new(TwilioVerify::new(&verify_settings(twilio, service, timeout))?),
        None => Arc::new(TwilioMessages::new(twilio_settings(twilio, timeout)?)?),
    })
}

/// The providers of text messages that a worker sends with.
pub(super) fn sms_providers(provider: &SmsProvider, settings: &Settings) -> anyhow::Result<SmsProviders> {
    let provider = sms_adapter(provider, settings)?;
    Ok(SmsProviders::only(configured(provider, Channel::Sms, settings)))
}

/// The only provider of a channel.
pub(super) fn configured(
    provider: Arc<dyn Provider>,
    channel: Channel,
    settings: &Settings,
) -> ConfiguredProvider {
    ConfiguredProvider {
        provider,
        receipt_wait: in_doubt_receipt_wait(settings, channel),
        poll_receipt_after: poll_receipt_after(settings),
        receipts_only: false,
        to_check: credential_settings(settings, channel),
    }
}

/// The account for e-mails; `None` without one, or if e-mails are off.
pub(super) fn email_account(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Provider>>> {
    let timeout = settings.provider_timeout;
    Ok(match &settings.email_provider {
        _ if !settings.email_enabled => None,
        Some(EmailProvider::SendGrid(sendgrid)) => {
            Some(Arc::new(SendGridMail::new(sendgrid_settings(sendgrid, timeout))?))
        }
        Some(EmailProvider::Smtp(smtp)) => {
            let provider = smtp_provider(smtp, timeout).map_err(|errors| certificates::failed(&errors))?;
            certificates::watch(provider.tls(), certificates::SMTP);
            Some(Arc::new(provider))
        }
        None => None,
    })
}

/// The settings that an operator checks when the provider refuses the credentials.
pub(super) fn credential_settings(settings: &Settings, channel: Channel) -> &'static str {
    match (channel, &settings.sms_provider, &settings.email_provider) {
        (Channel::Sms, Some(provider), _) if provider.makes_codes() => {
            "TWILIO_VERIFY_SERVICE_SID, TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (or TWILIO_API_KEY_SID and its secret)"
        }
        (Channel::Sms, Some(SmsProvider::File(_)), _) => "the secrets that PROVIDERS_FILE names",
        (Channel::Sms, ..) => {
            "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (or TWILIO_API_KEY_SID and its secret)"
        }
        (Channel::Email, _, Some(EmailProvider::Smtp(_))) => "SMTP_URL",
        (Channel::Email, ..) => "SENDGRID_API_KEY",
    }
}

/// The verifier of codes that the provider makes. If the provider rejects us, correct codes would be reported as
/// expired: so that prevents the start, except in development.
pub(super) async fn code_verifier(settings: &Settings) -> anyhow::Result<Option<Arc<dyn CodeVerifier>>> {
    let Some(SmsProvider::Twilio(twilio)) = &settings.sms_provider else { return Ok(None) };
    let Some(service) = &twilio.verify else { return Ok(None) };
    let verify = TwilioVerify::new(&verify_settings(twilio, service, settings.provider_timeout))?;
    match verify.check_credentials().await {
        Err(error) if error.is_refusal() && !settings.is_development() => {
            bail!("{}: {error}: check TWILIO_VERIFY_SERVICE_SID and the account", verify.name())
        }
        Err(error) => events::notice(&format!("{}: {error}", verify.name())),
        Ok(()) => {}
    }
    Ok(Some(Arc::new(verify)))
}

/// The readers of callbacks, one for each provider whose signatures can be verified.
pub(super) fn callbacks(settings: &Settings) -> anyhow::Result<Vec<Arc<dyn Callbacks>>> {
    let mut callbacks: Vec<Arc<dyn Callbacks>> = Vec::new();
    if let Some(SmsProvider::Twilio(twilio)) = &settings.sms_provider
        && let Some(url) = twilio.status_callback.as_deref()
    {
        let reader = TwilioCallbacks::new(url, &twilio.account_sid, twilio.tokens.clone());
        callbacks.push(Arc::new(reader.context("TWILIO_STATUS_CALLBACK_URL")?));
    }
    if let Some(SmsProvider::File(file)) = &settings.sms_provider {
        callbacks.extend(provider_file::callbacks(file, settings)?);
    }
    if let Some(EmailWebhook::SendGrid { public_key }) = &settings.email_webhook {
        let reader = SendGridEvents::new(public_key, Clock::System);
        callbacks.push(Arc::new(reader.context("SENDGRID_WEBHOOK_PUBLIC_KEY")?));
    }
    Ok(callbacks)
}

/// The reader of messages of people; `None` if no URL for them is set.
pub(super) fn inbound_messages(settings: &Settings) -> anyhow::Result<Option<Arc<dyn InboundMessages>>> {
    let Some(SmsProvider::Twilio(twilio)) = &settings.sms_provider else { return Ok(None) };
    let Some(public_url) = twilio.inbound_url.as_deref().filter(|_| twilio.verify.is_none()) else {
        return Ok(None);
    };
    let inbound = TwilioInbound::new(&InboundSettings {
        public_url,
        account_sid: &twilio.account_sid,
        tokens: &twilio.tokens,
        authentication: &authentication(twilio),
        base_url: &twilio.base_url,
        timeout: settings.provider_timeout,
    });
    Ok(Some(Arc::new(inbound.context("TWILIO_INBOUND_URL")?)))
}

/// The wait for a receipt of an attempt in doubt, where the provider cannot look messages up but reports them.
fn in_doubt_receipt_wait(settings: &Settings, channel: Channel) -> Duration {
    if let (Channel::Sms, Some(SmsProvider::File(file))) = (channel, &settings.sms_provider) {
        let has_receipts =
            provider_file::callbacks(file, settings).is_ok_and(|callbacks| callbacks.is_some());
        return if has_receipts { provider_file::RECEIPT_WAIT } else { Duration::ZERO };
    }
    match (channel, &settings.email_provider, &settings.email_webhook) {
        (Channel::Email, Some(EmailProvider::SendGrid(_)), Some(EmailWebhook::SendGrid { .. })) => {
            SENDGRID_EVENT_WAIT
        }
        _ => Duration::ZERO,
    }
}

/// The time of the first poll for a receipt; `None` for a provider that reports no single message.
fn poll_receipt_after(settings: &Settings) -> Option<Duration> {
    match &settings.sms_provider {
        Some(SmsProvider::File(_)) => None,
        Some(SmsProvider::Twilio(twilio)) if twilio.verify.is_some() => None,
        Some(SmsProvider::Twilio(twilio)) if twilio.status_callback.is_some() => {
            Some(RECEIPT_DUE_WITH_CALLBACK)
        }
        Some(SmsProvider::Twilio(_)) | None => Some(RECEIPT_DUE_WITHOUT_CALLBACK),
    }
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
        retention: Retention {
            keeps_texts: twilio.retention.keeps_texts,
            keeps_addresses: twilio.retention.keeps_addresses,
        },
    })
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

fn sendgrid_settings(sendgrid: &SendGrid, timeout: Duration) -> SendGridSettings {
    SendGridSettings {
        api_key: sendgrid.api_key.clone(),
        from: sendgrid.from.clone(),
        base_url: sendgrid.base_url.clone(),
        timeout,
    }
}

fn smtp_provider(smtp: &Smtp, timeout: Duration) -> Result<SmtpProvider, Vec<ConfigError>> {
    let (url, from, tls) = (smtp.url.clone(), smtp.from.clone(), certificates::smtp_tls(smtp)?);
    let provider = SmtpProvider::new(&SmtpSettings { url, tls, from, timeout });
    provider.map_err(|rule| vec![ConfigError::new("SMTP_URL", rule.to_string())])
}
