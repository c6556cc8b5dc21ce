//! The syntax of language tags.

/// Checks the syntax of BCP 47 (RFC 5646 §2.1): subtags of one to eight letters and digits, first a language. At most 35
/// characters, the buffer length of RFC 5646 §4.4.1.
///
/// `_` passes for `-`, because operating systems and many libraries write `es_CO`. The registry of subtags is not
/// consulted: `qq-zz` is well-formed and matches no text.
pub fn is_bcp47(text: &str) -> bool {
    let mut subtags = text.split(['-', '_']);
    let language = subtags.next().unwrap_or_default();
    let private_or_old = matches!(language, "x" | "X" | "i" | "I") && text.len() > 2;
    let shape = language.len() >= 2 && language.bytes().all(|byte| byte.is_ascii_alphabetic());
    text.len() <= 35
        && (shape || private_or_old)
        && text.split(['-', '_']).all(is_subtag)
        && !text.rsplit(['-', '_']).next().is_some_and(|last| last.len() == 1 && shape)
}

fn is_subtag(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tag_is_distinguished_from_other_text() {
        for tag in [
            "es",
            "es-419",
            "es_CO",
            "pt-BR",
            "en-US-x-twain",
            "zh-Hant-TW",
            "x-whatever",
            "i-klingon",
            "sgn",
        ] {
            assert!(is_bcp47(tag), "{tag}");
        }
        let long = format!("en-{}", "abcdefgh-".repeat(4));
        for text in [
            "",
            "-",
            "e",
            "x",
            "es-",
            "-es",
            "es--CO",
            "1es",
            "es-CO-x",
            "es CO",
            "español",
            "es-abcdefghi",
            &long,
        ] {
            assert!(!is_bcp47(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_tag_or_not(text in any::<String>()) {
            is_bcp47(&text);
        }
    }
}
