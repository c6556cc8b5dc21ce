//! A fake Twilio that records every POST, its message, and its answer.
//!
//! The fate of a POST follows from the seed, the request and the number of the attempt, not from the order of POSTs: one
//! seed treats the same requests alike.

mod account;
mod fate;
mod own_api;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub use self::account::{ACCOUNT_SID, AUTH_TOKEN};
use self::account::{Account, code_in, name_in};
use self::fate::Fate;
pub use self::fate::Mood;
pub use self::own_api::{KEY, providers_file};
use self::wire::{Answer, ApiCall, read, write};
use crate::history::Post;
use crate::wait::now_ms;

/// A client may have stopped waiting before an answer this late.
const CERTAINLY_ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// A running stand-in. It stops when dropped.
pub struct Twilio {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// The API that it shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    Twilio,
    Own,
}

struct Shared {
    face: Face,
    /// The prefix of request ids.
    ids: String,
    seed: u64,
    state: Mutex<State>,
    /// Messages are made and answers wait.
    holding: watch::Sender<bool>,
    /// The number of POSTs.
    posted: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    account: Account,
    mood: Mood,
    posts: Vec<Post>,
    /// The number of POSTs of each request.
    attempts: HashMap<String, u64>,
    lookups: u64,
}

impl Twilio {
    /// One whose requests are called `ids` and the name in the greeting.
    pub async fn start(ids: &str, seed: u64) -> Twilio {
        Twilio::with(Face::Twilio, ids, seed).await
    }

    /// Another provider, with an API of its own.
    pub async fn other(ids: &str, seed: u64) -> Twilio {
        Twilio::with(Face::Own, ids, seed).await
    }

    async fn with(face: Face, ids: &str, seed: u64) -> Twilio {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            face,
            ids: ids.to_owned(),
            seed,
            state: Mutex::default(),
            holding: watch::Sender::new(false),
            posted: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { shared.serve(connection).await });
            }
        });
        Twilio { address, shared, accepting }
    }

    /// The treatment of POSTs from now on.
    pub fn set(&self, mood: Mood) {
        self.shared.state().mood = mood;
    }

    /// Answers wait after messages were made.
    pub fn hold(&self, holding: bool) {
        self.shared.holding.send_replace(holding);
    }

    /// Every POST so far.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.state().posts.clone()
    }

    /// The number of message lookups.
    pub fn lookups(&self) -> u64 {
        self.shared.state().lookups
    }

    /// Waits for this many POSTs.
    pub async fn posted(&self, count: usize, within: Duration) -> Result<(), String> {
        let mut posted = self.shared.posted.subscribe();
        let came = tokio::time::timeout(within, posted.wait_for(|posted| *posted >= count)).await;
        let seen = self.shared.state().posts.len();
        came.map(drop).map_err(|_| format!("{count} POSTs did not come within {within:?}, but {seen}"))
    }
}

impl Drop for Twilio {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.holding.send_replace(false);
    }
}

impl Face {
    fn name(self) -> &'static str {
        match self {
            Face::Twilio => "twilio",
            Face::Own => own_api::NAME,
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, connection: TcpStream) {
        let _ = connection.set_nodelay(true);
        let mut stream = BufReader::new(connection);
        while let Some(call) = read(&mut stream).await {
            let answer = match self.face {
                Face::Twilio => self.answer_as_twilio(&call, &mut stream).await,
                Face::Own => self.answer_as_own_api(&call, &mut stream).await,
            };
            let Some(answer) = answer else { return };
            if write(&mut stream, &answer.bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn answer_as_twilio(&self, call: &ApiCall, stream: &mut BufReader<TcpStream>) -> Option<Answer> {
        match (call.method.as_str(), account::resource(call)) {
            _ if !account::is_known(call) => Some(Answer::error(401, 20003)),
            ("POST", Some("/Messages.json")) => self.post(call, stream).await,
            ("GET", Some(resource)) => self.get(call, resource).await,
            _ => Some(Answer::error(404, 20404)),
        }
    }

    async fn answer_as_own_api(&self, call: &ApiCall, stream: &mut BufReader<TcpStream>) -> Option<Answer> {
        match (call.method.as_str(), call.path.as_str()) {
            _ if !own_api::is_known(call) => Some(Answer::error(401, 20003)),
            ("POST", "/messages") => self.post(call, stream).await,
            ("GET", "/account") => Some(own_api::probe()),
            _ => Some(Answer::error(404, 20404)),
        }
    }

    /// Makes a message and answers, as the fate says. `None` closes the connection.
    async fn post(&self, call: &ApiCall, stream: &mut BufReader<TcpStream>) -> Option<Answer> {
        let came = Instant::now();
        let Some((nth, fate, message)) = self.record(call) else { return Some(Answer::error(400, 21604)) };
        let mut holding = self.holding.subscribe();
        if holding.wait_for(|holding| !holding).await.is_err() {
            return None;
        }
        let answer = match fate {
            Fate::Answered => message,
            Fate::Slow(late) => {
                sleep(late).await;
                message
            }
            Fate::Lost { .. } => None,
            Fate::Hung { .. } => {
                // Until the client closes the connection.
                let _ = stream.read_u8().await;
                None
            }
            Fate::CutShort => {
                let bytes = message?.bytes();
                let _ = write(stream, &bytes[..bytes.len() - 100]).await;
                None
            }
            Fate::Failed { .. } => Some(Answer::error(500, 20500)),
            Fate::Throttled { seconds } => {
                Some(Answer::error(429, 20429).header("Retry-After", &seconds.to_string()))
            }
            Fate::Rejected => Some(Answer::error(400, 21211)),
        };
        if came.elapsed() > CERTAINLY_ANSWERED_WITHIN {
            self.state().posts[nth].in_doubt = true;
        }
        answer
    }

    /// Records the POST and draws its fate. `None` if it is no message of ours.
    fn record(&self, call: &ApiCall) -> Option<(usize, Fate, Option<Answer>)> {
        let (to, body) = match self.face {
            Face::Twilio => (call.field("To")?, call.field("Body")?),
            Face::Own => (call.field("to")?, call.field("text")?),
        };
        let code = code_in(body)?.to_owned();
        // The name in the greeting identifies the request, or without a greeting the callback URL.
        let named = name_in(body).map(|name| format!("{}{name}", self.ids));
        let request = named.or_else(|| call.callback_field("r"));
        let mut state = self.state();
        let name = request.clone().unwrap_or_default();
        let attempts = state.attempts.entry(name.clone()).or_default();
        *attempts += 1;
        let attempt = *attempts;
        let fate = state.mood.fate(self.seed, &name, attempt);
        let accepted = fate.accepts();
        let (sid, answer) = match accepted {
            true => {
                let (sid, answer) = match self.face {
                    Face::Twilio => state.account.create(call),
                    Face::Own => own_api::accept(state.posts.len() + 1),
                };
                (Some(sid), Some(answer))
            }
            false => (None, None),
        };
        // Twilio's 201 is an acceptance without its body.
        let is_half_read = self.face == Face::Own && fate == Fate::CutShort;
        let post = Post {
            provider: self.face.name(),
            request,
            to: to.to_owned(),
            code,
            at: now_ms(),
            accepted,
            in_doubt: fate.leaves_doubt() || is_half_read,
            sid,
        };
        state.posts.push(post);
        let count = state.posts.len();
        drop(state);
        self.posted.send_replace(count);
        Some((count - 1, fate, answer))
    }

    async fn get(&self, call: &ApiCall, resource: &str) -> Option<Answer> {
        let (fate, answer) = {
            let mut state = self.state();
            let answer = match resource {
                ".json" => return Some(account::probe()),
                "/Messages.json" => state.account.list(call),
                one => state.account.one(one),
            };
            state.lookups += 1;
            (state.mood.lookup_fate(self.seed, state.lookups), answer)
        };
        match fate {
            Fate::Lost { .. } => None,
            Fate::Failed { .. } => Some(Answer::error(503, 20503)),
            Fate::Throttled { seconds } => {
                Some(Answer::error(429, 20429).header("Retry-After", &seconds.to_string()))
            }
            Fate::Slow(late) => {
                sleep(late).await;
                Some(answer)
            }
            _ => Some(answer),
        }
    }
}
