//! HMAC with the algorithms and encodings that vendors use.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::table::{Faults, Table};

/// In constant time.
pub(super) fn equal(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

#[derive(Clone, Copy)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy)]
pub(super) enum Encoding {
    Hex,
    Base64,
}

impl Algorithm {
    pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Algorithm> {
        let place = table.choice("algorithm", &["sha1", "sha256", "sha512"], faults)?;
        Some([Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512][place])
    }

    pub(super) fn mac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        const ANY_KEY: &str = "HMAC takes a key of any length";
        macro_rules! mac {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(key)
                    .expect(ANY_KEY)
                    .chain_update(text)
                    .finalize()
                    .into_bytes()
                    .to_vec()
            };
        }
        match self {
            Algorithm::Sha1 => mac!(Sha1),
            Algorithm::Sha256 => mac!(Sha256),
            Algorithm::Sha512 => mac!(Sha512),
        }
    }
}

impl Encoding {
    pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Encoding> {
        let place = table.choice("encoding", &["hex", "base64"], faults)?;
        Some([Encoding::Hex, Encoding::Base64][place])
    }

    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Hex => hex::encode(bytes),
            Encoding::Base64 => BASE64_STANDARD.encode(bytes),
        }
    }

    pub(super) fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => BASE64_STANDARD.decode(text).ok(),
        }
    }
}
