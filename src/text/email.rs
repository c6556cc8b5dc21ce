//! The text of an e-mail: a subject, a plain text and the same in HTML.
//!
//! A source begins with a line `Subject: …` and an empty line. The code is alone on its line, easy to read and copy, and never
//! in the subject, which locked screens show to everyone. The HTML is made from the plain text: paragraphs and line breaks, no
//! link and no image, so nothing looks like phishing or reports that the e-mail was read.

use zeroize::Zeroizing;

use super::greeting_name::greeting_name;
use super::lint;
use super::prepare::{CODE, Prepared, Values};
use super::settings::SmsEncoding;

/// More than any list of messages shows.
const SUBJECT_CHARS_MAX: usize = 150;

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

/// An e-mail in one language, cut into pieces.
pub(super) struct PreparedEmail {
    subject: String,
    text: Prepared,
    html: Prepared,
}

impl PreparedEmail {
    /// Prepares an e-mail, or returns all its errors.
    pub(super) fn new(source: &str, brand: &str, locale: &str) -> Result<PreparedEmail, Vec<String>> {
        let Some((subject, text)) = source.strip_prefix("Subject: ").and_then(|rest| rest.split_once("\n\n"))
        else {
            return Err(vec!["must begin with a line \"Subject: …\" and an empty line".to_owned()]);
        };
        // The engine drops one line end. A last line without any would be joined to what mail servers append.
        let text = format!("{}\n\n", text.trim_start_matches('\n'));
        let mut problems = Vec::new();
        let subject = lint::constant(subject, brand).and_then(checked_subject).unwrap_or_else(|problem| {
            problems.push(format!("the subject {problem}"));
            String::new()
        });
        match lint::linted_email(&text, brand, |rendered| html_of(rendered, locale)) {
            Ok((text, html)) if problems.is_empty() => Ok(PreparedEmail { subject, text, html }),
            Ok(_) => Err(problems),
            Err(others) => Err([problems, others].concat()),
        }
    }

    pub(super) fn fill(&self, user_name: Option<&str>, values: Values<'_>) -> RenderedEmail {
        let name = user_name.and_then(|name| greeting_name(name, SmsEncoding::Unicode));
        let escaped_name = name.as_deref().map(escaped);
        RenderedEmail {
            subject: self.subject.clone(),
            text: self.text.fill(&Values { name: name.as_deref(), ..values }, None),
            html: self.html.fill(&Values { name: escaped_name.as_deref(), ..values }, None),
        }
    }
}

fn checked_subject(subject: String) -> Result<String, String> {
    if subject.trim().is_empty() || subject.chars().any(char::is_control) {
        Err("must be one line of text".to_owned())
    } else if subject.chars().count() > SUBJECT_CHARS_MAX {
        Err(format!("is longer than {SUBJECT_CHARS_MAX} characters"))
    } else {
        Ok(subject)
    }
}

/// The HTML of a text with placeholders: a paragraph for each block of lines, and large digits for the code.
fn html_of(text: &str, locale: &str) -> String {
    let mut html = format!(
        "<!DOCTYPE html><html lang=\"{locale}\"><head><meta charset=\"utf-8\"></head>\
         <body style=\"font-family:sans-serif;font-size:16px;color:#222\">"
    );
    for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        let is_code = paragraph.chars().eq([CODE]);
        let style =
            if is_code { " style=\"font-family:monospace;font-size:32px;font-weight:bold\"" } else { "" };
        let lines = escaped(paragraph).replace('\n', "<br>");
        html.push_str(&format!("<p{style}>{lines}</p>"));
    }
    html.push_str("</body></html>");
    html
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
    use crate::domain::time_zone::ClockTime;
    use crate::text::sources::BUILT_IN;

    fn mail(locale: &str, user_name: &str) -> RenderedEmail {
        let file = format!("default.{locale}.email.txt");
        let (_, source) = BUILT_IN.iter().find(|(name, _)| *name == file).expect("a built-in e-mail");
        let values = Values { name: None, code: "123456", minutes: 10, expires_at: ClockTime::new(14, 5) };
        let prepared = PreparedEmail::new(source.trim_end(), "Me & Store", locale);
        prepared.unwrap_or_else(|problems| panic!("{problems:?}")).fill(Some(user_name), values)
    }

    fn problems(source: &str) -> Vec<String> {
        PreparedEmail::new(source, "Brand", "es").err().expect("problems")
    }

    #[test]
    fn each_language_has_the_code_once_on_its_own_line_and_never_in_the_subject() {
        for (locale, hello) in [("es", "Hola Ana,"), ("en", "Hi Ana,"), ("pt", "Olá Ana,")] {
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
    fn an_email_without_a_subject_or_with_a_value_in_it_is_refused() {
        let rule = "must begin with a line \"Subject: …\" and an empty line";
        for source in ["", "{{ code }}", "Subject: x", "Subject: x\n{{ code }}", "subject: x\n\n{{ code }}"] {
            assert_eq!(problems(source), [rule], "{source:?}");
        }
        for value in ["code", "user_name", "minutes", "expires_at", "codes", "'' if user_name else brand"] {
            let problems = problems(&format!("Subject: {{{{ {value} }}}}\n\n{{{{ code }}}}"));
            assert!(problems[0].starts_with("the subject "), "{value}: {problems:?}");
        }
        for subject in [" ", "two\nlines", "tab\t", &"x".repeat(151)] {
            let problems = problems(&format!("Subject: {subject}\n\n{{{{ code }}}}"));
            assert!(problems[0].starts_with("the subject "), "{subject:?}: {problems:?}");
        }
    }

    #[test]
    fn the_code_of_an_email_is_alone_on_its_line() {
        for text in ["code: {{ code }}", "{{ code }}.", "{{ code }} ok"] {
            let source = format!("Subject: x\n\n{text}");
            assert_eq!(problems(&source), ["{{ code }} must be alone on its line"], "{text}");
        }
        assert_eq!(
            problems("Subject: x\n\nno code"),
            ["{{ code }} must stand in it exactly once, with and without a name"]
        );
    }

    #[test]
    fn html_has_the_paragraphs_and_lines_of_the_text_and_its_language() {
        let mail = mail("en", "Ana");
        let lines = "<p>Valid for 10 minutes. Do not share it with anybody.<br>If you did not ask";
        assert!(mail.html().contains(lines) && mail.html().contains("<html lang=\"en\">"), "{}", mail.html());
        assert!(mail.html().contains("font-weight:bold\">123456</p>"));
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
