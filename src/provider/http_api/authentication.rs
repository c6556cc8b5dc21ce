//! The ways in which a vendor recognises an account.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::context;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Body, Method, Request};
use secrecy::{ExposeSecret as _, SecretString};

use super::digest::{Algorithm, Encoding};
use super::request::{self, Filled, FilledBody};
use super::secrets::{self, ReadSecret};
use super::table::{Faults, Table};
use super::template::{CannotFill, Template};
use super::variables;
use crate::domain::time::UnixMillis;

/// It holds secrets: no `Debug`.
pub(super) enum Authentication {
    None,
    /// A header, complete.
    Header(HeaderName, HeaderValue),
    /// Parameters of the query.
    Query(Vec<(String, SecretString)>),
    /// Fields of the form.
    Form(Vec<(String, SecretString)>),
    Hmac(Box<Signer>),
}

/// Signs a described text with HMAC.
pub(super) struct Signer {
    header: HeaderName,
    prefix: String,
    algorithm: Algorithm,
    encoding: Encoding,
    secret: SecretString,
    text: Template,
}

const KINDS: [&str; 6] = ["basic", "bearer", "header", "query", "form", "hmac"];

impl Authentication {
    pub(super) fn read(
        table: &mut Table<'_>,
        read: &ReadSecret<'_>,
        faults: &mut Faults<'_>,
    ) -> Option<Authentication> {
        match KINDS[table.choice("kind", &KINDS, faults)?] {
            "basic" => basic(table, read, faults),
            "bearer" => {
                let token = secrets::required(table, "secret", read, faults)?;
                header(AUTHORIZATION, format!("Bearer {}", token.expose_secret()), table, faults)
            }
            "header" => {
                let name = header_name(table, "name", faults);
                let prefix = table.text("prefix", faults).map_or("", |prefix| prefix.text);
                let secret = secrets::required(table, "secret", read, faults)?;
                header(name?, format!("{prefix}{}", secret.expose_secret()), table, faults)
            }
            "query" => parameters(table, read, faults).map(Authentication::Query),
            "form" => parameters(table, read, faults).map(Authentication::Form),
            _ => Signer::read(table, read, faults).map(|signer| Authentication::Hmac(Box::new(signer))),
        }
    }

    /// The request with its authentication. Secrets in headers are marked as sensitive.
    pub(super) fn complete(&self, mut filled: Filled, now: UnixMillis) -> Result<Request, CannotFill> {
        let pairs = |secrets: &[(String, SecretString)]| {
            let pair =
                |(name, secret): &(String, SecretString)| (name.clone(), secret.expose_secret().to_owned());
            secrets.iter().map(pair).collect::<Vec<_>>()
        };
        match self {
            Authentication::None | Authentication::Hmac(_) => {}
            Authentication::Header(name, value) => drop(filled.headers.insert(name, value.clone())),
            Authentication::Query(secrets) => filled.query.extend(pairs(secrets)),
            // A GET has no body.
            Authentication::Form(secrets) if filled.method == Method::GET => {
                filled.query.extend(pairs(secrets));
            }
            Authentication::Form(secrets) => match &mut filled.body {
                FilledBody::Form(fields) => fields.extend(pairs(secrets)),
                body => *body = FilledBody::Form(pairs(secrets)),
            },
        }
        let (query, (body, content_type)) = (filled.query(), filled.body());
        filled.set_type(content_type);
        if let Authentication::Hmac(signer) = self {
            let value = signer.sign(&filled, &query, &body, now)?;
            filled.headers.insert(signer.header.clone(), value);
        }
        let mut url = filled.url;
        url.set_query(Some(&*query).filter(|query| !query.is_empty()));
        let mut request = Request::new(filled.method, url);
        *request.headers_mut() = filled.headers;
        *request.body_mut() = (!body.is_empty()).then(|| Body::from(body));
        Ok(request)
    }
}

impl Signer {
    fn read(table: &mut Table<'_>, read: &ReadSecret<'_>, faults: &mut Faults<'_>) -> Option<Signer> {
        let header = header_name(table, "header", faults);
        let prefix = table.text("prefix", faults).map_or("", |prefix| prefix.text).to_owned();
        let (algorithm, encoding) = (Algorithm::read(table, faults), Encoding::read(table, faults));
        let text = table.required("text", faults);
        let text = text.and_then(|t| request::template(t, "text", &variables::OF_SIGNED_REQUESTS, faults));
        let secret = secrets::required(table, "secret", read, faults);
        Some(Signer {
            header: header?,
            prefix,
            algorithm: algorithm?,
            encoding: encoding?,
            secret: secret?,
            text: text?,
        })
    }

    fn sign(
        &self,
        filled: &Filled,
        query: &str,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<HeaderValue, CannotFill> {
        let values = context! {
            method => filled.method.as_str(),
            path => filled.url.path(),
            query => query,
            body => std::str::from_utf8(body).map_err(|_| CannotFill)?,
            timestamp => now.as_seconds(),
        };
        let text = self.text.text(&values)?.ok_or(CannotFill)?;
        let mac = self.algorithm.mac(self.secret.expose_secret().as_bytes(), text.as_bytes());
        let value = format!("{}{}", self.prefix, self.encoding.encode(&mac));
        let mut value = HeaderValue::try_from(value).map_err(|_| CannotFill)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn basic(table: &mut Table<'_>, read: &ReadSecret<'_>, faults: &mut Faults<'_>) -> Option<Authentication> {
    let user = table.required("user", faults).and_then(|user| secrets::plain_or_secret(user, read, faults));
    let secret = secrets::required(table, "secret", read, faults);
    header(AUTHORIZATION, basic_credentials(&user?, &secret?), table, faults)
}

/// The value of `Authorization` (RFC 7617).
pub(super) fn basic_credentials(user: &SecretString, password: &SecretString) -> String {
    let pair = format!("{}:{}", user.expose_secret(), password.expose_secret());
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

fn header(
    name: HeaderName,
    value: String,
    table: &Table<'_>,
    faults: &mut Faults<'_>,
) -> Option<Authentication> {
    let value = HeaderValue::try_from(value).map_err(|_| "the secret has characters that no header can hold");
    let mut value = faults.ok(table.at, value)?;
    value.set_sensitive(true);
    Some(Authentication::Header(name, value))
}

pub(super) fn header_name(table: &mut Table<'_>, key: &str, faults: &mut Faults<'_>) -> Option<HeaderName> {
    let name = table.required(key, faults)?;
    let parsed = HeaderName::try_from(name.text).map_err(|_| format!("`{key}` must be the name of a header"));
    faults.ok(name.at, parsed)
}

fn parameters(
    table: &mut Table<'_>,
    read: &ReadSecret<'_>,
    faults: &mut Faults<'_>,
) -> Option<Vec<(String, SecretString)>> {
    let Some(parameters) = table.table("parameters", faults) else {
        faults.add(table.at, "`parameters` is missing: a table of names, each with env:NAME or file:/path");
        return None;
    };
    let mut secrets = Vec::new();
    for (name, item) in parameters.entries() {
        let secret = item.text(name, faults).and_then(|text| secrets::secret(text, name, read, faults));
        secrets.extend(secret.map(|secret| (name.to_owned(), secret)));
    }
    Some(secrets)
}
