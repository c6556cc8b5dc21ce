//! HTTP/1.1 as far as the stand-in needs it, so that it can break an answer at any byte.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A received request.
pub(super) struct ApiCall {
    pub(super) method: String,
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: HashMap<String, String>,
    /// The decoded body, or the query of a GET. Of a JSON body its members that are texts.
    form: Vec<(String, String)>,
}

impl ApiCall {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A query field of the callback URL.
    pub(super) fn callback_field(&self, name: &str) -> Option<String> {
        let (_, query) = self.field("StatusCallback")?.split_once('?')?;
        let query = query.split('#').next().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// The next request, while there is one.
pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> Option<ApiCall> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|&length| length > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let (method, target) = lines.first()?.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let header = |line: &String| line.split_once(':').map(|(k, v)| (k.to_lowercase(), v.trim().to_owned()));
    let headers: HashMap<_, _> = lines[1..].iter().filter_map(header).collect();
    let length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let encoded = if method == "GET" { query.as_bytes() } else { &body };
    let is_json = headers.get("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    let form = if is_json { texts_of(&body) } else { form_urlencoded::parse(encoded).into_owned().collect() };
    Some(ApiCall { method: method.to_owned(), path: path.to_owned(), headers, form })
}

fn texts_of(body: &[u8]) -> Vec<(String, String)> {
    let members = serde_json::from_slice::<serde_json::Map<String, Value>>(body).unwrap_or_default();
    members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
}

pub(super) async fn write(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    stream.get_mut().write_all(bytes).await
}

/// An answer with a JSON body.
pub(super) struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Answer {
        Answer { status, headers: String::new(), body: body.to_string() }
    }

    /// Twilio's shape of an error.
    pub(super) fn error(status: u16, code: u32) -> Answer {
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        Answer::json(
            status,
            &json!({"code": code, "message": "from a stand-in", "more_info": more_info, "status": status}),
        )
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let Answer { status, headers, body } = self;
        let (length, date) = (body.len(), Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT"));
        let head = format!(
            "HTTP/1.1 {status} Fake\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nDate: {date}\r\n"
        );
        format!("{head}{headers}\r\n{body}").into_bytes()
    }
}
