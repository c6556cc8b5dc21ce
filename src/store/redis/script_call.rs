//! A call of a script. Arguments are written straight into the command, without a copy of each.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs};
use serde::Serialize;

use crate::domain::limit::{Limit, Limits};
use crate::domain::suppression::NewSuppression;
use crate::domain::time::millis;
use crate::store::LimitSubject;

/// More than most calls need, so that the buffer rarely grows.
const ARGUMENTS: usize = 48;
const BYTES: usize = 2_048;

/// Follows every script. An error of Lua, or a key of another type, means that something stored cannot be read: the answer
/// names its key. Any other error is the server's own.
const GUARD: &str = r"
local is_done, answer = pcall(step)
if is_done then return answer end
local error = type(answer) == 'table' and answer.err or ''
if type(answer) == 'table' and not string.find(error, 'WRONGTYPE', 1, true) then return answer end
return redis.error_reply('UNREADABLE ' .. (touched or ''))
";

/// A script, called by its hash.
pub(super) struct Script(redis::Script);

/// A call under construction. Its arguments hold digests and names, so it has no `Debug`.
pub(super) struct Call<'s> {
    script: &'s redis::Script,
    command: Cmd,
}

impl Script {
    /// A script from the body of a step.
    pub(super) fn new(body: &str) -> Script {
        let prelude = include_str!("prelude.lua");
        Script(redis::Script::new(&format!("{prelude}\nlocal function step()\n{body}\nend\n{GUARD}")))
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

    /// Adds the count of each limit in the order of [`Limit::ALL`], then the window that is a setting. The other windows
    /// are fixed, and the scripts know them. A limit without a digest in the subject is off.
    pub(super) fn limits(&mut self, subject: &LimitSubject<'_>, limits: &Limits) -> &mut Self {
        for limit in Limit::ALL {
            self.arg(subject.digest(limit.log()).map_or(0, |_| limits[limit].count));
        }
        self.arg(millis(limits[Limit::Recipient].window))
    }

    /// Adds the provider's error number, the duration and the masked recipient, or three `-`. A duration of zero
    /// suppresses nothing.
    pub(super) fn suppression(&mut self, suppression: Option<&NewSuppression<'_>>) -> &mut Self {
        let lasts = |new: &&NewSuppression<'_>| new.duration.is_none_or(|duration| millis(duration) > 0);
        let suppression = suppression.filter(lasts);
        self.optional(suppression.map(|new| new.provider_code));
        self.optional(suppression.and_then(|new| new.duration).map(millis));
        self.optional(suppression.map(|new| new.masked))
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
