//! Admission, completion and usage with more than one shard: the subject logs and the places are outside the recipient's shard.
//!
//! The charges are made first, in one round; then the admission decides, and its record lists the charges that it keeps. At last
//! the logs are made to agree with the record. If that fails, the step fails, and its repetition leads to the same corrections.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::RedisStore;
use super::charges::{AdmissionCharges, Charge, ChargeAnswer, RecordedCharges};
use super::keys::request_bytes;
use super::library::Step;
use super::pack::{Packer, Unpacker};
use super::places::{Place, Taken};
use super::replies;
use super::settings::{CallSettings, country_of, subject_limits};
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::{EventLog, Limit, Limits};
use crate::domain::request_id::RequestId;
use crate::domain::suppression::NewSuppression;
use crate::domain::time::{UnixMillis, millis};
use crate::store::{
    Admission, AdmissionInput, CompletionAnswer, CompletionInput, Lease, LimitSubject, StoreError, Usage,
};
use crate::telemetry::events;

/// The letters of an admission that has made the record.
const NEW: [u8; 2] = [b'n', b'c'];

/// A request and its recipient: a member of the logs.
fn member(request_id: &RequestId, recipient: &Digest16) -> Vec<u8> {
    Packer::new().bytes(&request_bytes(request_id)).digest(recipient).done()
}

impl RedisStore {
    pub(super) async fn admit_in_shard(&self, input: &AdmissionInput<'_>) -> Result<Admission, StoreError> {
        let lease = &input.lease;
        let country = self.country_suppression(input.country).await?;
        // Such an admission never makes a record that is charged.
        let is_charged = !input.gate_closed && input.reject_if_new.is_none();
        let mut made =
            if is_charged { self.charge(lease, input.limits).await? } else { AdmissionCharges::default() };
        let settings = CallSettings { limits: Some((None, input.limits)), ..self.settings() };
        let call = self.admission_call(input, &self.keys.of_lease(lease), settings).arg(made.pack(country));
        let read = |answer: &[u8]| {
            let (recorded, rest) = RecordedCharges::split(answer)?;
            let is_new = rest.first().is_some_and(|letter| NEW.contains(letter));
            Some((replies::admission(rest, input)?, recorded, is_new))
        };
        match self.run("admit", &call, read).await {
            Ok((admission, recorded, is_new)) => {
                let is_used = |place: &mut Place| is_new || place.is_kept && recorded.lists_place(place);
                if let Some(place) = made.place.take_if(|place| !is_used(place)) {
                    self.put_back_place(place);
                }
                self.correct(lease, input.limits, &recorded, &made.in_logs).await?;
                Ok(admission)
            }
            Err(error) => {
                match made.place {
                    Some(place) if error.is_permanent() => self.put_back_place(place),
                    // A record may list it nevertheless.
                    Some(place) => self.keep_place(lease.token, place),
                    None => {}
                }
                Err(error)
            }
        }
    }

    pub(super) async fn complete_in_shard(
        &self,
        input: &CompletionInput<'_>,
    ) -> Result<CompletionAnswer, StoreError> {
        let suppression = input.suppression.filter(NewSuppression::lasts);
        let country = country_of(suppression.as_ref());
        let of_recipient = suppression.filter(|_| country.is_none());
        let keys = self.keys.of_lease(&input.lease);
        let call = self.completion_call(input, &keys, self.settings(), of_recipient.as_ref()).arg("");
        let read = |answer: &[u8]| {
            let (recorded, rest) = RecordedCharges::split(answer)?;
            let age = if let [b'r', age @ ..] = rest { Some(Unpacker::new(age).u48()?) } else { None };
            Some((replies::completion_answer(rest)?, recorded, age.map(Duration::from_millis)))
        };
        let (answer, recorded, age) = self.run("complete", &call, read).await?;
        let suppress = async {
            match (country, suppression, age) {
                (Some(country), Some(new), Some(age)) => self.suppress_country_since(country, new, age).await,
                _ => Ok(()),
            }
        };
        let (corrected, suppressed) =
            tokio::join!(self.correct(&input.lease, input.limits, &recorded, &[]), suppress);
        corrected?;
        suppressed?;
        Ok(answer)
    }

    /// Suppresses a country by a completion that was recorded some time ago: if it is repeated, the suppression ends at the same time.
    async fn suppress_country_since(
        &self,
        country: &str,
        suppression: NewSuppression<'_>,
        age: Duration,
    ) -> Result<(), StoreError> {
        let duration = suppression.duration.map(|duration| duration.saturating_sub(age));
        let left = NewSuppression { duration, ..suppression };
        if left.lasts() { self.suppress_country(country, &left).await } else { Ok(()) }
    }

    /// Charges every limit outside the recipient's shard, as far as it allows that.
    ///
    /// After a failure the charges stay: another handler may have found them, and its record counts on them. A repetition finds
    /// them as well.
    async fn charge(&self, lease: &Lease<'_>, limits: &Limits) -> Result<AdmissionCharges, StoreError> {
        let member = member(lease.request_id, &lease.subject.recipient);
        let in_logs = subject_limits(&lease.subject, limits).filter(|(limit, _)| *limit != Limit::All);
        let in_logs =
            join_all(in_logs.map(|(limit, digest)| self.charge_log(limit, digest, limits, &member)));
        let quota = limits[Limit::All];
        let place = async {
            if quota.count == 0 { Ok(None) } else { self.place_of(lease.token, quota).await.map(Some) }
        };
        let (in_logs, place) = tokio::join!(in_logs, place);
        let (mut charges, mut failure) = (AdmissionCharges::default(), None);
        for charged in in_logs {
            match charged {
                Ok((limit, digest, ChargeAnswer::Made(at))) => {
                    charges.in_logs.push(Charge { log: limit.log(), digest, at });
                }
                Ok((limit, _, ChargeAnswer::Refused(wait))) => charges.refused(limit, wait),
                Err(error) => failure = Some(error),
            }
        }
        match place {
            Ok(Some(Taken::Place(place))) => charges.place = Some(place),
            Ok(Some(Taken::Refused(wait))) => charges.refused(Limit::All, wait),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
        match failure {
            None => Ok(charges),
            Some(error) => {
                if let Some(place) = charges.place {
                    self.put_back_place(place);
                }
                Err(error)
            }
        }
    }

    async fn charge_log(
        &self,
        limit: Limit,
        digest: Digest16,
        limits: &Limits,
        member: &[u8],
    ) -> Result<(Limit, Digest16, ChargeAnswer), StoreError> {
        let quota = limits[limit];
        let call = self
            .call(Step::Charge, &[self.keys.subject_log(limit.log(), &digest, false)])
            .arg(self.settings().pack())
            .arg(Packer::new().u32(quota.count).u48(millis(quota.window)).done())
            .arg(member);
        Ok((limit, digest, self.run("charge", &call, ChargeAnswer::read).await?))
    }

    /// Makes the logs and places agree with the record of a request.
    async fn correct(
        &self,
        lease: &Lease<'_>,
        limits: &Limits,
        recorded: &RecordedCharges,
        made: &[Charge],
    ) -> Result<(), StoreError> {
        let corrections = recorded.corrections(made);
        let places = recorded.refunded().iter().filter(|charge| charge.log == EventLog::AllSends);
        let recipient = &lease.subject.recipient;
        let refunds =
            places.map(|place| self.refund_place(lease.request_id, recipient, place.at, limits[Limit::All]));
        let member = member(lease.request_id, recipient);
        let corrections = corrections.iter().map(|(charge, at)| {
            let limit = Limit::ALL.into_iter().find(|limit| limit.log() == charge.log);
            let window = limit.map_or(Duration::ZERO, |limit| limits[limit].window);
            self.correct_log(charge, *at, window, &member)
        });
        let (corrected, refunded) = tokio::join!(join_all(corrections), join_all(refunds));
        let mut failure = None;
        for error in corrected.into_iter().chain(refunded).filter_map(Result::err) {
            // The outcome is recorded, and a repetition would fail likewise.
            if error.is_permanent() {
                events::store_failed("correct_charge", &error, false, None);
            } else {
                failure = Some(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn correct_log(
        &self,
        charge: &Charge,
        at: Option<UnixMillis>,
        window: Duration,
        member: &[u8],
    ) -> Result<(), StoreError> {
        let call = self
            .call(Step::CorrectCharge, &[self.keys.subject_log(charge.log, &charge.digest, false)])
            .arg(self.settings().pack())
            .arg(Packer::new().u48(at.map_or(0, |at| at.0)).u48(millis(window)).done())
            .arg(member);
        self.run("correct_charge", &call, |answer| (answer == b"c").then_some(())).await
    }

    pub(super) async fn usage_in_shards(
        &self,
        subject: &LimitSubject<'_>,
        request_id: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        let recipient = self.keys.recipient(&subject.recipient);
        let request =
            request_id.map_or_else(|| recipient.clone(), |id| self.keys.request(id, &subject.recipient));
        let settings = CallSettings { limits: Some((None, limits)), ..self.settings() };
        let call = self.usage_call(&[recipient.clone(), request, recipient], settings, request_id, limits);
        let waits = subject_limits(subject, limits).map(async |(limit, digest)| {
            self.charge_wait(limit, digest, limits).await.map(|wait| (limit, wait))
        });
        let (mut usage, waits) =
            tokio::try_join!(self.run("usage", &call, replies::usage), try_join_all(waits))?;
        for (limit, wait) in waits {
            if wait > usage.limited_for {
                (usage.limited_for, usage.limited_by) = (wait, Some(limit.into()));
            }
        }
        Ok(usage)
    }

    async fn charge_wait(
        &self,
        limit: Limit,
        digest: Digest16,
        limits: &Limits,
    ) -> Result<Duration, StoreError> {
        let quota = limits[limit];
        if limit == Limit::All {
            return self.place_free_in(quota).await;
        }
        let call = self
            .call(Step::ChargeWait, &[self.keys.subject_log(limit.log(), &digest, false)])
            .arg(self.settings().pack())
            .arg(Packer::new().u32(quota.count).u48(millis(quota.window)).done());
        self.run("usage", &call, |answer| Unpacker::new(answer).u48().map(Duration::from_millis)).await
    }
}
