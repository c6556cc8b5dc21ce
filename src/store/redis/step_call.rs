//! A call of a step, as a function of the library or as a script.

use std::sync::atomic::Ordering;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, ToRedisArgs};

use super::connection::{Connection, Invoke};
use super::keys::Key;
use super::library::{self, Library, Step};
use crate::domain::request_id::RequestId;

/// More than most calls need, so that the buffer rarely grows.
const ARGUMENTS: usize = 16;
const BYTES: usize = 1_024;

impl<'s> About<'s> {
    pub(super) fn of(request_id: &'s RequestId) -> About<'s> {
        About { request_id: Some(request_id), ..About::default() }
    }

    pub(super) fn purpose(purpose: &'s str) -> About<'s> {
        About { purpose, ..About::default() }
    }
}

/// A call under construction. Its arguments hold digests and names, so it has no `Debug`.
pub(super) struct Call<'s> {
    library: &'s Library,
    step: Step,
    keys: usize,
    about: About<'s>,
    command: Cmd,
}

/// The subject of a call, as layout 1 names it in keys.
#[derive(Default)]
pub(super) struct About<'s> {
    pub(super) request_id: Option<&'s RequestId>,
    pub(super) purpose: &'s str,
    pub(super) message_ids: Vec<&'s str>,
}

impl<'s> Call<'s> {
    pub(super) fn new(library: &'s Library, step: Step, keys: &[Key]) -> Call<'s> {
        let mut command = Cmd::with_capacity(ARGUMENTS, BYTES);
        command.arg("FCALL").arg(library::function(step)).arg(keys.len());
        for key in keys {
            command.arg(key.as_slice());
        }
        Call { library, step, keys: keys.len(), about: About::default(), command }
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Call<'s> {
        self.command.arg(arg);
        self
    }

    pub(super) fn about(mut self, about: About<'s>) -> Call<'s> {
        self.about = about;
        self
    }

    /// The command that is tried first.
    pub(super) fn command(&self) -> &'static str {
        match self.library.runs_as_scripts.load(Ordering::Relaxed) {
            true => "EVALSHA",
            false => "FCALL",
        }
    }

    /// The call that moves, before this one, what this one needs of layout 1; `None` if it needs nothing.
    pub(super) fn move_old_data(&self, until: u64) -> Option<Call<'s>> {
        if !self.step.needs_move() {
            return None;
        }
        let About { request_id, purpose, message_ids } = &self.about;
        let (keys, settings) = (self.arguments(3, self.keys), self.arguments(3 + self.keys, 1));
        let mut call = Call::new(self.library, Step::MoveOldData, &keys)
            .arg(&settings[0])
            .arg(until)
            .arg(request_id.map_or("", RequestId::as_str))
            .arg(*purpose);
        for message_id in message_ids {
            call = call.arg(*message_id);
        }
        Some(call)
    }

    /// Some of the words of the command.
    fn arguments(&self, first: usize, count: usize) -> Vec<Vec<u8>> {
        let word = |argument: redis::Arg<&[u8]>| match argument {
            redis::Arg::Simple(bytes) => bytes.to_vec(),
            redis::Arg::Cursor | _ => unreachable!("a step has no cursor"),
        };
        self.command.args_iter().skip(first).take(count).map(word).collect()
    }

    /// From now on all steps run as scripts, until a server refuses that.
    async fn fall_back(&self, connection: &mut Connection<'_>) -> RedisResult<Vec<u8>> {
        self.library.runs_as_scripts.store(true, Ordering::Relaxed);
        self.invoke_script(connection).await
    }

    async fn invoke_script(&self, connection: &mut Connection<'_>) -> RedisResult<Vec<u8>> {
        let mut command = Cmd::with_capacity(ARGUMENTS, BYTES);
        command.arg("EVALSHA").arg(library::script_hash(self.step));
        for argument in self.command.args_iter().skip(2) {
            match argument {
                redis::Arg::Simple(bytes) => command.arg(bytes),
                redis::Arg::Cursor | _ => unreachable!("a step has no cursor"),
            };
        }
        match connection.query(&command).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let load = redis::cmd("SCRIPT").arg("LOAD").arg(library::script(self.step)).to_owned();
                connection.query_there::<String>(&load).await?;
                connection.query(&command).await
            }
            Err(error) => {
                // Another server than the one that allows only scripts: the next step asks anew.
                if error.code() == Some("NOPERM") {
                    self.library.runs_as_scripts.store(false, Ordering::Relaxed);
                }
                Err(error)
            }
            answer => answer,
        }
    }

    /// For a server without the library.
    async fn load_and_invoke(&self, connection: &mut Connection<'_>) -> RedisResult<Vec<u8>> {
        let load = redis::cmd("FUNCTION").arg("LOAD").arg(library::code()).to_owned();
        match connection.query_there::<String>(&load).await {
            Err(error) if has_no_functions(&error) => self.fall_back(connection).await,
            // A script that only reads needs no library.
            Err(error) if refuses_writes(&error) => match self.invoke_script(connection).await {
                Err(refusal) if refusal.code() == Some("NOPERM") => Err(error),
                answer => answer,
            },
            // Another worker has loaded it in the meantime.
            Err(error) if !error.to_string().contains("already exists") => Err(error),
            Ok(_) | Err(_) => connection.query(&self.command).await,
        }
    }
}

impl Invoke for Call<'_> {
    /// Runs the step as a function, and as a script where the server does not run functions. Rare calls are boxed, to keep the
    /// future of every step small.
    async fn invoke(&self, connection: &mut Connection<'_>) -> RedisResult<Vec<u8>> {
        if self.library.runs_as_scripts.load(Ordering::Relaxed) {
            return Box::pin(self.invoke_script(connection)).await;
        }
        match connection.query(&self.command).await {
            Err(error) if has_no_function(&error) => Box::pin(self.load_and_invoke(connection)).await,
            Err(error) if has_no_functions(&error) => Box::pin(self.fall_back(connection)).await,
            answer => answer,
        }
    }
}

/// A full memory, a replica, or a server that may not write for another reason.
fn refuses_writes(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "READONLY" | "MISCONF" | "NOREPLICAS"))
}

/// The library is not loaded: a new server, or one that was flushed.
fn has_no_function(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

/// The server does not know functions, or the user may not load or call them. A right that the step itself lacks is another
/// matter: it lacks it as a script, too.
fn has_no_functions(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    let names_functions = detail.contains("fcall") || detail.contains("function");
    detail.contains("unknown command") || error.code() == Some("NOPERM") && names_functions
}
