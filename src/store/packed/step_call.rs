//! A call of a step, as a function of the library or as a script.

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, ToRedisArgs};

use super::keys::Key;
use super::library::{Library, Step};

/// More than most calls need, so that the buffer rarely grows.
const ARGUMENTS: usize = 16;
const BYTES: usize = 1_024;

/// A call under construction. Its arguments hold digests and names, so it has no `Debug`.
pub(super) struct Call<'s> {
    library: &'s Library,
    step: Step,
    command: Cmd,
}

/// How the server runs the steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Functions,
    /// The server has no functions, or the user may not use them.
    Scripts,
}

impl<'s> Call<'s> {
    pub(super) fn new(library: &'s Library, step: Step, keys: &[Key]) -> Call<'s> {
        let mut command = Cmd::with_capacity(ARGUMENTS, BYTES);
        command.arg("FCALL").arg(library.function(step)).arg(keys.len());
        for key in keys {
            command.arg(key.as_slice());
        }
        Call { library, step, command }
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Call<'s> {
        self.command.arg(arg);
        self
    }

    /// Runs the step. `set_mode` is called if the server does not run functions.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        mode: Mode,
        connection: &mut impl ConnectionLike,
        set_mode: impl FnOnce(Mode),
    ) -> RedisResult<T> {
        if mode == Mode::Scripts {
            return self.invoke_script(connection).await;
        }
        let error = match self.command.query_async(connection).await {
            Err(error) if has_no_function(&error) || has_no_functions(&error) => error,
            answer => return answer,
        };
        if !has_no_functions(&error) {
            let load = redis::cmd("FUNCTION").arg("LOAD").arg(&self.library.code).query_async(connection).await;
            match load {
                Err::<String, _>(error) if has_no_functions(&error) => {}
                // Another worker has loaded it in the meantime.
                Err(error) if !error.to_string().contains("already exists") => return Err(error),
                Ok(_) | Err(_) => return self.command.query_async(connection).await,
            }
        }
        set_mode(Mode::Scripts);
        self.invoke_script(connection).await
    }

    async fn invoke_script<T: FromRedisValue>(&self, connection: &mut impl ConnectionLike) -> RedisResult<T> {
        let script = self.library.script(self.step);
        let mut command = Cmd::with_capacity(ARGUMENTS, BYTES);
        command.arg("EVALSHA").arg(script.get_hash());
        for argument in self.command.args_iter().skip(2) {
            match argument {
                redis::Arg::Simple(bytes) => command.arg(bytes),
                redis::Arg::Cursor | _ => unreachable!("a step has no cursor"),
            };
        }
        match command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                script.load_async(connection).await?;
                command.query_async(connection).await
            }
            answer => answer,
        }
    }
}

/// The library is not loaded: a new server, or one that was flushed.
fn has_no_function(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

/// The server does not know functions, or the user may not load or call them.
fn has_no_functions(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") || error.detail().is_some_and(|detail| detail.contains("unknown command"))
}
