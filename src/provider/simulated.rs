//! A provider that shows messages instead of sending them.
//!
//! Each message is one block on the console, whole even when several are shown at once, in the form that
//! users of the service before this one know. That block is the one place of the gateway where a code can be
//! read. So this is for development: only `app.rs` makes one, and only when `ENVIRONMENT` is `development`.
//!
//! The same seed gives the same message ids in the same order. Credentials are always good: there are none.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::domain::outcome::SendFailure;
use crate::domain::phone::PhoneNumber;
use crate::domain::time::UnixMillis;
use crate::provider::{
    Accepted, Candidate, CredentialFault, Fetched, LookupFault, Message, Provider, Report,
};

/// Shows messages. See the module for where it may be used.
pub struct SimulatedProvider {
    seed: u64,
    sent: AtomicU64,
    clock: Clock,
    output: Mutex<Box<dyn Write + Send>>,
}

const RULER_WIDTH: usize = 60;
const MARGIN: &str = "   ";

impl SimulatedProvider {
    /// Shows messages on the standard output.
    pub fn on_stdout() -> SimulatedProvider {
        SimulatedProvider::new(fastrand::u64(..), Clock::System, Box::new(io::stdout()))
    }

    /// Shows each message by one write to `output`.
    pub fn new(seed: u64, clock: Clock, output: Box<dyn Write + Send>) -> SimulatedProvider {
        SimulatedProvider { seed, sent: AtomicU64::new(0), clock, output: Mutex::new(output) }
    }

    /// From now on, what becomes of messages is told here.
    pub fn on_receipts(&self, _listener: tokio::sync::mpsc::Sender<Report>) {}

    fn show(&self, message: &Message<'_>) -> io::Result<()> {
        let block = block(message, self.clock);
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(block.as_bytes())?;
        output.flush()
    }
}

#[async_trait]
impl Provider for SimulatedProvider {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let hidden = |_| SendFailure::Unreachable { detail: "the console cannot be written to".to_owned() };
        self.show(message).map_err(hidden)?;
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let message_id = Some(format!("SM{:016x}{number:016x}", self.seed));
        Ok(Accepted { message_id, segments: None })
    }

    async fn check_credentials(&self) -> Result<(), CredentialFault> {
        Ok(())
    }

    async fn find(&self, _to: &PhoneNumber, _since: UnixMillis) -> Result<Vec<Candidate>, LookupFault> {
        Err(LookupFault::Unanswered("not yet".to_owned()))
    }

    async fn fetch(&self, _message_id: &str) -> Result<Fetched, LookupFault> {
        Err(LookupFault::Unanswered("not yet".to_owned()))
    }
}

fn block(message: &Message<'_>, clock: Clock) -> String {
    let ruler = "─".repeat(RULER_WIDTH);
    let at = i64::try_from(clock.now().as_seconds()).ok().and_then(|at| Timestamp::from_second(at).ok());
    let lines = [
        ("Para", message.to.to_string()),
        ("Código", message.code.expose().to_owned()),
        ("Usuario", on_one_line(message.user_name.unwrap_or("-"))),
        ("Mensaje", indented(message.body)),
        ("Timestamp", at.unwrap_or(Timestamp::MAX).to_string()),
    ];
    let mut block = format!("{ruler}\n📱 SIMULACIÓN SMS OTP:\n");
    for (name, value) in lines {
        writeln!(block, "{MARGIN}{name}: {value}").expect("a string takes any text");
    }
    block + &ruler + "\n"
}

/// A text without control characters: a name must not forge a line or steer the terminal.
fn on_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The text with its own lines, all right of the margin.
fn indented(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(on_one_line).collect();
    lines.join(&format!("\n{MARGIN}{MARGIN}"))
}
