//! A collector of OTLP over HTTP, which decodes what it gets by protobuf's wire format.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::contract::broker::patiently;
use crate::fake_http::{Listener, Recorded, read_request};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: String,
    pub state: String,
    pub name: String,
    /// 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: u64,
    pub times: (u64, u64),
    pub attributes: BTreeMap<String, String>,
    /// Trace id and span id.
    pub links: Vec<(String, String)>,
    pub is_failed: bool,
}

impl Span {
    /// The context of a message that this span published.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    pub fn id(&self) -> (String, String) {
        (self.trace_id.clone(), self.span_id.clone())
    }

    #[track_caller]
    pub fn expect(&self, attributes: &[(&str, &str)]) {
        for (name, value) in attributes {
            assert_eq!(self.attributes.get(*name).map(String::as_str), Some(*value), "{name} of {self:?}");
        }
    }
}

pub struct Collector {
    listener: Listener,
    requests: Arc<Mutex<Vec<Recorded>>>,
    received: UnboundedReceiver<Vec<Span>>,
    pub spans: Vec<Span>,
}

impl Collector {
    pub fn start() -> Collector {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (sender, received) = unbounded_channel();
        let kept = Arc::clone(&requests);
        let listener = Listener::start(move |connection| {
            let mut reader = BufReader::new(connection);
            while let Some(request) = read_request(&mut reader) {
                let spans = read_spans(&request.body);
                kept.lock().expect("no panic while the lock is held").push(request);
                let mut writer = connection;
                let _ = writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                let _ = sender.send(spans);
            }
        });
        Collector { listener, requests, received, spans: Vec::new() }
    }

    pub fn base_url(&self) -> String {
        self.listener.base_url()
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().expect("no panic while the lock is held").clone()
    }

    /// Takes over what has come.
    pub fn read_received(&mut self) {
        while let Ok(more) = self.received.try_recv() {
            self.spans.extend(more);
        }
    }

    /// Waits for a span with a name that begins and ends so.
    pub async fn span(&mut self, begin: &str, end: &str) -> Span {
        let is_wanted = |span: &&Span| span.name.starts_with(begin) && span.name.ends_with(end);
        patiently(async {
            loop {
                if let Some(span) = self.spans.iter().find(is_wanted) {
                    return span.clone();
                }
                let more = self.received.recv().await.expect("the collector runs");
                self.spans.extend(more);
            }
        })
        .await
    }

    /// The spans of a trace that are direct children of one of them.
    pub fn children(&self, of: &Span) -> Vec<&Span> {
        let is_child = |span: &&Span| span.trace_id == of.trace_id && span.parent_id == of.span_id;
        self.spans.iter().filter(is_child).collect()
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, by their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight"))),
            2 => {
                let len = varint(&mut bytes);
                Value::Bytes(take(&mut bytes, usize::try_from(len).expect("a length")))
            }
            5 => Value::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("four")).into()),
            other => panic!("{other} is no wire type of OTLP"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The messages of a field.
fn messages<'a>(bytes: &'a [u8], field: u64) -> Vec<&'a [u8]> {
    let of_field = |(number, value): (u64, Value<'a>)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of_field).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn read_spans(body: &[u8]) -> Vec<Span> {
    let resources = messages(body, 1);
    assert!(resources.iter().all(|resource| messages(resource, 1).len() == 1), "each has a resource");
    let scopes = resources.into_iter().flat_map(|resource| messages(resource, 2));
    scopes.flat_map(|scope| messages(scope, 2)).map(read_span).collect()
}

/// The attributes of the resource of an export.
pub fn resource(body: &[u8]) -> BTreeMap<String, String> {
    let resource = messages(messages(body, 1)[0], 1)[0];
    messages(resource, 1).into_iter().map(read_attribute).collect()
}

fn read_span(bytes: &[u8]) -> Span {
    let mut span = Span::default();
    for (field, value) in fields(bytes) {
        match (field, value) {
            (1, Value::Bytes(id)) => span.trace_id = hex::encode(id),
            (2, Value::Bytes(id)) => span.span_id = hex::encode(id),
            (3, Value::Bytes(state)) => span.state = text(state),
            (4, Value::Bytes(id)) => span.parent_id = hex::encode(id),
            (5, Value::Bytes(name)) => span.name = text(name),
            (6, Value::Number(kind)) => span.kind = kind,
            (7, Value::Number(time)) => span.times.0 = time,
            (8, Value::Number(time)) => span.times.1 = time,
            (9, Value::Bytes(attribute)) => span.attributes.extend([read_attribute(attribute)]),
            (13, Value::Bytes(link)) => {
                let id = |field| hex::encode(messages(link, field)[0]);
                span.links.push((id(1), id(2)));
            }
            (15, Value::Bytes(_)) => span.is_failed = true,
            (16, Value::Number(flags)) => assert_eq!(flags & 0x101, 0x101, "sampled, and knows its parent"),
            (other, _) => panic!("{other} is no field that we write"),
        }
    }
    assert!(span.times.0 > 0 && span.times.0 <= span.times.1, "{span:?}");
    span
}

fn read_attribute(bytes: &[u8]) -> (String, String) {
    let value = match fields(messages(bytes, 2)[0]).remove(0) {
        (1, Value::Bytes(value)) => text(value),
        (2, Value::Number(flag)) => (flag == 1).to_string(),
        (3, Value::Number(number)) => number.to_string(),
        (other, _) => panic!("{other} is no value that we write"),
    };
    (text(messages(bytes, 1)[0]), value)
}
