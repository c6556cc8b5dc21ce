//! Keys that anyone can look up: those that standards and makers of tools publish, numbers of mathematics, and digests of
//! common words. No list of them is complete.

use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// Shorter values are no keys: they are part of an accidental form.
pub(super) const KEY_BYTES_MIN: usize = 16;

/// Keys, and texts whose beginning may be taken for a key. None has a pattern.
pub(super) const PUBLISHED: [&str; 26] = [
    // RFC 7515 A.1, also in RFC 7517 A.3 and RFC 7797.
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    // RFC 7520 §3.5 and §3.6, RFC 7517 A.3.
    "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
    "AAPapAv4LbFbiVawEjagUBluYqN5rhna-8nuldDvOx8",
    "GawgguFyGrWKav7AX4VKUg",
    // NIST SP 800-38A F.1 and F.1.5.
    "2b7e151628aed2a6abf7158809cf4f3c",
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    // RFC 8439 §2.5.2.
    "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b",
    // RFC 8032 §7.1.
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
    "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
    // FIPS 180-4: first values and constants of SHA-256, then of SHA-512.
    "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19",
    "428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5",
    "6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82ba54ff53a5f1d36f1",
    "428a2f98d728ae227137449123ef65cdb5c0fbcfec4d3b2fe9b5dba58189dbbc",
    // π and e: decimal digits, then the fractions in hexadecimal digits.
    "31415926535897932384626433832795028841971693993751058209749445923078164062862089986280348253421170679",
    "27182818284590452353602874713526624977572470936999595749669676277240766303535475945713821785251664274",
    "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
    "b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfef",
    // Hardhat's first account.
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    // jwt.io.
    "your-256-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    // Hasura's documentation.
    "3EK6FD+o0+c7tzBNVfjpMkNDi2yARAAKzQlk8O2IKoxQu4nF7EdAh8s3TwpHwrdWT6R",
];

/// Words whose digests serve as keys. The commands that make digests add a line feed.
const WORDS: [&str; 37] = [
    "",
    "0",
    "1234",
    "12345",
    "123456",
    "12345678",
    "123456789",
    "1234567890",
    "abc",
    "admin",
    "changeit",
    "changeme",
    "default",
    "demo",
    "dev",
    "development",
    "example",
    "hello",
    "hello world",
    "jwt",
    "key",
    "letmein",
    "mysecret",
    "otp",
    "otpost",
    "passphrase",
    "passw0rd",
    "password",
    "production",
    "qwerty",
    "root",
    "secret",
    "secret-key",
    "secretkey",
    "supersecret",
    "test",
    "token",
];

/// MD5 digests of [`WORDS`], each without and with a line feed: no other part of this program needs MD5.
const MD5: [&str; 74] = [
    "d41d8cd98f00b204e9800998ecf8427e",
    "68b329da9893e34099c7d8ad5cb9c940",
    "cfcd208495d565ef66e7dff9f98764da",
    "897316929176464ebc9ad085f31e7284",
    "81dc9bdb52d04dc20036dbd8313ed055",
    "e7df7cd2ca07f4f1ab415d457a6e1c13",
    "827ccb0eea8a706c4c34a16891f84e7b",
    "d577273ff885c3f84dadb8578bb41399",
    "e10adc3949ba59abbe56e057f20f883e",
    "f447b20a7fcbf53a5d5be013ea0b15af",
    "25d55ad283aa400af464c76d713c07ad",
    "23cdc18507b52418db7740cbb5543e54",
    "25f9e794323b453885f5181f1b624d0b",
    "b2cfa4183267af678ea06c7407d4d6d8",
    "e807f1fcf82d132f9bb018ca6738a19f",
    "7c12772809c1c0c3deda6103b10fdfa0",
    "900150983cd24fb0d6963f7d28e17f72",
    "0bee89b07a248e27c83fc3d5951213c1",
    "21232f297a57a5a743894a0e4a801fc3",
    "456b7016a916a4b178dd72b947c152b7",
    "b91cd1a54781790beaa2baf741fa6789",
    "5f243f591418ebdcf196600651eb1e97",
    "4cb9c8a8048fd02294477fcb1a41191a",
    "6ac371cc3dc9d38cf33e5c146617df75",
    "c21f969b5f03d33d43e04f8f136e7682",
    "de2b14ae7499f90736fc4a92327553a5",
    "fe01ce2a7fbac8fafaed7c982a04e229",
    "8aae25baff2ef9e3da0ac9ff82467823",
    "e77989ed21758e78331b20e477fc5582",
    "8eec1e97ac602d3228bad33b61efeaae",
    "759b74ce43947f5f4c91aeddc3e5bad3",
    "e42d5f60192d1f8f94ce446fff3113b0",
    "1a79a4d60de6718e8e5b326e338ae533",
    "ddce269a1e3d054cae349621c198dd52",
    "5d41402abc4b2a76b9719d911017c592",
    "b1946ac92492d2347c6235b4d2611184",
    "5eb63bbbe01eeed093cb22bb8f5acdc3",
    "6f5902ac237024bdd0c176cb93063dc4",
    "cfd61b8a7397fa7c10b2ae548f5bfaef",
    "539ab55f594726c4b96f18218747e9b8",
    "3c6e0b8a9c15224a8228b9a98ca1531d",
    "146c07ef2479cedcd54c7c2af5cf3a80",
    "0d107d09f5bbe40cade3de5c71e9e9b7",
    "4aacf9c858c82716ab0034320bd2efe9",
    "06c219e5bc8378f3a8a3f83b4b7e4649",
    "510bef9b27e4ad5e97510f30116a8966",
    "d2270e7120a93c8b0a6a34760e654c7d",
    "8a2d55707a9084982649dadc04b426a0",
    "c46ee3d79882a018f7f148741ab91f86",
    "678a7b09a2af0e100d06237683e3b5e3",
    "d3eb8e78cad217d10feca1080bfb61dc",
    "fbdd7a766f429f25c4a76a60d83ac6d4",
    "bed128365216c019988915ed3add75fb",
    "71d00b760d017b2999eb54e32f41f592",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "286755fad04869ca523320acce0dc6a4",
    "fd89784e59c72499525556f80289b2c7",
    "6f03617bce8a5d04fe97df572f273d05",
    "d8578edf8458ce06fbc5bb76a58c5ca4",
    "a86850deb2742ec3cb41518e26aa2d89",
    "63a9f0ea7bb98050796b649e85481845",
    "74cc1c60799e0a786ac7094b532f01b1",
    "5ebe2294ecd0e0f08eab7690d2a6ee69",
    "dd02c7c2232759874e1c205587017bed",
    "33b9b3de94a42d19f47df7021954eaa8",
    "b1846319bd7f7e3eb8976cb9889818c1",
    "610a2ee688cda9e724885e23cd2cfdee",
    "a3b6cbd250efe3648e2ea543cd6f4a8a",
    "9a618248b64db62d15b300a07b00580b",
    "f755389fd79862493fa2f71c55368006",
    "098f6bcd4621d373cade4e832627b4f6",
    "d8e8fca2dc0f896fd7cb4cb0031ba249",
    "94a08da1fecbb6e8b46990538c7b50b2",
    "f136803ab9c241079ba0cc1b5d02ee77",
];

/// Lengths of digests and of keys that are cut from them.
const KEY_LENGTHS: [usize; 6] = [16, 20, 24, 32, 48, 64];

/// True for a digest of a common word, or for its beginning: keys are cut to length.
pub(super) fn is_digest_of_a_word(key: &[u8]) -> bool {
    let begins = |digest: &[u8]| digest.starts_with(key);
    let of = |text: &[u8]| {
        begins(&Sha1::digest(text)) || begins(&Sha256::digest(text)) || begins(&Sha512::digest(text))
    };
    let is_md5 = || key.len() == KEY_BYTES_MIN && MD5.contains(&hex::encode(key).as_str());
    KEY_LENGTHS.contains(&key.len())
        && (is_md5() || WORDS.iter().any(|word| of(word.as_bytes()) || of(format!("{word}\n").as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_a_word_is_known_at_each_length_of_a_key() {
        let digest = Sha512::digest("secret");
        for length in [16, 32, 48, 64] {
            assert!(is_digest_of_a_word(&digest[..length]), "{length}");
        }
        assert!(!is_digest_of_a_word(&digest[..15]) && !is_digest_of_a_word(&digest[1..33]));
        assert!(is_digest_of_a_word(&Sha1::digest("password\n")));
        assert!(is_digest_of_a_word(&Sha256::digest("")));
        // MD5 of the empty text (RFC 1321 A.5) and of "abc".
        for md5 in ["d41d8cd98f00b204e9800998ecf8427e", "900150983cd24fb0d6963f7d28e17f72"] {
            assert!(is_digest_of_a_word(&hex::decode(md5).expect("hex")), "{md5}");
        }
        assert!(!is_digest_of_a_word(&Sha256::digest("a word of no list")));
        assert_eq!(MD5.len(), 2 * WORDS.len());
    }
}
