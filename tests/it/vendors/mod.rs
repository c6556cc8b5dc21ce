//! Vendors as files: those that are shipped, faults in files, and a run of the real worker.

mod faults;
mod lookups;
mod proofs;
mod receipts;
mod run;
mod several;
mod shipped;

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::provider::http_api::file::{self, DescribedFile, Kind};
use otpost::provider::http_api::file_settings::FileSettings;
use otpost::provider::http_api::provider_table::Described;
use otpost::provider::http_api::secrets::SecretPlace;
use otpost::provider::http_api::table::Fault;
use secrecy::SecretString;

use crate::fake_http::Recorded;
use crate::fake_vendor::{Answer, FakeVendor};
use crate::harness::RECIPIENT_KEY;
use crate::real;

/// A vendor of `providers/`, as its documentation describes it.
pub struct Vendor {
    pub name: &'static str,
    /// The part of the URL that the fake replaces.
    pub origin: &'static str,
    pub accepted: (u16, &'static str),
    pub id: &'static str,
    /// The beginning of an acceptance shows that it is one.
    pub accepted_by_status: bool,
}

pub const VENDORS: [Vendor; 5] = [
    Vendor {
        name: "infobip",
        origin: "https://example.api.infobip.com",
        accepted: (
            200,
            r#"{"bulkId":"b1","messages":[{"messageId":"2033247207850523791","status":{"groupId":1,"groupName":"PENDING","id":26,"name":"PENDING_ACCEPTED"},"destination":"573001234567"}]}"#,
        ),
        id: "2033247207850523791",
        accepted_by_status: false,
    },
    Vendor {
        name: "telnyx",
        origin: "https://api.telnyx.com",
        accepted: (
            200,
            r#"{"data":{"record_type":"message","direction":"outbound","id":"40385f64-5717-4562-b3fc-2c963f66afa6","parts":1}}"#,
        ),
        id: "40385f64-5717-4562-b3fc-2c963f66afa6",
        accepted_by_status: true,
    },
    Vendor {
        name: "vonage",
        origin: "https://rest.nexmo.com",
        accepted: (
            200,
            r#"{"message-count":"1","messages":[{"to":"573001234567","message-id":"0C000000217B7F02","status":"0","network":"23410"}]}"#,
        ),
        id: "0C000000217B7F02",
        accepted_by_status: false,
    },
    Vendor {
        name: "jasmin",
        origin: "http://127.0.0.1:1401",
        accepted: (200, "Success \"07033084-5cfd-4812-90a4-e4d24ffb6e3d\""),
        id: "07033084-5cfd-4812-90a4-e4d24ffb6e3d",
        accepted_by_status: true,
    },
    Vendor {
        name: "webhook",
        origin: "https://sms.example.com",
        accepted: (202, r#"{"id":"m-1"}"#),
        id: "m-1",
        accepted_by_status: true,
    },
];

/// An Ed25519 key of 32 bytes, in base64.
pub const NO_ONES_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

impl Vendor {
    pub fn named(name: &str) -> Vendor {
        VENDORS.into_iter().find(|vendor| vendor.name == name).expect("a vendor")
    }

    pub fn fake(&self) -> FakeVendor {
        let (status, body) = self.accepted;
        FakeVendor::start(Answer::Status(status, "", body.to_owned()))
    }

    /// The shipped file, with the fake in place of the vendor.
    pub fn text(&self, fake: &FakeVendor) -> String {
        let path = format!("{}/providers/{}.toml", env!("CARGO_MANIFEST_DIR"), self.name);
        let text = std::fs::read_to_string(path).expect("a file of text");
        assert!(text.contains(self.origin), "{} names no {}", self.name, self.origin);
        text.replace(self.origin, &fake.base_url())
    }

    pub fn described(&self, fake: &FakeVendor, public_key: &str) -> Described {
        read_with(&self.text(fake), public_key).unwrap_or_else(|faults| panic!("{}: {faults:?}", self.name))
    }
}

/// The only provider of a file.
pub fn read(text: &str) -> Result<Described, Vec<Fault>> {
    read_with(text, NO_ONES_KEY)
}

fn read_with(text: &str, public_key: &str) -> Result<Described, Vec<Fault>> {
    let mut providers = read_file(text, public_key)?.providers;
    match providers.pop().expect("a provider").kind {
        Kind::Http(described) => Ok(*described),
        Kind::Twilio(_) => panic!("another kind"),
    }
}

/// The seconds since 1970, as a vendor signs them.
pub fn now() -> String {
    Clock::System.now().as_seconds().to_string()
}

/// Each secret is `secret-of-` and the name of its variable.
pub fn read_file(text: &str, public_key: &str) -> Result<DescribedFile, Vec<Fault>> {
    real::install_crypto();
    let secret = |place: &SecretPlace| match place {
        SecretPlace::Variable(name) if name == "TELNYX_PUBLIC_KEY" => Ok(SecretString::from(public_key)),
        SecretPlace::Variable(name) if name.starts_with("UNSET") => {
            Err(format!("`env:{name}` names no variable that is set"))
        }
        SecretPlace::Variable(name) => Ok(format!("secret-of-{name}").into()),
        SecretPlace::File(_) => Err("`file:` names a file that does not exist".to_owned()),
    };
    let keyring = RecipientKeyring::new(&RECIPIENT_KEY);
    file::read(&FileSettings {
        text,
        timeout: Duration::from_secs(5),
        reference_key: Some(keyring.reference_key()),
        sending: &secret,
        receiving: &secret,
    })
}

/// The sealed reference in a request: in a callback URL, or in a field of its own.
pub fn reference_in(request: &Recorded) -> String {
    let body = String::from_utf8(request.body.clone()).expect("text");
    let decoded: String = percent_encoding::percent_decode_str(&body).decode_utf8_lossy().into_owned();
    let (_, rest) = decoded.split_once("ref=").or(decoded.split_once("\"ref\":\"")).expect("a reference");
    let of_reference = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
    rest.split(|char| !of_reference(char)).next().expect("a first part").to_owned()
}
