//! Replies as relays may write them (RFC 5321 §4.2), and replies that no command asked for.

use std::sync::LazyLock;
use std::time::Duration;

use otpost::domain::send_failure::{Scope, SendFailure};

use super::Answer::{self, Bytes, Hang, Say};
use super::{FakeRelay, rejected, send};

type Odd = &'static [(&'static str, Answer)];

async fn send_to(odd: Odd) -> Result<Option<String>, SendFailure> {
    send(&FakeRelay::start(odd).await.provider()).await
}

#[tokio::test]
async fn a_reply_without_a_text_counts_at_each_step() {
    for odd in [
        &[("greeting", Say("220"))] as Odd,
        &[("EHLO", Say("250"))],
        &[("EHLO", Say("250-\r\n250-8BITMIME\r\n250"))],
        &[("MAIL", Say("250"))],
        &[("RCPT", Say("251"))],
        &[("DATA", Say("354"))],
        &[(".", Say("250"))],
    ] {
        assert!(send_to(odd).await.is_ok(), "{}", odd[0].0);
    }
    let bare: Odd = &[
        ("greeting", Say("220")),
        ("EHLO", Say("250")),
        ("MAIL", Say("250")),
        ("RCPT", Say("250")),
        ("DATA", Say("354")),
        (".", Say("250")),
    ];
    assert!(send_to(bare).await.is_ok());
    let relay = FakeRelay::start(&[("AUTH", Say("235"))]).await;
    assert!(send(&relay.provider_at("u:p@", Duration::from_secs(5))).await.is_ok());
}

#[tokio::test]
async fn an_accepted_email_is_sent_however_the_reply_to_it_is_written() {
    const LONG: &[u8] = &[b'x'; 3_000];
    static LONG_LINE: LazyLock<Vec<u8>> = LazyLock::new(|| [b"250 2.0.0 " as &[u8], LONG, b"\r\n"].concat());
    static MANY_LINES: LazyLock<Vec<u8>> =
        LazyLock::new(|| [b"250-more\r\n".repeat(5_000), b"250\r\n".to_vec()].concat());
    for reply in [
        b"250\r\n" as &'static [u8],
        b"250 \r\n",
        b"250\n",
        b"250 2.0.0 taken\n",
        b"250-2.0.0 taken\r\n250\r\n",
        b"250-2.0.0 taken\n250\n",
        b"250-\r\n250-\r\n250 2.0.0\r\n",
        b"250 2.0.0 aceptado seg\xfan la pol\xedtica\r\n",
        b"250 2.0.0 \xc3\xb1 \xe2\x9c\x93\0\r\n",
        b"250 taken\r\r\n",
        &LONG_LINE,
        MANY_LINES.as_slice(),
    ] {
        let odd: Odd = Vec::leak(vec![(".", Bytes(reply))]);
        let sent = send_to(odd).await;
        assert!(sent.is_ok(), "{} {sent:?}", reply[..reply.len().min(40)].escape_ascii());
    }
}

#[tokio::test]
async fn a_refusal_without_a_text_keeps_its_scope() {
    let later = |code| SendFailure::Deferred { provider_code: Some(code) };
    let slower = |code| SendFailure::Throttled { provider_code: Some(code), retry_after: None };
    for (odd, expected) in [
        (&[("RCPT", Say("550"))] as Odd, rejected(550, Scope::Unrecognised)),
        (&[("RCPT", Say("451"))], later(451)),
        (&[("MAIL", Say("452"))], slower(452)),
        (&[("MAIL", Say("550"))], rejected(550, Scope::Account)),
        (&[(".", Say("554"))], rejected(554, Scope::Unrecognised)),
        (&[(".", Say("451"))], later(451)),
        (&[(".", Bytes(b"554-5.7.1 no\n554\n"))], rejected(554, Scope::Unrecognised)),
        (&[("greeting", Say("554"))], rejected(554, Scope::Account)),
    ] {
        assert_eq!(send_to(odd).await, Err(expected), "{}", odd[0].0);
    }
}

/// RFC 5321 §4.2.5: a relay that answers 4yz to the end of a text has not taken the e-mail.
#[tokio::test]
async fn a_relay_that_closes_instead_of_taking_the_text_surely_did_not_take_it() {
    for reply in [b"421\r\n" as &'static [u8], b"421 4.3.2 closing\r\n", b"421-a\r\n421\r\n"] {
        let odd: Odd = Vec::leak(vec![(".", Bytes(reply))]);
        let expected = SendFailure::NotConnected { detail: "answered with SMTP 421".to_owned() };
        assert_eq!(send_to(odd).await, Err(expected), "{}", reply.escape_ascii());
    }
}

#[tokio::test]
async fn a_reply_that_says_nothing_clear_leaves_the_email_in_doubt() {
    for reply in [
        b"25\r\n" as &'static [u8],
        b"\r\n",
        b"250ok\r\n",
        b"2500\r\n",
        b"250-one\r\n251 other\r\n",
        b"354 go on\r\n",
        b"\xff\xfe\r\n",
    ] {
        let odd: Odd = Vec::leak(vec![(".", Bytes(reply))]);
        let failure = send_to(odd).await;
        assert!(matches!(failure, Err(SendFailure::InDoubt { .. })), "{} {failure:?}", reply.escape_ascii());
    }
}

#[tokio::test]
async fn an_endless_reply_is_cut_off_long_before_the_time_is_over() {
    for endless in [&[b'2'; 200_000] as &'static [u8], b"250-more\r\n".repeat(20_000).leak()] {
        let odd: Odd = Vec::leak(vec![("EHLO", Bytes(endless))]);
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider_at("", Duration::from_secs(60))).await;
        let cut =
            SendFailure::NotConnected { detail: "no connection, or it broke before the answer".to_owned() };
        assert_eq!(failure, Err(cut));
    }
}

/// Without this an answer to nothing would be taken for the answer to a later command, or to the text.
#[tokio::test]
async fn a_reply_that_no_command_asked_for_ends_the_connection_before_the_text() {
    for odd in [
        &[("greeting", Say("220 relay\r\n250-relay\r\n250 8BITMIME"))] as Odd,
        &[("EHLO", Say("250 relay\r\n250 fine"))],
        &[("MAIL", Say("250 fine\r\n250 fine"))],
        &[("RCPT", Say("250 fine\r\n354 go on\r\n250 taken"))],
        &[("DATA", Say("354 go on\r\n250 taken"))],
        &[("DATA", Bytes(b"354 go on\r\n25"))],
    ] {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider()).await;
        let detail = "the mail server sent a reply that no command asked for".to_owned();
        assert_eq!(failure, Err(SendFailure::NotConnected { detail }), "{}", odd[0].0);
        assert_eq!(relay.count("From: "), 0, "{} {:?}", odd[0].0, relay.received());
    }
    for odd in [&[("DATA", Say("250 fine"))] as Odd, &[("MAIL", Say("354 go on"))]] {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider()).await;
        assert!(matches!(failure, Err(SendFailure::NotConnected { .. })), "{} {failure:?}", odd[0].0);
        assert_eq!(relay.count("From: "), 0, "{} {:?}", odd[0].0, relay.received());
    }
}

#[tokio::test]
async fn a_reply_that_came_while_the_connection_was_idle_answers_no_later_email() {
    let relay = FakeRelay::start(&[(".", Say("250 2.0.0 taken\r\n421 4.3.2 closing"))]).await;
    let provider = relay.provider();
    for _ in 0..2 {
        send(&provider).await.expect("sent, over a connection of its own");
    }
    assert_eq!(relay.count("EHLO"), 2);
}

#[tokio::test]
async fn a_text_that_the_relay_did_not_wait_for_is_not_in_doubt_as_it_was_never_sent() {
    let relay = FakeRelay::start(&[("DATA", Say("354 go on\r\n554 5.7.1 no"))]).await;
    let failure = send(&relay.provider()).await;
    assert!(matches!(failure, Err(SendFailure::NotConnected { .. })), "{failure:?}");
    let silent = FakeRelay::start(&[(".", Hang)]).await;
    let failure = send(&silent.provider_at("", Duration::from_millis(300))).await;
    assert!(matches!(failure, Err(SendFailure::InDoubt { .. })), "{failure:?}");
}
