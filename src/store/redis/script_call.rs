//! A call of a script. Arguments are written straight into the command, without a copy of each.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs};
use serde::Serialize;

/// More than most calls need, so that the buffer rarely grows.
const ARGUMENTS: usize = 48;
const BYTES: usize = 2_048;

/// A script, called by its hash.
pub(super) struct Script(redis::Script);

/// A call under construction. Its arguments hold digests and names, so it has no `Debug`.
pub(super) struct Call<'s> {
    script: &'s redis::Script,
    command: Cmd,
}

impl Script {
    pub(super) fn new(body: &str) -> Script {
        Script(redis::Script::new(body))
    }

    /// A call whose first `keys` arguments are keys.
    pub(super) fn call(&self, keys: usize) -> Call<'_> {
        let mut command = Cmd::with_capacity(ARGUMENTS, BYTES);
        command.arg("EVALSHA").arg(self.0.get_hash()).arg(keys);
        Call { script: &self.0, command }
    }
}

impl Call<'_> {
    pub(super) fn arg(&mut self, arg: impl ToRedisArgs) -> &mut Self {
        self.command.arg(arg);
        self
    }

    /// Adds a value, or `-` for none: 0 is a value.
    pub(super) fn optional(&mut self, arg: Option<impl ToRedisArgs>) -> &mut Self {
        match arg {
            Some(arg) => self.arg(arg),
            None => self.arg("-"),
        }
    }

    pub(super) fn json(&mut self, arg: &impl Serialize) -> &mut Self {
        self.arg(serde_json::to_vec(arg).expect("it is plain data"))
    }

    /// Runs the script. If the server does not know it, as after a restart, the script is loaded first.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        connection: &mut impl redis::aio::ConnectionLike,
    ) -> RedisResult<T> {
        match self.command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.load_async(connection).await?;
                self.command.query_async(connection).await
            }
            answer => answer,
        }
    }
}
