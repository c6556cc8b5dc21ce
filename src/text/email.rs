//! The text of an e-mail: a subject, a plain text and the same in HTML.
//!
//! The code is alone on its line, easy to read and copy, and never in the subject, which locked screens show to everyone.
//! There is no link and no image, so nothing looks like phishing or reports that the e-mail was read. A name follows the
//! rules of text messages, and foreign text is escaped in HTML.

use zeroize::Zeroizing;

use super::greeting_name::greeting_name;
use super::locale_match::best_match;
use super::settings::{MINUTES_MAX, SmsEncoding};

/// The values of an e-mail. It holds a code: no `Debug`.
pub struct EmailValues<'a> {
    pub locale: Option<&'a str>,
    pub code: &'a str,
    pub user_name: Option<&'a str>,
    pub minutes: u32,
}

/// An e-mail ready to be sent. It holds a code: no `Debug`, no `Display`, zeroized when dropped.
pub struct RenderedEmail {
    subject: String,
    text: Zeroizing<String>,
    html: Zeroizing<String>,
}

impl RenderedEmail {
    /// One line, without the code.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The plain text with the code in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The HTML with the code in it.
    pub fn html(&self) -> &str {
        &self.html
    }
}

/// The sentences of one language.
struct Words {
    locale: &'static str,
    subject: &'static str,
    hello: &'static str,
    your_code: &'static str,
    valid_for: &'static str,
    minute: &'static str,
    minutes: &'static str,
    do_not_share: &'static str,
    not_you: &'static str,
}

const WORDS: [Words; 3] = [
    Words {
        locale: "es",
        subject: "tu código de verificación",
        hello: "Hola",
        your_code: "Tu código de verificación es:",
        valid_for: "Válido por",
        minute: "minuto",
        minutes: "minutos",
        do_not_share: "No lo compartas con nadie.",
        not_you: "Si no lo pediste, ignora este mensaje.",
    },
    Words {
        locale: "en",
        subject: "your verification code",
        hello: "Hi",
        your_code: "Your verification code is:",
        valid_for: "Valid for",
        minute: "minute",
        minutes: "minutes",
        do_not_share: "Do not share it with anybody.",
        not_you: "If you did not ask for it, ignore this message.",
    },
    Words {
        locale: "pt",
        subject: "seu código de verificação",
        hello: "Olá",
        your_code: "Seu código de verificação é:",
        valid_for: "Válido por",
        minute: "minuto",
        minutes: "minutos",
        do_not_share: "Não o compartilhe com ninguém.",
        not_you: "Se você não o pediu, ignore esta mensagem.",
    },
];

pub(super) struct Mails {
    brand: String,
    fallback: usize,
}

impl Mails {
    /// E-mails of a brand, whose text was checked. A default language that has no e-mail is Spanish.
    pub(super) fn new(brand: &str, default_locale: &str) -> Mails {
        Mails { brand: brand.to_owned(), fallback: position(default_locale).unwrap_or(0) }
    }

    pub(super) fn render(&self, text: &EmailValues<'_>) -> RenderedEmail {
        let words = &WORDS[text.locale.and_then(position).unwrap_or(self.fallback)];
        let name = text.user_name.and_then(|name| greeting_name(name, SmsEncoding::Unicode));
        let hello = match name {
            Some(name) => format!("{} {name},", words.hello),
            None => format!("{},", words.hello),
        };
        let minutes = text.minutes.min(MINUTES_MAX);
        let unit = if minutes == 1 { words.minute } else { words.minutes };
        let valid = format!("{} {minutes} {unit}. {}", words.valid_for, words.do_not_share);
        RenderedEmail {
            subject: format!("{}: {}", self.brand, words.subject),
            text: joined(&[
                &hello,
                "\n\n",
                words.your_code,
                "\n\n",
                text.code,
                "\n\n",
                &valid,
                "\n",
                words.not_you,
                "\n\n",
                &self.brand,
                "\n",
            ]),
            html: joined(&[
                "<!DOCTYPE html><html lang=\"",
                words.locale,
                "\"><head><meta charset=\"utf-8\"></head>\
                 <body style=\"font-family:sans-serif;font-size:16px;color:#222\"><p>",
                &escaped(&hello),
                "</p><p>",
                words.your_code,
                "</p><p style=\"font-family:monospace;font-size:32px;font-weight:bold\">",
                text.code,
                "</p><p>",
                &valid,
                "<br>",
                words.not_you,
                "</p><p>",
                &escaped(&self.brand),
                "</p></body></html>",
            ]),
        }
    }
}

fn position(wanted: &str) -> Option<usize> {
    best_match(wanted, WORDS.iter().map(|words| words.locale))
}

/// Joins pieces in one allocation: a text that grows would leave copies of the code.
fn joined(pieces: &[&str]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
    pieces.iter().for_each(|piece| text.push_str(piece));
    text
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(locale: &str, user_name: &str) -> RenderedEmail {
        let text =
            EmailValues { locale: Some(locale), code: "123456", user_name: Some(user_name), minutes: 10 };
        Mails::new("Me & Store", "es").render(&text)
    }

    #[test]
    fn each_language_has_the_code_once_on_its_own_line_and_never_in_the_subject() {
        for (locale, hello) in
            [("es-CO", "Hola Ana,"), ("en", "Hi Ana,"), ("pt-BR", "Olá Ana,"), ("fi", "Hola Ana,")]
        {
            let mail = mail(locale, "Ana");
            assert!(mail.text().starts_with(hello) && mail.text().contains("\n123456\n"), "{locale}");
            assert_eq!(
                (mail.text().matches("123456").count(), mail.html().matches("123456").count()),
                (1, 1)
            );
            assert!(!mail.subject().contains("123456") && mail.subject().starts_with("Me & Store: "));
        }
    }

    #[test]
    fn a_name_adds_no_html_no_link_and_no_header() {
        for name in ["<b>Ana</b>", "Ana http://evil.example", "Ana\r\nBcc: bob@shop.example", "evil.example"]
        {
            let mail = mail("es", name);
            assert!(mail.text().starts_with("Hola,\n"), "{name}");
            for written in [mail.subject(), mail.text(), mail.html()] {
                assert!(!written.contains("evil") && !written.contains("Bcc") && !written.contains("<b>"));
            }
        }
        assert!(mail("es", "D'Angelo").html().contains("Hola D&#39;Angelo,"));
    }

    #[test]
    fn foreign_text_is_escaped_in_html_only() {
        let mail = mail("en", "Ana");
        assert!(mail.html().contains("Me &amp; Store") && mail.text().contains("Me & Store"));
        assert!(mail.html().contains("Valid for 10 minutes."));
    }
}
