//! A key that verifies tokens. It is parsed once, by the library that verifies with it: a key that exists can verify.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use num_bigint::BigUint;

/// The longest range that `RSA_PKCS1_2048_8192_SHA256` verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// Of a coordinate on P-256, and of a public key of Ed25519.
pub(super) const POINT_BYTES: usize = 32;
/// Before the coordinates of a point of which both are given (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    HS256,
    RS256,
    ES256,
    EdDSA,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Algorithm> {
        use Algorithm::{ES256, EdDSA, HS256, RS256};
        [HS256, RS256, ES256, EdDSA].into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            Algorithm::EdDSA => "EdDSA",
        }
    }
}

/// The key determines the algorithm, never a token.
pub(super) struct TokenKey {
    algorithm: Algorithm,
    verifier: Verifier,
}

enum Verifier {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl TokenKey {
    pub(super) fn secret(secret: &[u8]) -> TokenKey {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        TokenKey { algorithm: Algorithm::HS256, verifier: Verifier::Secret(Box::new(key)) }
    }

    /// Zeros in front of a number change nothing; some issuers publish one (RFC 7518 §6.3.1.1). The library itself
    /// refuses even numbers and an exponent of one, under which every message would be its own signature.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<TokenKey> {
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        let bits = 8 * n.len() - usize::try_from(n.first()?.leading_zeros()).ok()?;
        if !RSA_BITS.contains(&bits) {
            return None;
        }
        let der = RsaPublicKeyComponents { n, e }.as_der().ok()?;
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der.as_ref()).ok()?;
        Some(TokenKey { algorithm: Algorithm::RS256, verifier: Verifier::Public(key) })
    }

    /// For a point on P-256.
    pub(super) fn p256(x: &[u8], y: &[u8]) -> Option<TokenKey> {
        if [x.len(), y.len()] != [POINT_BYTES; 2] {
            return None;
        }
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[UNCOMPRESSED], x, y].concat()).ok()?;
        Some(TokenKey { algorithm: Algorithm::ES256, verifier: Verifier::Public(key) })
    }

    pub(super) fn ed25519(point: &[u8]) -> Option<TokenKey> {
        if !is_ed25519_point(point) {
            return None;
        }
        let key = ParsedPublicKey::new(&ED25519, point).ok()?;
        Some(TokenKey { algorithm: Algorithm::EdDSA, verifier: Verifier::Public(key) })
    }

    #[cfg(test)]
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Two keys with the same public numbers are one key.
    pub(super) fn is_same(&self, other: &TokenKey) -> bool {
        match (&self.verifier, &other.verifier) {
            (Verifier::Public(key), Verifier::Public(other)) => key.as_ref() == other.as_ref(),
            _ => false,
        }
    }

    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.algorithm == algorithm
            && match &self.verifier {
                Verifier::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
                Verifier::Public(key) => key.verify_sig(signed, signature).is_ok(),
            }
    }
}

/// True for a point on the curve (RFC 8032 §5.1.3) with more than eight multiples. The library looks at a point only when
/// it verifies: it would then refuse every signature, and under one with few multiples anyone could sign.
fn is_ed25519_point(point: &[u8]) -> bool {
    /// The `y` of points with few multiples, besides -1, 0 and 1.
    const FEW: [&[u8]; 2] = [
        b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ];
    let Ok(mut y) = <[u8; POINT_BYTES]>::try_from(point) else {
        return false;
    };
    y[POINT_BYTES - 1] &= 0x7f;
    if FEW.contains(&hex::encode(y).as_bytes()) {
        return false;
    }
    let y = BigUint::from_bytes_le(&y);
    let one = BigUint::from(1_u8);
    let p = (&one << 255) - 19_u8;
    // -121665/121666, the parameter of the curve. The inverse of a number modulo p is its power p - 2.
    let d = (&p - 121_665_u32) * BigUint::from(121_666_u32).modpow(&(&p - 2_u8), &p) % &p;
    if y <= one || y >= &p - 1_u8 {
        return false;
    }
    // x² = (y² - 1) / (d·y² + 1): a square if and only if the product of both is one.
    let square = &y * &y % &p;
    let product = (&square - 1_u8) * (d * &square + 1_u8) % &p;
    product.modpow(&((&p - 1_u8) >> 1), &p) == one
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
