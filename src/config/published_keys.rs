//! Keys that anyone can look up: those that standards and makers of tools publish, numbers of mathematics, and digests of
//! common words. No list of them is complete.

use std::sync::LazyLock;

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

/// MD5 digests of [`WORDS`], each without and with a line feed, then SHA-1 digests: nothing else here needs these functions.
const OLD_DIGESTS: [&str; 148] = [
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
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "adc83b19e793491b1c6ea0fd8b46cd9f32e592fc",
    "b6589fc6ab0dc82cf12099d1c2d40ab994e8410c",
    "09d2af8dd22201dd8d48e5dcfcaed281ff9422c7",
    "7110eda4d09e062aa5e4a390b0a572ac0d2c0220",
    "1be168ff837f043bde17c0314341c84271047b31",
    "8cb2237d0679ca88db6464eac60da96345513964",
    "2672275fe0c456fb671e4f417fb2f9892c7573ba",
    "7c4a8d09ca3762af61e59520943dc26494f8941b",
    "c4f9375f9834b4e7f0a528cc65c055702bf5f24a",
    "7c222fb2927d828af22f592134e8932480637c0d",
    "9806af3952e1380212b0998f07a6afe4e5f00428",
    "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "179c94cf45c6e383baf52621687305204cef16f9",
    "01b307acba4f54f55aafc33bb06bbbf6ca803e9a",
    "12039d6dd9a7e27622301e935b6eefc78846802e",
    "a9993e364706816aba3e25717850c26c9cd0d89d",
    "03cfd743661f07975fa2f1220c5194cbaff48451",
    "d033e22ae348aeb5660fc2140aec35850c4da997",
    "4015bc9ee91e437d90df83fb64fbbe312d9c9f05",
    "07313f0e320f22cbfa35cfc220508eb3ff457c7e",
    "0b38a0fe6e52e360f9da963f79e7f5924db71f0a",
    "fa9beb99e4029ad5a6615399e7bbae21356086b3",
    "019768a0e586a21e3250db985405554ccde798fc",
    "7505d64a54e061b7acd54ccd58b49dc43500b635",
    "843c4a11660fe38ea61e6960a29d4f4796da6488",
    "89e495e7941cf9e40e6980d14a16bf023ccd4c91",
    "9ad4cf12ea8c7c42000a7af92864e80e807a0718",
    "34c6fceca75e456f25e7e99531e2425c6c1de443",
    "d345da49668dbfc05d559e18e5d5975951fc41ac",
    "05134426bcd175050b08193c02f14ccdafcca088",
    "b334e2f9fbedf4703ba9429383fce33a383c9513",
    "c3499c2729730a7f807efb8676a92dcb6f8a3f8f",
    "7893883873a705aec69e2942901f20d7b1e28dec",
    "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
    "f572d396fae9206628714fb2ce00f72e94f2258f",
    "2aae6c35c94fcfb415dbe95f408b9ce91ee846ed",
    "22596363b3de40b06f981fb85d82312e8c0ed511",
    "5038e18712161fca54e52805726d3c70b296eff6",
    "f320e2d9301a5cc7ec063e33c6f5e1381d55be58",
    "a62f2225bf70bfaccbc7f1ef2a397836717377de",
    "e1efc99729beb17560e02d1f5c15a42a985fe42c",
    "b7a875fc1ea228b9061041b7cec4bd3c52ab3ce3",
    "34ca062314edaa193e03f318ae20ae134274b358",
    "e9fe51f94eadabf54dbf2fbbd57188b9abee436e",
    "b99319c3eac1e3d55f812362509db908f1d3ebff",
    "7a20aecd2cb38bc00e301d11d10224588104c366",
    "3343350fc4c62fd45f29ee011f57a0b639b3ae89",
    "3d32d3c2a55db1a14eea3991d9db19c7f09c3bdf",
    "6cd3169bb818ff495ad311d1ad3613b844a4c287",
    "6210274434052f20fcb83e1d0f492204fcb11884",
    "64bbe12e62d4f3c754430cdf520b2ae8857c6511",
    "7c6a61c68ef8b9b6b061b28c348bc1ed7921cb53",
    "e343f0ffdbc90c692ed1a4b0962fd02e52f25cf0",
    "5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8",
    "c8fed00eb2e87f1cee8e90ebbe870c190ac3848c",
    "90a8834de76326869f3e703cd61513081ad73d3c",
    "20543302e6b9fe8547b831b4f61bd0b0aec0642a",
    "b1b3773a05c0ed0176787a4f1574ff0075f7521e",
    "3c8b9f4b983afa9f644d26e2b34fa3e03a2bef16",
    "dc76e9f0c0006e8f919e0c515c66dbba3982f785",
    "552c0ba71b1046a083583ebf943cc9aa09f39a32",
    "e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
    "fc683cd9ed1990ca2ea10b84e5e6fba048c24929",
    "dff6d4ff5dc357cf451d1855ab9cbda562645c9f",
    "240c1eab513ee391e5365287e1d4b45814d69bcb",
    "9885f8af04289135df259e34bd22d17fe45ea81e",
    "0ccdeb59dda1d249d8a3049f09b5c9d16607fa3a",
    "a761ce3a45d97e41840a788495e85a70d1bb3815",
    "b29f7cb1a8aa1d8b12646fbec7f2a489ead88ebf",
    "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
    "4e1243bd22c66e76c2ba9eddc1f91394e57f9f83",
    "ee977806d7286510da8b9a7492ba58e2484c0ecc",
    "db4de92f933092b1f1f6665a742b7192a5eced77",
];

/// SHA-256 and SHA-512 digests of [`WORDS`], each without and with a line feed.
static DIGESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let texts = WORDS.iter().flat_map(|word| [(*word).to_owned(), format!("{word}\n")]);
    texts.flat_map(|text| [Sha256::digest(&text).to_vec(), Sha512::digest(&text).to_vec()]).collect()
});

/// Lengths of digests and of keys that are cut from them.
const KEY_LENGTHS: [usize; 6] = [16, 20, 24, 32, 48, 64];

/// True for a digest of a common word, or for its beginning: keys are cut to length.
pub(super) fn is_digest_of_a_word(key: &[u8]) -> bool {
    if !KEY_LENGTHS.contains(&key.len()) {
        return false;
    }
    let digits = hex::encode(key);
    OLD_DIGESTS.iter().any(|digest| digest.starts_with(&digits))
        || DIGESTS.iter().any(|digest| digest.starts_with(key))
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
        assert!(is_digest_of_a_word(&Sha256::digest("")));
        // MD5 of the empty text (RFC 1321 A.5) and of "abc", then SHA-1 of "abc" (FIPS 180-2 A.1).
        for old in [
            "d41d8cd98f00b204e9800998ecf8427e",
            "900150983cd24fb0d6963f7d28e17f72",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
        ] {
            assert!(is_digest_of_a_word(&hex::decode(old).expect("hex")), "{old}");
        }
        assert!(!is_digest_of_a_word(&Sha256::digest("a word of no list")));
        assert_eq!(OLD_DIGESTS.len(), 4 * WORDS.len());
    }
}
