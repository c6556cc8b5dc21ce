//! Records delivery receipts, from callbacks and from polling, and publishes delivery events.
//!
//! Receipts arrive late, repeated and out of order: the store merges them. If the broker does not confirm an event, the
//! receipt must come again; its event then has the same message id.

use std::sync::Arc;
use std::time::Duration;

use super::complete::suppression_for_store;
use crate::broker::{Outgoing, PublishError, Publisher, Target};
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::delivery_event::{DeliveryEvent, DeliveryEventStatus};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{ErrorCode, OutcomeError};
use crate::domain::receipt::DeliveryStatus;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::recipient_rules::UNREADABLE_RECIPIENT;
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::RefusalReason;
use crate::domain::suppression;
use crate::domain::trace_context::TraceContext;
use crate::provider::{DeliveryReceipt, FetchedMessage, LookupError, Provider};
use crate::store::{NewReceipt, OverdueReceipt, ReceiptAnswer, RequestState, Store, StoreError};
use crate::telemetry::events;
use crate::telemetry::trace;

const POLL_BATCH: u32 = 20;

pub struct ReceiptProcessor {
    pub store: Arc<dyn Store>,
    pub publisher: Arc<dyn Publisher>,
    pub recipient_keyring: Arc<RecipientKeyring>,
    pub clock: Clock,
}

/// The receipt must come again.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// From a callback or a poll.
struct Receipt<'a> {
    provider: &'static str,
    recipient: Digest16,
    request_id: &'a RequestId,
    message_id: &'a str,
    channel: Channel,
    to: Option<&'a Address>,
    status: DeliveryStatus,
    provider_code: Option<u32>,
    reason: RefusalReason,
}

impl ReceiptProcessor {
    pub async fn process(
        &self,
        provider: &'static str,
        receipt: &DeliveryReceipt,
    ) -> Result<(), ReceiptError> {
        self.record(&Receipt {
            provider,
            channel: receipt.to.channel(),
            recipient: self.recipient_keyring.address(receipt.to.channel(), receipt.to.as_str()),
            request_id: &receipt.request_id,
            message_id: &receipt.message_id,
            to: Some(&receipt.to),
            status: receipt.status,
            provider_code: receipt.provider_code,
            reason: receipt.reason,
        })
        .await
    }

    /// Returns the number of overdue receipts: 0 means pause, also because the provider does not answer. What an error
    /// leaves undone comes again.
    pub async fn poll_overdue(
        &self,
        providers: &[Arc<dyn Provider>],
        wait_max: Duration,
    ) -> Result<usize, ReceiptError> {
        let overdue = self.store.overdue_receipts(wait_max, POLL_BATCH).await?;
        for lapsed in overdue.iter().filter(|receipt| receipt.lapsed) {
            events::receipt_lapsed(lapsed.request_id.as_str());
            self.store.end_receipt_wait(lapsed).await?;
        }
        let mut silent = Vec::new();
        for receipt in overdue.iter().filter(|receipt| !receipt.lapsed) {
            let Some(provider) = self.provider_of(receipt, providers).await? else { continue };
            if silent.contains(&provider.name()) {
                continue;
            }
            match provider.fetch(&receipt.message_id).await {
                Ok(fetched) => self.record_fetched(provider.name(), receipt, &fetched).await?,
                Err(LookupError::NotFound) => {}
                // The provider would not answer for the next one either.
                Err(error) => {
                    events::message_lookup(provider.name(), receipt.request_id.as_str(), Some(&error));
                    silent.push(provider.name());
                }
            }
        }
        Ok(if silent.is_empty() { overdue.len() } else { 0 })
    }

    /// The provider that the record names, where there are several.
    async fn provider_of<'a>(
        &self,
        overdue: &OverdueReceipt,
        providers: &'a [Arc<dyn Provider>],
    ) -> Result<Option<&'a dyn Provider>, StoreError> {
        if let [only] = providers {
            return Ok(Some(only.as_ref()));
        }
        let record = self.store.request_record(&overdue.request_id, Some(overdue.recipient)).await?;
        let Some(RequestState::Completed(outcome)) = record.map(|record| record.state) else {
            return Ok(None);
        };
        let is_named = |provider: &&Arc<dyn Provider>| Some(provider.name()) == outcome.provider.as_deref();
        Ok(providers.iter().find(is_named).map(AsRef::as_ref))
    }

    async fn record_fetched(
        &self,
        provider: &'static str,
        overdue: &OverdueReceipt,
        fetched: &FetchedMessage,
    ) -> Result<(), ReceiptError> {
        self.record(&Receipt {
            provider,
            // Only providers of text messages can be polled.
            channel: Channel::Sms,
            recipient: overdue.recipient,
            request_id: &overdue.request_id,
            message_id: &overdue.message_id,
            to: fetched.to.as_ref(),
            status: fetched.status,
            provider_code: fetched.provider_code,
            reason: fetched.reason,
        })
        .await
    }

    async fn record(&self, receipt: &Receipt<'_>) -> Result<(), ReceiptError> {
        let country = receipt.to.and_then(Address::country);
        let masked = receipt.to.map_or_else(|| UNREADABLE_RECIPIENT.to_owned(), Address::masked);
        let suppression = suppression::after_receipt(receipt.reason, receipt.provider_code)
            .filter(|_| receipt.status.is_final());
        let mut new_receipt = NewReceipt {
            recipient: receipt.recipient,
            request_id: receipt.request_id,
            message_id: receipt.message_id,
            status: receipt.status,
            provider_code: receipt.provider_code,
            published: false,
            suppression: suppression.and_then(|it| suppression_for_store(it, country.as_deref(), &masked)),
        };
        let answer = match self.store.record_receipt(&new_receipt).await {
            // A repeated receipt would fail likewise.
            Err(error) if error.is_permanent() => {
                events::receipt_failed(receipt.request_id.as_str(), &error);
                return Ok(());
            }
            answer => answer?,
        };
        events::receipt_recorded(
            receipt.request_id.as_str(),
            receipt.status.as_str(),
            receipt.provider_code,
            receipt.reason,
            answer_label(&answer),
        );
        if let ReceiptAnswer::Publish { purpose, correlation_id, trace } = answer {
            let published = self.publish(receipt, &purpose, correlation_id.as_deref(), trace.as_ref());
            trace::in_trace_of(trace.as_ref(), published).await?;
            (new_receipt.published, new_receipt.suppression) = (true, None);
            self.store.record_receipt(&new_receipt).await?;
        }
        Ok(())
    }

    async fn publish(
        &self,
        receipt: &Receipt<'_>,
        purpose: &str,
        correlation_id: Option<&str>,
        trace: Option<&TraceContext>,
    ) -> Result<(), PublishError> {
        let to = receipt.to.map_or_else(|| UNREADABLE_RECIPIENT.to_owned(), Address::masked);
        let delivered = receipt.status.is_delivered();
        let status =
            if delivered { DeliveryEventStatus::Delivered } else { DeliveryEventStatus::Undelivered };
        let error = OutcomeError {
            provider_code: receipt.provider_code,
            ..OutcomeError::of(ErrorCode::ProviderRejected)
        };
        let at = self.clock.now();
        let event = DeliveryEvent {
            request_id: receipt.request_id.as_str(),
            channel: receipt.channel,
            purpose,
            to: &to,
            status,
            at,
            provider: receipt.provider,
            provider_message_id: receipt.message_id,
            error: (!delivered).then_some((&error).into()),
        };
        let traceparent = trace.map(TraceContext::traceparent);
        let body = serde_json::to_vec(&event).expect("an event is plain data");
        let outgoing = Outgoing {
            target: Target::Results {
                routing_key: match (receipt.channel, delivered) {
                    (Channel::Sms, true) => "sms.delivered",
                    (Channel::Sms, false) => "sms.undelivered",
                    (Channel::Email, true) => "email.delivered",
                    (Channel::Email, false) => "email.undelivered",
                },
            },
            body: &body,
            message_id: &format!("{}:{}", receipt.request_id, status.as_str()),
            correlation_id: Some(correlation_id.unwrap_or(receipt.request_id.as_str())),
            at,
            traceparent: traceparent.as_deref(),
            tracestate: trace.and_then(|trace| trace.state.as_deref()),
        };
        self.publisher.publish(outgoing).await
    }
}

/// In the log and in a metric's label: part of the interface, and older than the glossary.
fn answer_label(answer: &ReceiptAnswer) -> &'static str {
    match answer {
        ReceiptAnswer::Publish { .. } => "news",
        ReceiptAnswer::NothingToPublish => "known",
        ReceiptAnswer::NoRequest => "no_request",
    }
}
