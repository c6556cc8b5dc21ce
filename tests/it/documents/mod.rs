//! Compares the machine-readable documents and the page of settings with the program: neither may have more than the
//! other.

mod broker;
pub mod http;
pub mod messages;
mod readers;
mod routes;
mod settings;

use std::path::Path;

use serde_json::Value;

fn document(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}
