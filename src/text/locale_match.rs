//! Finds the text closest to a requested language.

/// The position of the best of `available` for `wanted`: the longest that `wanted` continues (RFC 4647 §3.4, Lookup),
/// else one of the same language.
pub(super) fn best_match<'a>(
    wanted: &str,
    available: impl Iterator<Item = &'a str> + Clone,
) -> Option<usize> {
    let shared = |locale: &str| shared_subtags(wanted, locale);
    let continued = available.clone().enumerate().filter(|(_, locale)| shared(locale) == subtags(locale));
    let longest = continued.max_by_key(|(_, locale)| locale.len());
    longest
        .or_else(|| available.enumerate().find(|(_, locale)| shared(locale) > 0))
        .map(|(position, _)| position)
}

fn subtags(locale: &str) -> usize {
    locale.split(['-', '_']).count()
}

fn shared_subtags(one: &str, other: &str) -> usize {
    let pairs = one.split(['-', '_']).zip(other.split(['-', '_']));
    pairs.take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(wanted: &str, expected: Option<&str>) {
        let available = ["es", "en", "pt", "pt-BR", "zh-Hant"];
        let found = best_match(wanted, available.into_iter());
        assert_eq!(found.map(|position| available[position]), expected);
    }

    #[test]
    fn a_region_or_script_falls_back_to_its_language() {
        finds("es", Some("es"));
        finds("es-419", Some("es"));
        finds("es_CO", Some("es"));
        finds("EN-us-x-twain", Some("en"));
        finds("pt-PT", Some("pt"));
    }

    #[test]
    fn the_closest_text_wins() {
        finds("pt-br", Some("pt-BR"));
        finds("pt-BR-x-any", Some("pt-BR"));
        finds("pt-BRA", Some("pt"));
        finds("zh-CN", Some("zh-Hant"));
    }

    #[test]
    fn another_language_finds_nothing() {
        finds("fr", None);
        finds("est", None);
        finds("", None);
    }
}
