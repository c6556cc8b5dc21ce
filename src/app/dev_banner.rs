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
    let (owner, user) = person(token.as_deref(), has_page);
    let place = |in_memory, name| {
        if in_memory { format!("in memory ({name} is not set)") } else { format!("at {name}") }
    };
    let page = if has_page { format!("  page     http://{http}/\n") } else { String::new() };
    let shown = if has_page {
        "Ask for a code; the message is shown here:"
    } else {
        "Ask for a code. It is sent for real:"
    };
    let kept = if wiring.broker_in_memory && wiring.store_in_memory { ", nothing is kept" } else { "" };
    println!(
        "otpost dev: one process{kept}.
{page}  HTTP     http://{http}
  metrics  http://{ops}/metrics
  broker   {}
  store    {}

Paste this into another terminal. {owner}

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

/// A sentence on the token's person, and the token. A made-up number may belong to a person, so it gets no real message.
fn person(made_up: Option<&str>, is_simulated: bool) -> (&'static str, &str) {
    match made_up {
        None => ("The first line is for a token of your issuer:", "<one that your issuer signs>"),
        Some(token) if is_simulated => (
            "The first line is a token for the number +57 300 123 4567 and the address
ana@example.com, good for an hour:",
            token,
        ),
        Some(_) => (
            "The first line makes a token for your own number and address:
messages are sent for real, and made-up ones may belong to people.",
            "$(ENVIRONMENT=development otpost token --phone YOUR_NUMBER --email YOUR_ADDRESS)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::person;

    #[test]
    fn the_token_of_a_made_up_number_is_printed_only_if_messages_are_simulated() {
        assert_eq!(person(Some("ey"), true).1, "ey");
        let (owner, token) = person(Some("ey"), false);
        assert!(
            owner.contains("your own number") && token.contains("--phone YOUR_NUMBER"),
            "{owner} {token}"
        );
        assert!(!owner.contains("+57") && token != "ey", "{owner} {token}");
        assert!(person(None, true).1.contains("your issuer"));
    }
}
