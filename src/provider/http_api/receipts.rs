//! Reads the receipts of a vendor, as a file describes them.
//!
//! A call is believed only with its proof, and each receipt only with a reference that we sealed: it names the request and
//! the recipient. A receipt that comes again, late or out of order changes nothing.

use super::answers::{is_message_id, number, place_of, required_place};
use super::handshake::Handshake;
use super::place::{self, OF_CALLS, Parts, Place};
use super::proof::{Proof, ProofOfCalls};
use super::reference;
use super::secrets::ReadSecret;
use super::statuses::Statuses;
use super::table::{Faults, Table};
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::encryption::ReferenceKey;
use crate::domain::json::Json;
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::RefusalReason;
use crate::provider::http_client::base_url;
use crate::provider::{Callback, CallbackEndpoint, CallbackError, Callbacks, DeliveryReceipt};
use crate::telemetry;

const BODY_BYTES_MAX: usize = 256 * 1024;
const RECEIPTS_MAX: usize = 1_000;
const REPLY_BYTES_MAX: usize = 256;

/// The description of receipts, without the key of references.
pub(super) struct Receipts {
    /// The public URL of our webhook, which a request may name.
    pub(super) url: Option<String>,
    fields: Fields,
    proof: ProofOfCalls,
    handshake: Option<Handshake>,
    reply: Option<&'static str>,
}

struct Fields {
    /// The list of receipts in a call.
    each: Option<Place>,
    reference: Place,
    id: Place,
    status: Place,
    code: Option<Place>,
    statuses: Statuses,
}

impl Receipts {
    pub(super) fn read(
        table: &mut Table<'_>,
        read: &ReadSecret<'_>,
        faults: &mut Faults<'_>,
    ) -> Option<Receipts> {
        let url = table.text("url", faults);
        let url = url.and_then(|url| {
            let base = faults.ok(url.at, base_url(url.text).map_err(|rule| format!("`url`: {rule}")))?;
            if base.scheme() != "https" && !super::request::is_loopback(&base) {
                faults.add(url.at, "`url` must begin with https://: the vendor calls it");
            }
            Some(url.text.to_owned())
        });
        let reply = table.text("reply", faults);
        if let Some(reply) = reply.filter(|reply| reply.text.len() > REPLY_BYTES_MAX) {
            faults.add(reply.at, format!("`reply` must have at most {REPLY_BYTES_MAX} bytes"));
        }
        let fields = Fields::read(table, faults);
        let proof = proof(table, read, faults);
        let handshake = table.table("handshake", faults).map(|mut handshake| {
            let read = Handshake::read(&mut handshake, read, faults);
            handshake.finish(faults);
            read
        });
        let reply = reply.map(|reply| &*reply.text.to_owned().leak());
        let (fields, proof) = (fields?, proof?);
        let handshake = handshake.map_or(Some(None), |handshake| handshake.map(Some))?;
        for (variable, is_read) in
            [("body", fields.any(Place::is_in_body)), ("query", fields.any(Place::is_in_query))]
        {
            if is_read && !proof.covers(variable) {
                let rule =
                    format!("`proof`: its `text` needs {{{{ {variable} }}}}, from which receipts are read");
                faults.add(table.at, rule);
            }
        }
        Some(Receipts { url, fields, proof, handshake, reply })
    }

    /// Names live as long as the process: a file is read once.
    pub(super) fn callbacks(self, provider: &'static str, key: ReferenceKey) -> HttpApiCallbacks {
        let name = |header: &reqwest::header::HeaderName| &*header.as_str().to_owned().leak();
        let endpoint = CallbackEndpoint {
            provider,
            path: format!("/webhooks/{provider}").leak(),
            signature_header: self.proof.header.as_ref().map_or("authorization", name),
            timestamp_header: self.proof.timestamp_header.as_ref().map(name),
            body_bytes_max: BODY_BYTES_MAX,
            by_get: true,
            reply: self.reply,
        };
        HttpApiCallbacks {
            endpoint,
            fields: self.fields,
            proof: self.proof,
            handshake: self.handshake,
            key,
            clock: Clock::System,
        }
    }
}

fn proof(of: &mut Table<'_>, read: &ReadSecret<'_>, faults: &mut Faults<'_>) -> Option<ProofOfCalls> {
    let Some(mut proof) = of.table("proof", faults) else {
        faults.add(of.at, "`proof` is missing: it shows that a call comes from the vendor");
        return None;
    };
    let read = ProofOfCalls::read(&mut proof, read, faults);
    // A proof that cannot be read has left its other members.
    if read.is_some() {
        proof.finish(faults);
    }
    read
}

impl Fields {
    fn read(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Fields> {
        let each = place_of(table, "each", &["json"], faults);
        let reference = required_place(table, "reference", &OF_CALLS, faults);
        let id = required_place(table, "id", &OF_CALLS, faults);
        let status = required_place(table, "status", &OF_CALLS, faults);
        let code = place_of(table, "code", &OF_CALLS, faults);
        let statuses = Statuses::read(table, faults);
        Some(Fields { each, reference: reference?, id: id?, status: status?, code, statuses })
    }

    /// The reference does not count: it is sealed, and needs no signature.
    fn any(&self, is_there: impl Fn(&Place) -> bool) -> bool {
        [&self.id, &self.status].into_iter().chain(&self.code).any(is_there)
    }
}

/// The receipts of one provider of a file. It holds secrets: no `Debug`.
pub struct HttpApiCallbacks {
    endpoint: CallbackEndpoint,
    fields: Fields,
    proof: ProofOfCalls,
    handshake: Option<Handshake>,
    key: ReferenceKey,
    clock: Clock,
}

impl Callbacks for HttpApiCallbacks {
    fn endpoint(&self) -> CallbackEndpoint {
        self.endpoint
    }

    fn may_be_signed(&self, call: &Callback<'_>) -> bool {
        let parts = Parts { json: None, body: &[], headers: None, query: call.query.unwrap_or_default() };
        // A reference in the query is checked before the body is read.
        let is_ours = !matches!(self.proof.proof, Proof::Reference)
            || !self.fields.reference.is_in_query()
            || self.opened(&parts).is_some();
        is_ours && self.proof.may_hold(call, self.clock.now())
    }

    fn handshake(&self, call: &Callback<'_>) -> Option<String> {
        self.handshake.as_ref()?.answer(call)
    }

    fn read(&self, call: &Callback<'_>) -> Result<Vec<DeliveryReceipt>, CallbackError> {
        if !self.proof.holds(call, self.clock.now()) {
            return Err(CallbackError::Forged);
        }
        let json = Json::read(call.body).ok();
        let query = call.query.unwrap_or_default();
        let parts = Parts { json, body: call.body, headers: None, query };
        let Some(each) = self.fields.each.as_ref().and_then(Place::pointer) else {
            return self.receipt(&parts).map(|receipt| vec![receipt]);
        };
        let list = json.and_then(|json| place::at(json, each)).ok_or(CallbackError::Unreadable("body"))?;
        let list: Result<Vec<Json<'_>>, _> = list.elements().take(RECEIPTS_MAX + 1).collect();
        let list = list.ok().filter(|list| list.len() <= RECEIPTS_MAX);
        let list = list.ok_or(CallbackError::Unreadable("body"))?;
        let read = list.into_iter().map(|element| self.receipt(&Parts { json: Some(element), ..parts }));
        let (receipts, refused): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
        let receipts: Vec<DeliveryReceipt> = receipts.into_iter().flatten().collect();
        let refused: Vec<CallbackError> = refused.into_iter().filter_map(Result::err).collect();
        match refused.first() {
            Some(error) if receipts.is_empty() => Err(*error),
            _ => {
                // One that cannot be read does not hide the others: a refused call would come again with all of them.
                refused.iter().for_each(|error| telemetry::events::callback_refused(error.as_str()));
                Ok(receipts)
            }
        }
    }
}

impl HttpApiCallbacks {
    fn opened(&self, parts: &Parts<'_>) -> Option<(Address, RequestId)> {
        reference::open(&self.key, &self.fields.reference.read(parts)?)
    }

    fn receipt(&self, parts: &Parts<'_>) -> Result<DeliveryReceipt, CallbackError> {
        // Without a reference of ours it is about another message of the account, unless the reference is the proof.
        let foreign = match self.proof.proof {
            Proof::Reference => CallbackError::Forged,
            _ => CallbackError::Foreign,
        };
        let (to, request_id) = self.opened(parts).ok_or(foreign)?;
        let status = self.fields.status.read(parts).ok_or(CallbackError::Unreadable("status"))?;
        let status = self.fields.statuses.meaning(&status).ok_or(CallbackError::Ignored)?;
        let id = self.fields.id.read(parts).filter(|id| is_message_id(id));
        let provider_code = self.fields.code.as_ref().and_then(|place| number(&place.read(parts)?));
        Ok(DeliveryReceipt {
            request_id,
            to,
            message_id: id.ok_or(CallbackError::Unreadable("id"))?.into_owned(),
            status,
            provider_code: provider_code.filter(|_| !status.is_delivered()),
            reason: RefusalReason::Other,
        })
    }
}
