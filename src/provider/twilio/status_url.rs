//! The status callback URL: the form that Twilio is given, and the forms that it signs.
//!
//! The URL comes from the settings, never from a request, whose `Host` a caller could choose. It is kept as written, because
//! the signature covers its text. The request id of a message is added to the query, so that the signature covers it, too.
//! A callback's query counts only in the spelling that Twilio was given: the signed text does not show where it ends.
//!
//! Twilio: docs page "Outbound message status in status callbacks" (a valid host, no underscores), "Webhooks:
//! connection overrides" (the fragment, which stays at the end and is not part of what is called or signed).

use form_urlencoded::byte_serialize;
use reqwest::Url;

use crate::domain::request_id::RequestId;
use crate::provider::http_client::{InvalidSettings, fault};

/// The parameter of the request's id.
const REQUEST: &str = "r";
/// The parameter of the attempt, for readers of Twilio's log: no code here reads it.
const ATTEMPT: &str = "a";

/// The parts of a status callback URL that follows Twilio's rules.
pub(super) struct StatusUrl<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<&'a str>,
    /// `/` if the URL has none.
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> StatusUrl<'a> {
    /// Parses a URL that Twilio can call and sign.
    pub(super) fn parse(text: &'a str) -> Result<StatusUrl<'a>, InvalidSettings> {
        let url = StatusUrl::parse_plain(text)?;
        let mut names =
            form_urlencoded::parse(url.query.unwrap_or_default().as_bytes()).map(|(name, _)| name);
        if names.any(|name| name == REQUEST || name == ATTEMPT) {
            return Err(fault("the status callback's query must have no `r` and no `a`: they are added"));
        }
        Ok(url)
    }

    /// Parses a URL that Twilio calls as it is.
    pub(super) fn parse_plain(text: &'a str) -> Result<StatusUrl<'a>, InvalidSettings> {
        const NOT_CALLABLE: &str =
            "the URL must be an http or https URL whose host has no underscore, and no user";
        StatusUrl::split(text).ok_or_else(|| fault(NOT_CALLABLE))
    }

    pub(super) fn query(&self) -> Option<&'a str> {
        self.query
    }

    fn split(text: &'a str) -> Option<StatusUrl<'a>> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>".contains(&byte));
        let parsed = Url::parse(text).ok().filter(|_| plain)?;
        let (text, fragment) = split_off(text, '#');
        let (text, query) = split_off(text, '?');
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // A colon inside brackets belongs to an IPv6 address.
        let port_at = authority.rfind(':').filter(|&at| !authority[at..].contains(']'));
        let (host, port) = authority.split_at(port_at.unwrap_or(authority.len()));
        let (port, path) = (port.strip_prefix(':'), if path.is_empty() { "/" } else { path });
        let callable = matches!(scheme, "https" | "http")
            && !host.is_empty()
            && !host.contains(['_', '@'])
            && port.is_none_or(|port| !port.is_empty())
            && parsed.username().is_empty()
            && parsed.password().is_none();
        callable.then_some(StatusUrl { scheme, host, port, path, query, fragment })
    }

    /// The form-encoded URL without the values of one message.
    pub(super) fn template(&self) -> UrlTemplate {
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        let StatusUrl { scheme, host, path, .. } = self;
        let before = format!("{scheme}://{host}{port}{path}?{}", self.query_before());
        let fragment = self.fragment.map_or(String::new(), |fragment| format!("#{fragment}"));
        UrlTemplate { before: encoded(&before), between: encoded(&between()), after: encoded(&fragment) }
    }

    /// The query up to the request's id.
    fn query_before(&self) -> String {
        let query = self.query.filter(|query| !query.is_empty()).map_or(String::new(), |q| format!("{q}&"));
        format!("{query}{REQUEST}=")
    }

    pub(super) fn callback_query(&self) -> CallbackQuery {
        CallbackQuery { before: self.query_before(), between: between() }
    }

    /// The part before the query in each form that Twilio may have signed: without the port, and with it or the scheme's
    /// default. Twilio's libraries accept both because its back end is not consistent.
    pub(super) fn signed_forms(&self) -> Vec<String> {
        let StatusUrl { scheme, host, path, .. } = self;
        let default = if *scheme == "https" { "443" } else { "80" };
        let port = self.port.unwrap_or(default);
        vec![format!("{scheme}://{host}{path}"), format!("{scheme}://{host}:{port}{path}")]
    }
}

/// A form-encoded URL with a gap for one message.
pub(super) struct UrlTemplate {
    before: String,
    between: String,
    after: String,
}

impl UrlTemplate {
    /// The beginning of the form's value, alike for all messages.
    pub(super) fn before(&self) -> &str {
        &self.before
    }

    /// Ends the value: the id is encoded once for the URL's query and once more for the form.
    pub(super) fn finish(&self, form: &mut String, request_id: &RequestId, attempt: u32) {
        for piece in byte_serialize(request_id.as_str().as_bytes()) {
            form.extend(byte_serialize(piece.as_bytes()));
        }
        form.push_str(&self.between);
        form.push_str(&attempt.to_string());
        form.push_str(&self.after);
    }
}

/// The queries of callbacks about our messages.
pub(super) struct CallbackQuery {
    before: String,
    between: String,
}

impl CallbackQuery {
    /// The request that a query names, if the query is spelled as [`UrlTemplate::finish`] does. No code reads the attempt.
    pub(super) fn request_id(&self, query: &str) -> Option<RequestId> {
        let (spelled, attempt) = query.strip_prefix(&self.before)?.split_once(&self.between)?;
        let number = attempt.parse::<u32>().ok().filter(|&number| number > 0)?;
        let (id, _) = form_urlencoded::parse(spelled.as_bytes()).next()?;
        let id = RequestId::parse(&id)?;
        (encoded(id.as_str()) == spelled && number.to_string() == attempt).then_some(id)
    }
}

/// The query between the request's id and the attempt.
fn between() -> String {
    format!("&{ATTEMPT}=")
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

fn split_off(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The URL that Twilio reads from the form.
    fn read_back(url: &str, request_id: &str, attempt: u32) -> String {
        let template = StatusUrl::parse(url).expect("a good URL").template();
        let mut form = format!("StatusCallback={}", template.before());
        template.finish(&mut form, &RequestId::parse(request_id).expect("an id"), attempt);
        let mut fields = form_urlencoded::parse(form.as_bytes()).into_owned();
        let (_, url) = fields.next().expect("a field");
        assert!(fields.next().is_none(), "one field, not {form}");
        url
    }

    #[test]
    fn the_message_is_in_the_query_before_the_fragment() {
        for (url, expected) in [
            ("https://otp.example.co/s", "https://otp.example.co/s?r=r-1&a=2"),
            ("https://otp.example.co/s?", "https://otp.example.co/s?r=r-1&a=2"),
            ("https://otp.example.co", "https://otp.example.co/?r=r-1&a=2"),
            ("http://otp.example.co:8080/s?x=1&y=%20", "http://otp.example.co:8080/s?x=1&y=%20&r=r-1&a=2"),
            (
                "https://otp.example.co/s?x=1#rc=5&rp=all",
                "https://otp.example.co/s?x=1&r=r-1&a=2#rc=5&rp=all",
            ),
            ("https://[2001:db8::1]:8443/s", "https://[2001:db8::1]:8443/s?r=r-1&a=2"),
        ] {
            assert_eq!(read_back(url, "r-1", 2), expected);
        }
    }

    #[test]
    fn an_id_of_any_characters_comes_back_whole() {
        for id in ["a&a=9#x", "100%+1", "a/b?c=d;e", "%26", "~!@$^*()_-'\"\\|{}[]<>,.:`"] {
            let url = read_back("https://otp.example.co/s#rc=5", id, u32::MAX);
            let url = Url::parse(&url).expect("a URL");
            let query: Vec<_> = url.query_pairs().into_owned().collect();
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            assert_eq!(query, [pair("r", id), pair("a", "4294967295")]);
            assert_eq!(url.fragment(), Some("rc=5"));
            let parsed = StatusUrl::parse("https://otp.example.co/s").expect("a good URL").callback_query();
            let read = parsed.request_id(url.query().expect("a query"));
            assert_eq!(read.as_ref().map(RequestId::as_str), Some(id));
        }
    }

    #[test]
    fn a_url_that_cannot_be_called_or_signed_is_refused() {
        for url in [
            "",
            "otp.example.co/s",
            "ftp://otp.example.co/s",
            "HTTPS://otp.example.co/s",
            "https:/otp.example.co/s",
            "https://my_host.example.co/s",
            "https://user:word@otp.example.co/s",
            "https://@otp.example.co/s",
            "https://otp.example.co:/s",
            "https://otp.example.co:99999/s",
            "https://otp.example.co\\s",
            "https://otp.example.co/a b",
            "https://otp.example.co/ñ",
            "https://otp.example.co/s?r=1",
            "https://otp.example.co/s?x=1&%61=2",
        ] {
            assert!(StatusUrl::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_url_is_signed_with_and_without_its_port() {
        for (url, expected) in [
            ("https://h.example/s?x=1#rc=5", ["https://h.example/s", "https://h.example:443/s"]),
            ("http://h.example:80/s", ["http://h.example/s", "http://h.example:80/s"]),
            ("https://h.example:8443", ["https://h.example/", "https://h.example:8443/"]),
            ("http://[::1]:81/s", ["http://[::1]/s", "http://[::1]:81/s"]),
        ] {
            assert_eq!(StatusUrl::parse(url).expect("a good URL").signed_forms(), expected);
        }
    }
}
