//! Lost answers, alike for every HTTP provider.
//!
//! Of a transport error only its kind is read, never its text: it holds the URL. A message that may have been sent is
//! in doubt.

use std::error::Error;
use std::io;

use reqwest::StatusCode;

use crate::domain::send_failure::{Scope, SendFailure};

/// The failure that a request without an answer stands for. Of the error only kinds are read: its text holds
/// the URL.
pub(crate) fn transport(error: &reqwest::Error) -> SendFailure {
    let detail = || transport_detail(error).to_owned();
    if error.is_builder() {
        // A fault of ours that no retry heals. Nothing left us, and other messages may still do better.
        SendFailure::refused(Scope::Request, None)
    } else if error.is_connect() {
        SendFailure::NotConnected { detail: detail() }
    } else {
        SendFailure::InDoubt { detail: detail() }
    }
}

/// The failed step, in words that name no address.
pub(crate) fn transport_detail(error: &reqwest::Error) -> &'static str {
    let causes = || std::iter::successors(error.source(), |&cause| cause.source());
    // An error inside an `io::Error` is not its source: it has to be asked for.
    let tls = |cause: &io::Error| cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let io_errors = || causes().filter_map(|cause| cause.downcast_ref::<io::Error>());
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => "connecting timed out",
        (false, true) => "timed out before the answer",
        (true, false) if error.is_dns() => "the host name could not be resolved",
        (true, false) if io_errors().any(tls) => "the TLS handshake failed",
        (true, false) if io_errors().any(|e| e.kind() == io::ErrorKind::ConnectionRefused) => {
            "connection refused"
        }
        (true, false) => "no connection",
        (false, false) => "the connection broke before the answer",
    }
}

pub(crate) fn answered(status: StatusCode, provider_code: Option<u32>) -> String {
    let code = provider_code.map_or(String::new(), |number| format!(", code {number}"));
    format!("answered with HTTP {}{code}", status.as_u16())
}
