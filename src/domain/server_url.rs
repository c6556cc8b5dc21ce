//! URLs of servers: scheme, credentials, hosts with their ports, path and parameters (RFC 3986, but for a list of hosts).
//!
//! A URL with two readings is refused: a client that guesses connects to another server, or as another user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use percent_encoding::percent_decode_str;

/// It holds a password: no `Debug`.
pub struct ServerUrl {
    /// One of the schemes that were allowed.
    pub scheme: &'static str,
    /// `None` without `@`. Never both empty.
    pub credentials: Option<Credentials>,
    /// At least one. An adapter that connects to one server takes [`ServerUrl::one_host`].
    hosts: Vec<Host>,
    /// The segments behind the slash after the hosts; none without it.
    segments: Vec<String>,
    /// Names and values, each name once.
    pub parameters: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, or an address without brackets.
    pub name: String,
    pub port: Option<u16>,
}

/// They stand before `@`: no `Debug`.
pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// The rule that a URL breaks. It repeats nothing of the URL, which holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(String);

impl InvalidUrl {
    pub fn new(rule: impl Into<String>) -> InvalidUrl {
        InvalidUrl(rule.into())
    }
}

fn broken<T>(rule: &str) -> Result<T, InvalidUrl> {
    Err(InvalidUrl::new(rule))
}

const ONE_URL: &str =
    "must be one URL, whose other hosts follow the first: scheme://user:password@host1,host2";
const SIGNS: &str = "must have /, ?, # and @ of a user or password as %2F, %3F, %23 and %40";
const HOST: &str = "must name a host: a name, an IPv4 address, or an IPv6 address in brackets";
const PORT: &str = "must have a port from 1 to 65535, or no colon after the host";
const HOSTS_MAX: usize = 32;

impl ServerUrl {
    pub fn parse(url: &str, schemes: &[&'static str]) -> Result<ServerUrl, InvalidUrl> {
        let of = |given: &str| schemes.iter().find(|scheme| scheme.eq_ignore_ascii_case(given));
        let Some((scheme, rest)) =
            url.split_once("://").and_then(|(scheme, rest)| Some((*of(scheme)?, rest)))
        else {
            return Err(InvalidUrl(format!("must begin with {}://", schemes.join(":// or "))));
        };
        if rest.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return broken("must not contain spaces or control characters");
        }
        if rest.contains('#') {
            return broken("must have no fragment; a # in a user or password is written %23");
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains("://") {
            return broken(ONE_URL);
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        if query.contains('@') || path.is_some_and(|path| path.contains('@')) {
            return broken(SIGNS);
        }
        let (credentials, server) = match authority.rsplit_once('@') {
            Some((credentials, server)) => (Some(Credentials::parse(credentials)?), server),
            None => (None, authority),
        };
        let segments = path.into_iter().flat_map(|path| path.split('/').map(decoded));
        Ok(ServerUrl {
            scheme,
            credentials,
            hosts: hosts_of(server)?,
            segments: segments.collect::<Result<_, _>>()?,
            parameters: parameters_of(query)?,
        })
    }

    /// The only host. `instead` names the URL that may have several.
    pub fn one_host(&self, instead: &str) -> Result<&Host, InvalidUrl> {
        match self.hosts.as_slice() {
            [host] => Ok(host),
            _ => Err(InvalidUrl(format!("must name one host{instead}"))),
        }
    }

    /// The hosts with their ports, each once.
    pub fn all_hosts(&self, standard_port: u16) -> Result<Vec<(String, u16)>, InvalidUrl> {
        let mut hosts: Vec<(String, u16)> = Vec::new();
        for host in &self.hosts {
            let host = (host.name.clone(), host.port.unwrap_or(standard_port));
            if hosts.contains(&host) {
                return broken("must name each host once");
            }
            hosts.push(host);
        }
        Ok(hosts)
    }

    /// A path of one segment; `None` without a slash after the hosts.
    pub fn path(&self) -> Result<Option<&str>, InvalidUrl> {
        match self.segments.as_slice() {
            [] => Ok(None),
            [segment] => Ok(Some(segment)),
            _ => broken("must have a / of its path as %2F"),
        }
    }

    /// The segments of a path that may have several.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

impl Credentials {
    fn parse(text: &str) -> Result<Credentials, InvalidUrl> {
        let Some((user, password)) = text.split_once(':').filter(|(_, password)| !password.is_empty()) else {
            return broken("must have a password beside its user, as user:password@host");
        };
        Ok(Credentials { user: decoded(user)?, password: decoded(password)? })
    }
}

fn hosts_of(text: &str) -> Result<Vec<Host>, InvalidUrl> {
    if text.split(',').count() > HOSTS_MAX {
        return Err(InvalidUrl(format!("must name at most {HOSTS_MAX} hosts")));
    }
    text.split(',').map(host_of).collect()
}

fn host_of(text: &str) -> Result<Host, InvalidUrl> {
    let (name, rest) = match text.strip_prefix('[').map(|text| text.split_once(']')) {
        Some(Some((address, rest))) => (ipv6(address)?, rest),
        Some(None) => return broken(HOST),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (checked_name(&text[..end])?, &text[end..])
        }
    };
    if name.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_unspecified()) {
        return broken("must name a host that can be connected to");
    }
    let port = match rest.strip_prefix(':') {
        Some(port) if port.contains(':') => return broken(HOST),
        Some(port) => Some(port_of(port)?),
        None if rest.is_empty() => None,
        None => return broken(HOST),
    };
    Ok(Host { name, port })
}

fn ipv6(text: &str) -> Result<String, InvalidUrl> {
    if text.contains('%') {
        return broken("must have an IPv6 address without a zone");
    }
    let address: Result<Ipv6Addr, _> = text.parse();
    address.map(|address| address.to_string()).map_err(|_| InvalidUrl::new(HOST))
}

/// A name or an IPv4 address. Underscores are allowed: Compose services have them.
fn checked_name(text: &str) -> Result<String, InvalidUrl> {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    let labels = text.strip_suffix('.').unwrap_or(text);
    if text.len() > 253 || !labels.split('.').all(is_label) {
        return broken(HOST);
    }
    // Resolvers read `127.1` and `0x7f000001` as addresses.
    let last = labels.rsplit('.').next().unwrap_or_default();
    let is_number =
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if is_number && text.parse::<Ipv4Addr>().is_err() {
        return broken(HOST);
    }
    Ok(text.to_ascii_lowercase())
}

fn port_of(text: &str) -> Result<u16, InvalidUrl> {
    let port = whole_number(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or_else(|| InvalidUrl::new(PORT))
}

/// Digits alone: no sign.
pub fn whole_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn parameters_of(query: &str) -> Result<Vec<(String, String)>, InvalidUrl> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|_| !query.is_empty()) {
        let Some((name, value)) = part.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return broken("must have parameters as ?name=value&name=value");
        };
        let (name, value) = (decoded(name)?, decoded(value)?);
        if parameters.iter().any(|(known, _)| *known == name) {
            return broken("must have each parameter once");
        }
        parameters.push((name, value));
    }
    Ok(parameters)
}

/// A `%` that begins no byte would reach the server as it is from some clients and not from others.
fn decoded(text: &str) -> Result<String, InvalidUrl> {
    let is_byte =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_byte) {
        return broken("must have a % of a user or password as %25");
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.into_owned()),
        _ => broken("must stand for UTF-8 text without control characters once it is decoded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_decoded_once() {
        let url = "REDISS://us%25er:p%3aa%2540:ss@[2001:DB8:0::1]:6380/a%2Fb?x=%26&y=";
        let url = ServerUrl::parse(url, &["redis", "rediss"]).expect("a URL");
        let credentials = url.credentials.as_ref().expect("credentials");
        assert_eq!((&*credentials.user, &*credentials.password), ("us%er", "p:a%40:ss"));
        let host = url.one_host("").expect("one host");
        assert_eq!((url.scheme, &*host.name, host.port), ("rediss", "2001:db8::1", Some(6380)));
        assert_eq!(url.path(), Ok(Some("a/b")));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(url.parameters, [pair("x", "&"), pair("y", "")]);
    }

    #[test]
    fn a_sign_in_a_password_is_read_up_to_the_last_at_sign_or_refused() {
        let url = ServerUrl::parse("a://u:p@ss@host", &["a"]).expect("a URL");
        assert_eq!(url.credentials.map(|known| known.password).as_deref(), Some("p@ss"));
        for url in ["a://u:1/2@host", "a://u:1?2@host", "a://u:1#2@host", "a://u:1/2?3@host"] {
            assert!(ServerUrl::parse(url, &["a"]).is_err(), "{url}");
        }
    }

    #[test]
    fn commas_separate_hosts_only_after_the_credentials() {
        let url = ServerUrl::parse("a://u,v:p,q@one:1,[::1]:2,three/x,y", &["a"]).expect("a URL");
        let credentials = url.credentials.as_ref().expect("credentials");
        assert_eq!((&*credentials.user, &*credentials.password), ("u,v", "p,q"));
        let hosts = url.all_hosts(9).expect("different hosts");
        let host = |name: &str, port| (name.to_owned(), port);
        assert_eq!(hosts, [host("one", 1), host("::1", 2), host("three", 9)]);
        assert_eq!(url.path(), Ok(Some("x,y")));
        assert!(url.one_host("").is_err());
    }

    #[test]
    fn several_urls_are_one_url_with_several_hosts() {
        for url in
            ["a://u:p@one,a://u:p@two", "a://one:1/x,a://two:2/x", "a://one a://two", "a://one;a://two"]
        {
            let words = ServerUrl::parse(url, &["a"]).err().map(|rule| rule.to_string()).unwrap_or_default();
            let expected =
                if url.contains(' ') { "spaces" } else { "one URL, whose other hosts follow the first" };
            assert!(words.contains(expected), "{url}: {words}");
        }
        assert!(ServerUrl::parse("a://one?x=b://two", &["a"]).is_ok(), "a parameter may be a URL");
    }

    #[test]
    fn a_list_of_hosts_has_no_empty_double_or_excess_one() {
        let many = |count: usize| {
            let hosts: Vec<String> = (0..count).map(|number| format!("h{number}")).collect();
            format!("a://{}", hosts.join(","))
        };
        for url in [
            "a://one,",
            "a://,one",
            "a://one,,two",
            "a://one, two",
            "a://one,two:0",
            "a://one,[::1",
            &many(33),
        ] {
            assert!(ServerUrl::parse(url, &["a"]).is_err(), "{url}");
        }
        for url in ["a://one,one", "a://one,ONE:9", "a://[::1],[0::1]:9"] {
            let url_read = ServerUrl::parse(url, &["a"]).expect("a URL");
            assert_eq!(url_read.all_hosts(9), broken("must name each host once"), "{url}");
        }
        assert!(ServerUrl::parse(&many(32), &["a"]).is_ok_and(|url| url.all_hosts(9).is_ok()));
    }
}
