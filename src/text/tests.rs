use proptest::prelude::*;

use super::autofill::{AndroidAppHash, Autofill, WebOtpDomain};
use super::gsm7::{Encoding, Segments};
use super::sources::{BUILT_IN, key_of};
use super::*;
use crate::domain::time::UnixMillis;

fn settings() -> TextSettings {
    TextSettings {
        brand: "MeStore".to_owned(),
        sms_encoding: SmsEncoding::Gsm7,
        default_locale: "es".to_owned(),
        default_zone: Zone::parse("America/Bogota").expect("a zone"),
        sends_emails: true,
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

fn text(code: &str) -> TextValues<'_> {
    TextValues {
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
fn says(texts: &Texts, text: &TextValues<'_>, expected: &str) -> Segments {
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
        says(&texts(settings()), &TextValues { user_name: Some("Carlos"), ..text("123456") }, expected);
    assert_eq!(segments, Segments { encoding: Encoding::Gsm7, units: 95, count: 1 });
}

#[test]
fn without_a_usable_name_the_greeting_is_left_out() {
    let expected = "MeStore: Tu codigo de verificacion es 123456. Valido por 10 minutos. No compartir.";
    for user_name in [None, Some(""), Some("evil.example"), Some("Анна")] {
        says(&texts(settings()), &TextValues { user_name, ..text("123456") }, expected);
    }
}

#[test]
fn every_language_has_its_text() {
    let texts = texts(settings());
    let named = |locale| TextValues { locale: Some(locale), user_name: Some("José"), ..text("123456") };
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
    let segments: Vec<Segments> = texts.costs().iter().filter_map(|cost| cost.segments).collect();
    assert_eq!(segments.len(), 3);
    for segments in segments {
        assert_eq!((segments.encoding, segments.count), (Encoding::Gsm7, 1), "{segments:?}");
    }
}

#[test]
fn one_minute_is_said_in_the_singular() {
    let expected = "MeStore: Tu codigo de verificacion es 123456. Valido por 1 minuto. No compartir.";
    says(&texts(settings()), &TextValues { minutes: 1, ..text("123456") }, expected);
}

#[test]
fn minutes_never_look_like_a_second_code() {
    let expected = "MeStore: Tu codigo de verificacion es 123456. Valido por 999 minutos. No compartir.";
    says(&texts(settings()), &TextValues { minutes: 1440, ..text("123456") }, expected);
}

#[test]
fn unicode_keeps_the_accents_and_says_what_they_cost() {
    let texts = texts(TextSettings { sms_encoding: SmsEncoding::Unicode, ..settings() });
    let expected =
        "MeStore: Hola María, tu código de verificación es 123456. Válido por 10 minutos. No compartir.";
    let segments = says(&texts, &TextValues { user_name: Some("María"), ..text("123456") }, expected);
    assert_eq!(segments, Segments { encoding: Encoding::Ucs2, units: 94, count: 2 });
    assert!(texts.costs().iter().filter_map(|cost| cost.segments).all(|segments| segments.count == 2));
}

#[test]
fn an_ending_is_the_last_line() {
    let texts = texts(settings());
    let body = "MeStore: Tu codigo de verificacion es 123456. Valido por 10 minutos. No compartir.";
    let domain = WebOtpDomain::parse("Shop.example").expect("a host name");
    let web = Autofill::WebOtp { domain };
    says(
        &texts,
        &TextValues { autofill: Some(&web), ..text("123456") },
        &format!("{body}\n\n@shop.example #123456"),
    );
    let hash = AndroidAppHash::parse("FA+9qCX9VSu").expect("a hash");
    let android = Autofill::AndroidHash { hash };
    says(
        &texts,
        &TextValues { autofill: Some(&android), ..text("123456") },
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
        let text = TextValues { template: Some("login"), autofill: Some(&ending), ..text("482913") };
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
        says(
            &texts,
            &TextValues { template: Some("login"), zone: zone.as_ref(), ..text("482913") },
            expected,
        );
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
            texts.render_sms(&TextValues { locale: Some(locale), ..text("482913") }).expect("a template");
        assert!(rendered.expose().starts_with(begins), "{locale}: {}", rendered.expose());
    }
}

#[test]
fn an_unknown_template_is_an_answer() {
    let answer = texts(settings()).render_sms(&TextValues { template: Some("unknown"), ..text("123456") });
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
        &TextValues { user_name: Some("Ana"), ..text("123456") },
        "123456 es tu codigo de MeStore, 10 min.",
    );
    assert_eq!(texts.costs().len(), 6);
}

#[test]
fn a_template_of_ones_own_is_found_by_its_name() {
    let texts = texts(with_template("login.es_CO.txt", "Entrar: {{ code }}"));
    says(&texts, &TextValues { template: Some("login"), locale: Some("en"), ..text("4321") }, "Entrar: 4321");
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
            "Default.txt: is not named <template>.<locale>.txt or <template>.<locale>.email.txt with a template of 1 to 64 of a-z, 0-9, _ and -",
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
    errors(
        french,
        &[
            "DEFAULT_LOCALE: template default has no text for it",
            "DEFAULT_LOCALE: template default has no e-mail for it: add default.fr.email.txt",
        ],
    );
    let nonsense = TextSettings { default_locale: "español".to_owned(), ..settings() };
    errors(nonsense, &["DEFAULT_LOCALE: is not a language tag (BCP 47)"]);
}

fn email(settings: TextSettings, text: &TextValues<'_>) -> RenderedEmail {
    texts(settings).render_email(text).expect("a known template")
}

#[test]
fn every_built_in_language_has_a_text_message_and_an_email() {
    let languages = |channel| -> Vec<String> {
        let keys = BUILT_IN.iter().filter_map(|(name, _)| key_of(name));
        keys.filter(|key| key.0 == channel).map(|(_, _, locale)| locale).collect()
    };
    assert_eq!(languages(Channel::Sms), languages(Channel::Email));
    assert_eq!(languages(Channel::Sms).len() * 2, BUILT_IN.len());
}

#[test]
fn an_email_has_the_language_of_the_request_or_the_default_one() {
    let french = TextSettings {
        default_locale: "fr".to_owned(),
        templates: vec![
            file("default.fr.txt", "{{ code }}"),
            file("default.fr.email.txt", "Subject: {{ brand }}: votre code\n\nBonjour,\n\n{{ code }}\n"),
        ],
        ..settings()
    };
    for (locale, subject) in [
        (None, "MeStore: votre code"),
        (Some("de"), "MeStore: votre code"),
        (Some("fr-CA"), "MeStore: votre code"),
        (Some("en"), "MeStore: your verification code"),
        (Some("pt_BR"), "MeStore: seu código de verificação"),
    ] {
        let mail = email(french.clone(), &TextValues { locale, ..text("123456") });
        assert_eq!(mail.subject(), subject, "{locale:?}");
    }
    assert_eq!(email(french, &text("123456")).text(), "Bonjour,\n\n123456\n");
}

#[test]
fn an_email_has_templates_of_ones_own_with_every_value() {
    let source = "Subject: {{ brand }}: entrar\n\n{% if user_name %}{{ user_name }}: {% endif %}hasta las \
                  {{ expires_at }}, {{ minutes }} min\n\n{{ code }}";
    let zone = Zone::parse("Europe/Madrid").expect("a zone");
    let login =
        TextValues {
            template: Some("login"), user_name: Some("María"), zone: Some(&zone), ..text("482913")
        };
    let mail = email(with_template("login.es.email.txt", source), &login);
    assert_eq!(mail.text(), "María: hasta las 20:05, 10 min\n\n482913\n");
    assert_eq!(texts(settings()).render_email(&login).err(), Some(UnknownTemplate));
    errors(
        with_template("login.en.email.txt", "Subject: x\n\n{{ code }}"),
        &["DEFAULT_LOCALE: template login has no e-mail for it: add login.es.email.txt"],
    );
}

#[test]
fn without_emails_their_texts_need_no_default_language() {
    let templates = vec![file("default.fr.txt", "{{ code }}")];
    let french =
        TextSettings { default_locale: "fr".to_owned(), sends_emails: false, templates, ..settings() };
    says(&texts(french), &text("123456"), "123456");
}

#[test]
fn a_text_with_an_android_hash_leaves_out_a_name_rather_than_exceed_140_bytes() {
    let hash = AndroidAppHash::parse("FA+9qCX9VSu").expect("a hash");
    let ending = Autofill::AndroidHash { hash };
    let texts = texts(TextSettings { brand: "Tienda de la Esquina de Bogota".to_owned(), ..settings() });
    for (user_name, is_greeted) in [("Ana", true), ("Maximiliana Carolina", false)] {
        let message = TextValues { user_name: Some(user_name), autofill: Some(&ending), ..text("123456") };
        let rendered = texts.render_sms(&message).expect("a known template");
        let body = rendered.expose();
        assert_eq!(body.contains(user_name), is_greeted, "{body}");
        assert!(body.len() <= 140 && body.ends_with("\n\nFA+9qCX9VSu"), "{} bytes: {body}", body.len());
    }
}

#[test]
fn a_text_that_is_too_long_for_android_without_a_name_is_known() {
    let of = |brand: String| {
        let texts = texts(TextSettings { brand, ..settings() });
        let mut over = texts.costs().iter().filter(|cost| cost.is_too_long_for_android());
        over.next().map(|cost| cost.locale.clone())
    };
    assert_eq!(of("MeStore".to_owned()), None);
    // At the longest: ten digits, 999 minutes and the app's hash.
    assert_eq!(of("x".repeat(60)), Some("en".to_owned()));
}

proptest! {
    #[test]
    fn any_name_leaves_one_segment_with_the_code_once(name in any::<String>(), code in "[0-9]{4,10}", minutes: u32) {
        let texts = texts(settings());
        for locale in ["es", "en", "pt"] {
            let text = TextValues { locale: Some(locale), user_name: Some(&name), minutes, ..text(&code) };
            let rendered = texts.render_sms(&text).expect("a known template");
            prop_assert_eq!(rendered.segments().count, 1);
            prop_assert_eq!(rendered.segments().encoding, Encoding::Gsm7);
            prop_assert_eq!(rendered.expose().matches(&code).count(), 1);
        }
    }
}
