//! The first output of `otpost dev`: addresses, and commands to paste.

use std::net::SocketAddr;
use std::time::Duration;

use super::wiring::Wiring;
use crate::config::Settings;
use crate::http;

pub(super) fn print(settings: &Settings, http: SocketAddr, ops: SocketAddr, wiring: &Wiring, has_page: bool) {
    let in_an_hour = wiring.clock.now().plus(Duration::from_secs(3_600));
    let token = settings.jwt.as_ref().and_then(|jwt| {
        http::development_token(jwt, Some("+573001234567"), Some("ana@example.com"), None, in_an_hour)
    });
    let user = token.as_deref().unwrap_or("<one that your issuer signs>");
    let place = |in_memory, name| {
        if in_memory { format!("in memory ({name} is not set)") } else { format!("at {name}") }
    };
    let page = if has_page { format!("  page     http://{http}/\n") } else { String::new() };
    let shown = if has_page {
        "Ask for a code; the message is shown here:"
    } else {
        "Ask for a code. It is sent for real, and that number may belong to a person: make a token for your own phone first,
with `otpost token --phone NUMBER`:"
    };
    let kept = if wiring.broker_in_memory && wiring.store_in_memory { ", nothing is kept" } else { "" };
    println!(
        "otpost dev: one process{kept}.
{page}  HTTP     http://{http}
  metrics  http://{ops}/metrics
  broker   {}
  store    {}

Paste this into another terminal. The first line is a token for the number +57 300 123 4567 and the address
ana@example.com, good for an hour:

  TOKEN={user}

{shown}

  curl -sS http://{http}/api/v1/auth/send-verification-sms -H \"Authorization: Bearer $TOKEN\" \\
    -H 'Content-Type: application/json' -d '{{\"otp_type\":\"SMS\"}}'

Check it, with the code from the message in place of CODE:

  curl -sS http://{http}/api/v1/auth/verify-phone-otp -H \"Authorization: Bearer $TOKEN\" \\
    -H 'Content-Type: application/json' -d '{{\"otp_code\":\"CODE\"}}'

By e-mail it is send-verification-email with {{\"otp_type\":\"EMAIL\"}}, and verify-email-otp.

Stop with Ctrl-C.
",
        place(wiring.broker_in_memory, "AMQP_URL"),
        place(wiring.store_in_memory, "REDIS_URL"),
    );
}
