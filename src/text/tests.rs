use proptest::prelude::*;

use super::autofill::{AndroidAppHash, Autofill, WebOtpDomain};
use super::gsm7::{Encoding, Segments};
use super::*;
use crate::domain::time::UnixMillis;

fn settings() -> TextSettings {
    TextSettings {
        brand: "MeStore".to_owned(),
        sms_encoding: SmsEncoding::Gsm7,
        default_locale: "es".to_owned(),
        default_zone: Zone::parse("America/Bogota").expect("a zone"),
        templates: Vec::new(),
    }
}

fn texts(settings: TextSettings) -> Texts {
    Texts::built_in(settings).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn file(name: &str, source: &str) -> TemplateFile {
    TemplateFile { name: name.to_owned(), source: Ok(source.to_owned()) }
}

fn with_template(name: &str, source: &str) -> TextSettings {
    TextSettings { templates: vec![file(name, source)], ..settings() }
}

fn text(code: &str) -> SmsValues<'_> {
    SmsValues {
        template: None,
        locale: None,
        code,
        user_name: None,
        minutes: 10,
        expires_at: UnixMillis::parse_rfc3339("2026-11-22T19:05:40Z").expect("a time"),
        zone: None,
        autofill: None,
    }
}

#[track_caller]
fn says(texts: &Texts, text: &SmsValues<'_>, expected: &str) -> Segments {
    let rendered = texts.render_sms(text).expect("a known template");
    assert_eq!(rendered.expose(), expected);
    rendered.segments()
}

#[track_caller]
fn errors(settings: TextSettings, expected: &[&str]) {
    let errors = Texts::built_in(settings).err().expect("errors");
    let errors: Vec<String> = errors.iter().map(TextError::to_string).collect();
    assert_eq!(errors, expected);
}

#[test]
fn the_default_text_greets_by_name_in_one_segment() {
    let expected =
        "MeStore: Hola Carlos, tu codigo de verificacion es 123456. Valido por 10 minutos. No compartir.";
    let segments =
        says(&texts(settings()), &SmsValues { user_name: Some("Carlos"), ..text("123456") }, expected);
    assert_eq!(segments, Segments { encoding: Encoding::Gsm7, units: 95, count: 1 });
}

#[test]
fn without_a_usable_name_the_greeting_is_left_out() {
    let expected = "MeStore: Tu codigo de verificacion es 123456. Valido por 10 minutos. No compartir.";
    for user_name in [None, Some(""), Some("evil.example"), Some("Анна")] {
        says(&texts(settings()), &SmsValues { user_name, ..text("123456") }, expected);
    }
}

#[test]
fn every_language_has_its_text() {
    let texts = texts(settings());
    let named = |locale| SmsValues { locale: Some(locale), user_name: Some("José"), ..text("123456") };
    says(
        &texts,
        &named("en-US-x-any"),
        "MeStore: Hi José, your verification code is 123456. Valid for 10 minutes. Do not share it.",
    );
    says(
        &texts,
        &named("pt-BR"),
        "MeStore: Ola José, seu codigo de verificacao é 123456. Valido por 10 minutos. Nao compartilhe.",
    );
    for locale in ["es-419", "es_CO", "fr", "tlh-x-any"] {
        let rendered = texts.render_sms(&named(locale)).expect("a known template");
        assert!(rendered.expose().starts_with("MeStore: Hola José, tu "), "{locale}");
    }
}

#[test]
fn every_built_in_text_costs_one_segment_at_its_longest() {
    let texts = texts(settings());
    assert_eq!(texts.costs().len(), 3);
    for cost in texts.costs() {
        assert_eq!((cost.segments.encoding, cost.segments.count), (Encoding::Gsm7, 1), "{cost:?}");
    }
}

#[test]
fn one_minute_is_said_in_the_singular() {
    let expected = "MeStore: Tu codigo de verificacion es 123456. Valido por 1 minuto. No compartir.";
    says(&texts(settings()), &SmsValues { minutes: 1, ..text("123456") }, expected);
}

#[test]
fn minutes_never_look_like_a_second_code() {
    let expected = "MeStore: Tu codigo de verificacion es 123456. Valido por 999 minutos. No compartir.";
    says(&texts(settings()), &SmsValues { minutes: 1440, ..text("123456") }, expected);
}

#[test]
fn unicode_keeps_the_accents_and_says_what_they_cost() {
    let texts = texts(TextSettings { sms_encoding: SmsEncoding::Unicode, ..settings() });
    let expected =
        "MeStore: Hola María, tu código de verificación es 123456. Válido por 10 minutos. No compartir.";
    let segments = says(&texts, &SmsValues { user_name: Some("María"), ..text("123456") }, expected);
    assert_eq!(segments, Segments { encoding: Encoding::Ucs2, units: 94, count: 2 });
    assert!(texts.costs().iter().all(|cost| cost.segments.count == 2));
}

#[test]
fn an_ending_is_the_last_line() {
    let texts = texts(settings());
    let body = "MeStore: Tu codigo de verificacion es 123456. Valido por 10 minutos. No compartir.";
    let domain = WebOtpDomain::parse("Shop.example").expect("a host name");
    let web = Autofill::WebOtp { domain };
    says(
        &texts,
        &SmsValues { autofill: Some(&web), ..text("123456") },
        &format!("{body}\n\n@shop.example #123456"),
    );
    let hash = AndroidAppHash::parse("FA+9qCX9VSu").expect("a hash");
    let android = Autofill::AndroidHash { hash };
    says(
        &texts,
        &SmsValues { autofill: Some(&android), ..text("123456") },
        &format!("{body}\n\nFA+9qCX9VSu"),
    );
}

#[test]
fn an_ending_is_the_last_line_of_an_operators_text_too() {
    let texts = texts(with_template("login.es.txt", "Entrar: {{ code }}\nhasta las {{ expires_at }}\r\n\n"));
    let domain = WebOtpDomain::parse("shop.example").expect("a host name");
    let hash = AndroidAppHash::parse("FA+9qCX9VSu").expect("a hash");
    for (ending, line) in [
        (Autofill::WebOtp { domain }, "@shop.example #482913"),
        (Autofill::AndroidHash { hash }, "FA+9qCX9VSu"),
    ] {
        let text = SmsValues { template: Some("login"), autofill: Some(&ending), ..text("482913") };
        says(&texts, &text, &format!("Entrar: 482913\nhasta las 14:05\n\n{line}"));
    }
}

#[test]
fn an_expiry_time_is_shown_in_the_zone_of_the_request() {
    let texts = texts(with_template("login.es.txt", "{{ code }} hasta las {{ expires_at }}."));
    for (zone, expected) in [
        (None, "482913 hasta las 14:05."),
        (Some("Europe/Madrid"), "482913 hasta las 20:05."),
        (Some("Asia/Kolkata"), "482913 hasta las 00:35."),
    ] {
        let zone = zone.map(|name| Zone::parse(name).expect("a zone"));
        says(&texts, &SmsValues { template: Some("login"), zone: zone.as_ref(), ..text("482913") }, expected);
    }
}

#[test]
fn a_text_of_another_language_is_found_by_the_closest_tag() {
    let mut settings = with_template("default.pt-BR.txt", "BR {{ code }}");
    settings
        .templates
        .extend([file("default.fr.txt", "FR {{ code }}"), file("default.zh-Hant.txt", "ZH {{ code }}")]);
    let texts = texts(settings);
    for (locale, begins) in [
        ("pt-BR", "BR"),
        ("pt_br_x_any", "BR"),
        ("pt-PT", "MeStore: Seu"),
        ("fr-CA", "FR"),
        ("FR", "FR"),
        ("zh-Hant-TW", "ZH"),
        ("es-CO", "MeStore: Tu"),
        ("de", "MeStore: Tu"),
    ] {
        let rendered =
            texts.render_sms(&SmsValues { locale: Some(locale), ..text("482913") }).expect("a template");
        assert!(rendered.expose().starts_with(begins), "{locale}: {}", rendered.expose());
    }
}

#[test]
fn an_unknown_template_is_an_answer() {
    let answer = texts(settings()).render_sms(&SmsValues { template: Some("unknown"), ..text("123456") });
    assert_eq!(answer.err(), Some(UnknownTemplate));
}

#[test]
fn the_operators_text_replaces_the_built_in_one_of_its_name_and_language() {
    let texts = texts(with_template(
        "default.es.txt",
        "{{ code }} es tu código de {{ brand }}, {{ minutes }} min.\n",
    ));
    says(
        &texts,
        &SmsValues { user_name: Some("Ana"), ..text("123456") },
        "123456 es tu codigo de MeStore, 10 min.",
    );
    assert_eq!(texts.costs().len(), 3);
}

#[test]
fn a_template_of_ones_own_is_found_by_its_name() {
    let texts = texts(with_template("login.es_CO.txt", "Entrar: {{ code }}"));
    says(&texts, &SmsValues { template: Some("login"), locale: Some("en"), ..text("4321") }, "Entrar: 4321");
}

#[test]
fn a_template_that_would_mislead_is_a_fault() {
    let place = "default.es.txt";
    for (source, problem) in [
        ("Hola", "{{ code }} must stand in it exactly once, with and without a name"),
        ("{{ code }} o {{ code }}", "{{ code }} must stand in it exactly once, with and without a name"),
        (
            "{% if user_name %}{{ code }}{% endif %}",
            "{{ code }} must stand in it exactly once, with and without a name",
        ),
        (
            "{{ code }}, llame 6012345",
            "has four or more digits in a row beside the code, which look like a second one",
        ),
        ("{{ code }} o 123-456", "has groups of digits as ###-###, which look like a second code"),
        ("{{ code }}, 123 456", "has groups of digits as ### ###, which look like a second code"),
        ("{{ code }} {{ minutes }}", "has groups of digits as ########## ###, which look like a second code"),
        (
            "{{ code }}{{ expires_at }}",
            "has four or more digits in a row beside the code, which look like a second one",
        ),
        (
            "{{ code }}{{ minutes }}",
            "has four or more digits in a row beside the code, which look like a second one",
        ),
        (
            "{{ code }}{% if minutes == 2 %}!{% endif %}",
            "may only ask whether there is a user_name and whether minutes == 1",
        ),
        (
            "{{ code }}{% if user_name == 'Al' %}!{% endif %}",
            "may only ask whether there is a user_name and whether minutes == 1",
        ),
        (
            "{{ code }}{% if expires_at == '14:14' %}!{% endif %}",
            "may only ask whether there is a user_name and whether minutes == 1",
        ),
        (
            "{{ code }}{% if user_name %} {{ user_name }}.com{% endif %}",
            "{{ user_name }} must have a space, a comma or the like on both sides: a name could become a link",
        ),
        (
            "{{ code }}{% if user_name %} shop.co/{{ user_name }}{% endif %}",
            "{{ user_name }} must have a space, a comma or the like on both sides: a name could become a link",
        ),
        ("{{ code }} 🔑", "U+1F511 cannot be written in GSM-7; replace it, or set SMS_ENCODING=unicode"),
        ("{{ code }} \u{e001}", "syntax error: private-use characters have no place in a text"),
    ] {
        errors(with_template("default.es.txt", source), &[&format!("{place}: {problem}")]);
    }
    let long = format!("{{{{ code }}}}{}", "a".repeat(1600));
    errors(
        with_template("default.es.txt", &long),
        &[&format!("{place}: is longer than 1600 characters at its longest values")],
    );
}

#[test]
fn a_template_that_does_not_render_is_a_fault_with_its_line() {
    for (source, line) in [
        ("\n{{ code", "line 2: "),
        ("a\n{{ cod }} {{ code }}", "line 2: "),
        ("{{ code | upper }}", "line 1: "),
    ] {
        let errors = Texts::built_in(with_template("default.es.txt", source)).err().expect("errors");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].problem.starts_with(line), "{}", errors[0]);
    }
}

#[test]
fn every_fault_is_reported_at_once() {
    let mut settings = with_template("Default.txt", "{{ code }}");
    settings.templates.extend([
        file("default.en.txt", "Hi"),
        file("login.es-CO.txt", "{{ code }}"),
        file("login.es_co.txt", "{{ code }}"),
        TemplateFile { name: "big.es.txt".to_owned(), source: Err("is not UTF-8".to_owned()) },
    ]);
    settings.brand = "メルカリ".to_owned();
    errors(
        settings,
        &[
            "SMS_BRAND: cannot be written in GSM-7; set SMS_ENCODING=unicode, or write it in Latin letters",
            "Default.txt: is not named <template>.<locale>.txt with a template of 1 to 64 of a-z, 0-9, _ and -",
            "login.es_co.txt: is of the same template and language as login.es-CO.txt",
            "big.es.txt: is not UTF-8",
            "default.en.txt: {{ code }} must stand in it exactly once, with and without a name",
        ],
    );
}

#[test]
fn a_brand_that_would_break_a_text_is_a_fault() {
    for (brand, problem) in [
        (" ", "is empty"),
        ("Me\nStore", "contains control characters"),
        ("Shop2026", "contains four digits in a row, which look like a code"),
        ("Shop 601-234", "contains groups of digits, which look like a code"),
        ("Shop\u{e003}", "contains private-use characters"),
    ] {
        errors(TextSettings { brand: brand.to_owned(), ..settings() }, &[&format!("SMS_BRAND: {problem}")]);
    }
}

#[test]
fn a_default_language_without_a_text_is_a_fault() {
    let french = TextSettings { default_locale: "fr".to_owned(), ..settings() };
    errors(french, &["DEFAULT_LOCALE: template default has no text for it"]);
    let nonsense = TextSettings { default_locale: "español".to_owned(), ..settings() };
    errors(nonsense, &["DEFAULT_LOCALE: is not a language tag (BCP 47)"]);
}

proptest! {
    #[test]
    fn any_name_leaves_one_segment_with_the_code_once(name in any::<String>(), code in "[0-9]{4,10}", minutes: u32) {
        let texts = texts(settings());
        for locale in ["es", "en", "pt"] {
            let text = SmsValues { locale: Some(locale), user_name: Some(&name), minutes, ..text(&code) };
            let rendered = texts.render_sms(&text).expect("a known template");
            prop_assert_eq!(rendered.segments().count, 1);
            prop_assert_eq!(rendered.segments().encoding, Encoding::Gsm7);
            prop_assert_eq!(rendered.expose().matches(&code).count(), 1);
        }
    }
}
