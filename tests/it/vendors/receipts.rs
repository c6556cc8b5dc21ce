//! The receipts of each shipped file: true, forged, foreign, repeated.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use otpost::domain::receipt::DeliveryStatus;
use otpost::provider::http_api::receipts::HttpApiCallbacks;
use otpost::provider::{Callback, CallbackError, Callbacks as _, DeliveryReceipt, Provider as _};
use sha2::Sha256;

use super::{VENDORS, Vendor, now, reference_in};
use crate::contract::provider::Draft;

/// A call of a vendor, with the parts that it signs.
#[derive(Clone)]
pub struct Call {
    pub query: String,
    pub signature: Option<String>,
    pub timestamp: Option<String>,
    pub body: String,
}

impl Call {
    pub fn read_by(&self, callbacks: &HttpApiCallbacks) -> Result<Vec<DeliveryReceipt>, CallbackError> {
        let call = Callback {
            query: Some(&self.query),
            content_type: None,
            signature: self.signature.as_deref(),
            timestamp: self.timestamp.as_deref(),
            body: self.body.as_bytes(),
        };
        if !callbacks.may_be_signed(&call) {
            return Err(CallbackError::Forged);
        }
        callbacks.read(&call)
    }
}

pub fn signed_by_hmac(secret: &str, text: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key").chain_update(text);
    hex::encode(mac.finalize().into_bytes())
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed")
}

/// The call in which the vendor reports this status of its own.
fn call(vendor: &Vendor, reference: &str, status: &str) -> Call {
    let id = vendor.id;
    let by_reference = |query: String, body: String| Call { query, signature: None, timestamp: None, body };
    match vendor.name {
        "infobip" => by_reference(
            format!("ref={reference}"),
            format!(
                r#"{{"results":[{{"messageId":"{id}","to":"573001234567","status":{{"name":"{status}"}},"error":{{"id":5}}}}]}}"#
            ),
        ),
        "vonage" => by_reference(
            format!("ref={reference}&msisdn=573001234567&messageId={id}&status={status}&err-code=5"),
            String::new(),
        ),
        "jasmin" => by_reference(
            format!("ref={reference}&id={id}&level=2&message_status={status}&err=5"),
            String::new(),
        ),
        "telnyx" => {
            let body = format!(
                r#"{{"data":{{"payload":{{"id":"{id}","to":[{{"status":"{status}"}}],"errors":[{{"code":"5"}}]}}}}}}"#
            );
            let timestamp = now();
            let signature = key().sign(format!("{timestamp}|{body}").as_bytes());
            Call {
                query: format!("ref={reference}"),
                signature: Some(BASE64_STANDARD.encode(signature.as_ref())),
                timestamp: Some(timestamp),
                body,
            }
        }
        _ => {
            let body = format!(r#"{{"ref":"{reference}","id":"{id}","status":"{status}","code":5}}"#);
            let timestamp = now();
            let signature = signed_by_hmac("secret-of-WEBHOOK_SECRET", &format!("{timestamp}.{body}"));
            Call { query: String::new(), signature: Some(signature), timestamp: Some(timestamp), body }
        }
    }
}

/// The vendor's words for a message that arrived, and for one that did not.
fn words(vendor: &Vendor) -> [(&'static str, DeliveryStatus); 2] {
    use DeliveryStatus::{Delivered, Undelivered};
    match vendor.name {
        "infobip" => [("DELIVERED_TO_HANDSET", Delivered), ("UNDELIVERABLE_NOT_DELIVERED", Undelivered)],
        "telnyx" => [("delivered", Delivered), ("delivery_failed", Undelivered)],
        "vonage" => [("delivered", Delivered), ("expired", Undelivered)],
        "jasmin" => [("DELIVRD", Delivered), ("UNDELIV", Undelivered)],
        _ => [("delivered", Delivered), ("undelivered", Undelivered)],
    }
}

#[tokio::test]
async fn a_true_receipt_is_read_and_a_forged_one_is_not() {
    let public = BASE64_STANDARD.encode(key().public_key().as_ref());
    for vendor in VENDORS {
        let (name, fake) = (vendor.name, vendor.fake());
        let described = vendor.described(&fake, &public);
        let draft = Draft::to("+573001234567");
        described.provider.send(&draft.message()).await.expect("accepted");
        let reference = reference_in(&fake.requests()[0]);
        let callbacks = described.callbacks.expect("receipts");
        assert_eq!(callbacks.endpoint().path, format!("/webhooks/{name}"));
        for (word, status) in words(&vendor) {
            let expected = DeliveryReceipt {
                request_id: draft.request.clone(),
                to: draft.to.clone(),
                message_id: vendor.id.to_owned(),
                status,
                provider_code: (!status.is_delivered()).then_some(5),
                reason: otpost::domain::send_failure::RefusalReason::Other,
            };
            let call = call(&vendor, &reference, word);
            // A repeated call is read like the first.
            for _ in 0..2 {
                assert_eq!(call.read_by(&callbacks), Ok(vec![expected.clone()]), "{name}: {word}");
            }
        }
        let true_call = call(&vendor, &reference, words(&vendor)[0].0);
        let other_word = call(&vendor, &reference, "a-new-word");
        assert_eq!(other_word.read_by(&callbacks), Err(CallbackError::Ignored), "{name}");
        // A reference of another key, or a changed one, names no message of ours.
        let mut changed = reference.clone();
        changed.replace_range(..1, if reference.starts_with('A') { "B" } else { "A" });
        for no_reference in [changed.as_str(), "", "r1", &reference[..reference.len() - 1]] {
            let forged = call(&vendor, no_reference, words(&vendor)[0].0).read_by(&callbacks);
            let expected = match name {
                "telnyx" | "webhook" => CallbackError::Foreign,
                _ => CallbackError::Forged,
            };
            assert_eq!(forged, Err(expected), "{name}: {no_reference}");
        }
        if true_call.signature.is_some() {
            let changes: [fn(&mut Call); 4] = [
                |call| call.signature = None,
                |call| call.signature = Some("00".to_owned()),
                |call| call.timestamp = call.timestamp.take().map(|time| format!("{time}0")),
                |call| call.body.push(' '),
            ];
            for change in changes {
                let mut forged = true_call.clone();
                change(&mut forged);
                assert_eq!(forged.read_by(&callbacks), Err(CallbackError::Forged), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_with_several_receipts_is_read_as_far_as_it_can_be() {
    let vendor = Vendor::named("infobip");
    let fake = vendor.fake();
    // References in each element instead of the URL.
    let text = vendor.text(&fake).replace("query:ref", "json:/callbackData");
    let described = super::read(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
    described.provider.send(&Draft::to("+573001234567").message()).await.expect("accepted");
    let reference = reference_in(&fake.requests()[0]);
    let callbacks = described.callbacks.expect("receipts");
    let element = |reference: &str, name: &str| {
        format!(r#"{{"callbackData":"{reference}","messageId":"m1","status":{{"name":"{name}"}}}}"#)
    };
    let good = element(&reference, "DELIVERED_TO_HANDSET");
    let read = |elements: &[&str]| {
        let body = format!(r#"{{"results":[{}]}}"#, elements.join(","));
        Call { query: String::new(), signature: None, timestamp: None, body }.read_by(&callbacks)
    };
    assert_eq!(
        read(&[&good, &element("x", "DELIVERED_TO_HANDSET"), "7", &good]).map(|read| read.len()),
        Ok(2)
    );
    assert_eq!(read(&[&element("x", "DELIVERED_TO_HANDSET")]), Err(CallbackError::Forged));
    assert_eq!(read(&[]).map(|read| read.len()), Ok(0));
    let not_json = Call { query: String::new(), signature: None, timestamp: None, body: "{".to_owned() };
    assert_eq!(not_json.read_by(&callbacks), Err(CallbackError::Unreadable("body")));
}

#[tokio::test]
async fn a_password_or_a_token_proves_a_call() {
    let vendor = Vendor::named("webhook");
    let fake = vendor.fake();
    let text = vendor.text(&fake);
    let (before, _) = text.split_once("[providers.receipts.proof]").expect("a proof");
    let with_proof = |proof: &str| {
        let text = format!("{before}[providers.receipts.proof]\n{proof}\n");
        super::read(&text).unwrap_or_else(|faults| panic!("{faults:?}"))
    };
    let basic = "kind = \"basic\"\nuser = \"ana\"\nsecret = \"env:P\"";
    let header = "kind = \"token\"\nheader = \"X-Token\"\nsecret = \"env:P\"";
    let query = "kind = \"token\"\nquery = \"token\"\nsecret = \"env:P\"";
    let authorization = format!("Basic {}", BASE64_STANDARD.encode("ana:secret-of-P"));
    for (proof, signature, given) in [
        (basic, Some(authorization.as_str()), ""),
        (header, Some("secret-of-P"), ""),
        (query, None, "token=secret-of-P"),
    ] {
        let described = with_proof(proof);
        described.provider.send(&Draft::to("+573001234567").message()).await.expect("accepted");
        let reference = reference_in(fake.requests().last().expect("a request"));
        let callbacks = described.callbacks.expect("receipts");
        let body = format!(r#"{{"ref":"{reference}","id":"m-1","status":"delivered"}}"#);
        let signature = signature.map(str::to_owned);
        let good = Call { query: given.to_owned(), signature, timestamp: None, body };
        assert_eq!(good.read_by(&callbacks).map(|read| read.len()), Ok(1), "{proof}");
        let wrong = Call { signature: Some("secret-of-Q".to_owned()), query: "token=x".to_owned(), ..good };
        assert_eq!(wrong.read_by(&callbacks), Err(CallbackError::Forged), "{proof}");
    }
}
