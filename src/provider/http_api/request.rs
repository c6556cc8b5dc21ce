//! Requests as a file describes them: method, URL, query, headers and body.

use std::borrow::Cow;

use form_urlencoded::Serializer;
use minijinja::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use toml::de::DeValue;

use super::table::{Faults, Item, Table, Text, shape};
use super::template::{CannotFill, Template};
use crate::provider::http_client::base_url;

/// The characters that a value keeps in a URL (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Members, fields and headers of one table.
const FIELDS_MAX: usize = 64;
const DEPTH_MAX: usize = 8;

pub(super) struct RequestTemplate {
    method: Method,
    /// Scheme, host and port are the same in every request.
    pub(super) base: Url,
    url: Template,
    query: Fields,
    headers: Vec<(HeaderName, Template)>,
    body: Body,
}

type Fields = Vec<(String, Template)>;

enum Body {
    None,
    Form(Fields),
    Json(JsonTemplate),
}

enum JsonTemplate {
    Constant(serde_json::Value),
    Text(Template),
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

/// A filled request whose authentication is missing. It may hold a code: no `Debug`.
pub(super) struct Filled {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: FilledBody,
}

pub(super) enum FilledBody {
    None,
    Form(Vec<(String, String)>),
    Json(Vec<u8>),
}

impl RequestTemplate {
    /// Takes the members of a request, whose method is `usual` unless the file names one.
    pub(super) fn read(
        table: &mut Table<'_>,
        usual: Method,
        variables: &[&str],
        faults: &mut Faults<'_>,
    ) -> Option<RequestTemplate> {
        let method = match table.text("method", faults) {
            None => Some(usual),
            Some(text) => {
                let known = super::table::choice(text, "method", &["GET", "POST"], faults);
                known.map(|place| [Method::GET, Method::POST][place].clone())
            }
        };
        let plain_http = table.flag("plain_http", faults);
        let url = table.required("url", faults);
        let url = url.and_then(|text| {
            Some((base(text, plain_http, faults)?, template(text, "url", variables, faults)?))
        });
        let query = fields(table, "query", variables, faults);
        let headers = fields(table, "headers", variables, faults);
        let headers = headers.into_iter().filter_map(|(name, template)| {
            let named = HeaderName::try_from(&name).map_err(|_| format!("`{name}` is no name of a header"));
            Some((faults.ok(table.at, named)?, template))
        });
        let headers: Vec<_> = headers.collect();
        let (form, json) = (table.take("form"), table.take("json"));
        let is_get = method == Some(Method::GET);
        let body = match (form, json) {
            (None, None) => Body::None,
            (Some(item), None) | (None, Some(item)) if is_get => {
                faults.add(item.at, "a GET has no body: use `query`");
                Body::None
            }
            (Some(form), None) => Body::Form(fields_of(form, "form", variables, faults)),
            (None, Some(json)) => Body::Json(json_template(json, DEPTH_MAX, variables, faults)?),
            (Some(_), Some(json)) => {
                faults.add(json.at, "a request has `form` or `json`, not both");
                Body::None
            }
        };
        let (method, (base, url)) = (method?, url?);
        Some(RequestTemplate { method, base, url, query, headers, body })
    }

    pub(super) fn uses(&self, name: &str) -> bool {
        let in_fields = |fields: &Fields| fields.iter().any(|(_, template)| template.uses(name));
        self.url.uses(name)
            || in_fields(&self.query)
            || self.headers.iter().any(|(_, template)| template.uses(name))
            || match &self.body {
                Body::None => false,
                Body::Form(fields) => in_fields(fields),
                Body::Json(json) => json.uses(name),
            }
    }

    pub(super) fn fill(&self, values: &Value) -> Result<Filled, CannotFill> {
        let escape = |text: &str| Cow::from(utf8_percent_encode(text, ESCAPED)).into_owned();
        let url = self.url.filled(values, |text| Cow::Owned(escape(text)))?;
        let url = self.kept(&url).ok_or(CannotFill)?;
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            if let Some(value) = template.text(values)? {
                headers.append(name.clone(), HeaderValue::try_from(value).map_err(|_| CannotFill)?);
            }
        }
        let body = match &self.body {
            Body::None => FilledBody::None,
            Body::Form(fields) => FilledBody::Form(filled(fields, values)?),
            Body::Json(json) => {
                let json = json.fill(values)?.unwrap_or_default();
                FilledBody::Json(serde_json::to_vec(&json).map_err(|_| CannotFill)?)
            }
        };
        Ok(Filled { method: self.method.clone(), url, query: filled(&self.query, values)?, headers, body })
    }

    /// The URL, if no value changes its origin or leaves its path: `.` and `..` are no segments.
    fn kept(&self, text: &str) -> Option<Url> {
        let is_dots =
            |segment: &str| matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..");
        let url = Url::parse(text).ok()?;
        let is_kept = url.origin() == self.base.origin() && !text.split(['/', '\\']).any(is_dots);
        is_kept.then_some(url)
    }
}

impl JsonTemplate {
    fn uses(&self, name: &str) -> bool {
        match self {
            JsonTemplate::Constant(_) => false,
            JsonTemplate::Text(template) => template.uses(name),
            JsonTemplate::List(list) => list.iter().any(|element| element.uses(name)),
            JsonTemplate::Object(members) => members.iter().any(|(_, member)| member.uses(name)),
        }
    }

    /// `None` for a member that is left out.
    fn fill(&self, values: &Value) -> Result<Option<serde_json::Value>, CannotFill> {
        use serde_json::Value as Json;
        Ok(Some(match self {
            JsonTemplate::Constant(json) => json.clone(),
            JsonTemplate::Text(template) => match template.only_value(values).transpose()? {
                Some(value) if value.is_none() => return Ok(None),
                Some(value) if value.is_number() || value.as_str().is_none() => {
                    let json = serde_json::to_value(&value).map_err(|_| CannotFill)?;
                    if !(json.is_number() || json.is_boolean()) {
                        return Err(CannotFill);
                    }
                    json
                }
                _ => Json::String(template.text(values)?.ok_or(CannotFill)?),
            },
            JsonTemplate::List(list) => {
                let elements: Result<Vec<_>, _> = list.iter().map(|element| element.fill(values)).collect();
                Json::Array(elements?.into_iter().flatten().collect())
            }
            JsonTemplate::Object(members) => {
                let mut object = serde_json::Map::new();
                for (name, member) in members {
                    if let Some(value) = member.fill(values)? {
                        object.insert(name.clone(), value);
                    }
                }
                Json::Object(object)
            }
        }))
    }
}

impl Filled {
    /// The query, encoded.
    pub(super) fn query(&self) -> String {
        encoded(&self.query)
    }

    /// The body, encoded, with the type that its header gets.
    pub(super) fn body(&self) -> (Vec<u8>, Option<HeaderValue>) {
        match &self.body {
            FilledBody::None => (Vec::new(), None),
            FilledBody::Form(fields) => {
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                (encoded(fields).into_bytes(), Some(form))
            }
            FilledBody::Json(json) => (json.clone(), Some(HeaderValue::from_static("application/json"))),
        }
    }

    pub(super) fn set_type(&mut self, content_type: Option<HeaderValue>) {
        if let Some(content_type) = content_type
            && !self.headers.contains_key(CONTENT_TYPE)
        {
            self.headers.insert(CONTENT_TYPE, content_type);
        }
    }
}

fn encoded(fields: &[(String, String)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Fields whose value is `none` are left out.
fn filled(fields: &Fields, values: &Value) -> Result<Vec<(String, String)>, CannotFill> {
    let field = |(name, template): &(String, Template)| match template.text(values) {
        Ok(value) => value.map(|value| Ok((name.clone(), value))),
        Err(error) => Some(Err(error)),
    };
    fields.iter().filter_map(field).collect()
}

pub(super) fn template(
    text: Text<'_>,
    key: &str,
    variables: &[&str],
    faults: &mut Faults<'_>,
) -> Option<Template> {
    faults.ok(text.at, Template::parse(text.text, variables).map_err(|problem| format!("`{key}` {problem}")))
}

fn fields(table: &mut Table<'_>, key: &str, variables: &[&str], faults: &mut Faults<'_>) -> Fields {
    table.take(key).map(|item| fields_of(item, key, variables, faults)).unwrap_or_default()
}

fn fields_of(item: Item<'_>, key: &str, variables: &[&str], faults: &mut Faults<'_>) -> Fields {
    let Some(table) = Table::of(item, key, faults) else { return Fields::new() };
    let entries = table.entries();
    if entries.len() > FIELDS_MAX {
        faults.add(item.at, format!("`{key}` has more than {FIELDS_MAX} members"));
    }
    let mut fields = Fields::new();
    for (name, item) in entries {
        match item.value {
            DeValue::Integer(number) => fields.push((name.to_owned(), constant(number.as_str()))),
            _ => {
                let read = item.text(name, faults).and_then(|text| template(text, name, variables, faults));
                fields.extend(read.map(|template| (name.to_owned(), template)));
            }
        }
    }
    fields
}

fn constant(text: &str) -> Template {
    Template::parse(text, &[]).expect("digits are a template")
}

fn json_template(
    item: Item<'_>,
    depth: usize,
    variables: &[&str],
    faults: &mut Faults<'_>,
) -> Option<JsonTemplate> {
    if depth == 0 {
        faults.add(item.at, format!("`json` is nested more than {DEPTH_MAX} deep"));
        return None;
    }
    match item.value {
        DeValue::String(text) => {
            template(Text { at: item.at, text }, "json", variables, faults).map(JsonTemplate::Text)
        }
        DeValue::Boolean(truth) => Some(JsonTemplate::Constant((*truth).into())),
        DeValue::Integer(number) => {
            let whole = i64::from_str_radix(number.as_str(), number.radix());
            faults
                .ok(item.at, whole.map_err(|_| "a number of `json` is too large"))
                .map(|whole| JsonTemplate::Constant(whole.into()))
        }
        DeValue::Array(list) if list.len() <= FIELDS_MAX => {
            let elements: Vec<_> = list
                .iter()
                .filter_map(|one| json_template(Item::of(one), depth - 1, variables, faults))
                .collect();
            Some(JsonTemplate::List(elements))
        }
        DeValue::Table(members) if members.len() <= FIELDS_MAX => {
            let members = Table::new(item.at, members).entries().into_iter();
            let member = |(name, item): (&str, Item<'_>)| {
                Some((name.to_owned(), json_template(item, depth - 1, variables, faults)?))
            };
            Some(JsonTemplate::Object(members.filter_map(member).collect()))
        }
        DeValue::Array(_) | DeValue::Table(_) => {
            faults.add(item.at, format!("`json` has more than {FIELDS_MAX} members in one place"));
            None
        }
        other => {
            faults.add(item.at, format!("`json` has no place for {}", shape(other)));
            None
        }
    }
}

/// The URL up to its path. No value may choose the host.
fn base(text: Text<'_>, plain_http: bool, faults: &mut Faults<'_>) -> Option<Url> {
    let (scheme, rest) = text.text.split_once("://").unwrap_or(("", text.text));
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains("{{") || rest.contains(['?', '#']) || authority.is_empty() {
        faults.add(text.at, "`url` must be a URL with a fixed host, without query and fragment: use `query`");
        return None;
    }
    let base = faults
        .ok(text.at, base_url(&format!("{scheme}://{authority}")).map_err(|rule| format!("`url`: {rule}")))?;
    if base.scheme() != "https" && !plain_http && !is_loopback(&base) {
        let rule = "`url` must begin with https://: with plain_http = true codes and secrets can be read on the network";
        faults.add(text.at, rule);
        return None;
    }
    Some(base)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}
