//! The third entrance: what the provider says became of a message, by itself or when asked.
//!
//! A final word is published as `delivered` or `undelivered`, and counts as told when the broker has confirmed it: until
//! then it is published again, with the same message id.
//! Reports come late, twice and out of order; the store merges them, and what says no more than is known is dropped.

use std::sync::Arc;
use std::time::Duration;

use super::complete::new_suppression;
use crate::broker::{Outgoing, PublishError, Publisher, Target};
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{DeliveryEvent, DeliveryEventStatus, ErrorCode, OutcomeError};
use crate::domain::receipt::DeliveryStatus;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::recipient_rules::UNREADABLE;
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::RejectReason;
use crate::domain::suppression;
use crate::provider::{DeliveryReceipt, FetchedMessage, LookupError, Provider};
use crate::store::{OverdueReceipt, ReceiptResult, RecordReceipt, Store, StoreError};
use crate::telemetry::events;

/// Messages asked about in one go.
const ASKED_AT_ONCE: u32 = 20;

/// Follows messages to their end.
pub struct ReceiptProcessor {
    /// What all workers share.
    pub store: Arc<dyn Store>,
    /// Where events go.
    pub publisher: Arc<dyn Publisher>,
    /// What recipients are called in the store.
    pub recipients: Arc<RecipientKeyring>,
    /// What time it is.
    pub clock: Clock,
}

/// A report could not be dealt with: it is to come again.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker did not confirm the event.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What became of a message, and whose it is.
struct MessageStatus<'a> {
    provider: &'static str,
    recipient: Digest16,
    request: &'a RequestId,
    message_id: &'a str,
    /// How the message travelled.
    channel: Channel,
    to: Option<&'a Address>,
    status: DeliveryStatus,
    code: Option<u32>,
    reason: RejectReason,
}

impl ReceiptProcessor {
    /// Takes a report of a provider. `Ok` means that it need not come again.
    pub async fn process(
        &self,
        provider: &'static str,
        report: &DeliveryReceipt,
    ) -> Result<(), ReceiptError> {
        self.take(&MessageStatus {
            provider,
            channel: report.to.channel(),
            recipient: self.recipients.address(report.to.channel(), report.to.as_str()),
            request: &report.request,
            message_id: &report.message_id,
            to: Some(&report.to),
            status: report.status,
            code: report.code,
            reason: report.reason,
        })
        .await
    }

    /// Asks the provider about messages whose report is overdue. Answers how many there were to ask about; none, if it
    /// does not answer.
    pub async fn poll_overdue(
        &self,
        provider: &dyn Provider,
        wait_max: Duration,
    ) -> Result<usize, ReceiptError> {
        let overdue = self.store.overdue_receipts(wait_max, ASKED_AT_ONCE).await?;
        for awaited in &overdue {
            if awaited.lapsed {
                events::receipt_lapsed(awaited.request.as_str());
                continue;
            }
            match provider.fetch(&awaited.message_id).await {
                Ok(fetched) => self.fetched(provider.name(), awaited, &fetched).await?,
                Err(LookupError::NotFound) => {}
                // Where one is not answered the next one is not either; each comes again.
                Err(fault) => {
                    events::message_lookup(provider.name(), awaited.request.as_str(), Some(&fault));
                    return Ok(0);
                }
            }
        }
        Ok(overdue.len())
    }

    async fn fetched(
        &self,
        provider: &'static str,
        awaited: &OverdueReceipt,
        fetched: &FetchedMessage,
    ) -> Result<(), ReceiptError> {
        self.take(&MessageStatus {
            provider,
            // The only channel that is asked about.
            channel: Channel::Sms,
            recipient: awaited.recipient,
            request: &awaited.request,
            message_id: &awaited.message_id,
            to: fetched.to.as_ref(),
            status: fetched.status,
            code: fetched.code,
            reason: fetched.reason,
        })
        .await
    }

    async fn take(&self, word: &MessageStatus<'_>) -> Result<(), ReceiptError> {
        let country = word.to.and_then(Address::country);
        let shown = word.to.map_or_else(|| UNREADABLE.to_owned(), Address::to_string);
        let stop = suppression::after_receipt(word.reason, word.code).filter(|_| word.status.is_final());
        let mut track = RecordReceipt {
            recipient: word.recipient,
            request: word.request,
            message_id: word.message_id,
            status: word.status,
            code: word.code,
            published: false,
            suppression: stop.and_then(|stop| new_suppression(stop, country.as_deref(), &shown)),
        };
        let tracked = self.store.record_receipt(&track).await?;
        events::receipt_recorded(
            word.request.as_str(),
            word.status.as_str(),
            word.code,
            word.reason,
            tracked_word(&tracked),
        );
        if let ReceiptResult::Publish { purpose, correlation_id } = tracked {
            self.publish(word, &purpose, correlation_id.as_deref()).await?;
            (track.published, track.suppression) = (true, None);
            self.store.record_receipt(&track).await?;
        }
        Ok(())
    }

    async fn publish(
        &self,
        word: &MessageStatus<'_>,
        purpose: &str,
        correlation_id: Option<&str>,
    ) -> Result<(), PublishError> {
        let to = word.to.map_or_else(|| UNREADABLE.to_owned(), Address::to_string);
        let delivered = word.status.is_delivered();
        let status =
            if delivered { DeliveryEventStatus::Delivered } else { DeliveryEventStatus::Undelivered };
        let error =
            OutcomeError { provider_code: word.code, ..OutcomeError::of(ErrorCode::ProviderRejected) };
        let at = self.clock.now();
        let event = DeliveryEvent {
            request_id: word.request.as_str(),
            channel: word.channel,
            purpose,
            to: &to,
            status,
            at,
            provider: word.provider,
            provider_message_id: word.message_id,
            error: (!delivered).then_some((&error).into()),
        };
        let body = serde_json::to_vec(&event).expect("an event is plain data");
        let message = Outgoing {
            target: Target::Results {
                routing_key: match (word.channel, delivered) {
                    (Channel::Sms, true) => "sms.delivered",
                    (Channel::Sms, false) => "sms.undelivered",
                    (Channel::Email, true) => "email.delivered",
                    (Channel::Email, false) => "email.undelivered",
                },
            },
            body: &body,
            message_id: &format!("{}:{}", word.request, status.as_str()),
            correlation_id: Some(correlation_id.unwrap_or(word.request.as_str())),
            at,
            traceparent: None,
        };
        self.publisher.publish(message).await
    }
}

fn tracked_word(tracked: &ReceiptResult) -> &'static str {
    match tracked {
        ReceiptResult::Publish { .. } => "news",
        ReceiptResult::Unchanged => "known",
        ReceiptResult::NoRequest => "no_request",
    }
}
