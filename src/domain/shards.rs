//! The number of shards that the store spreads its recipients over.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards(u16);

impl Shards {
    /// All keys share one slot of a Redis Cluster.
    pub const ONE: Shards = Shards(1);
    pub const ALL: [Shards; 3] = [Shards(1), Shards(16), Shards(256)];
    pub const RULE: &str = "must be 1, 16 or 256";

    pub fn new(count: u16) -> Option<Shards> {
        Shards::ALL.into_iter().find(|shards| shards.0 == count)
    }

    pub fn count(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Shards {
    type Err = ();

    fn from_str(text: &str) -> Result<Shards, ()> {
        text.parse().ok().and_then(Shards::new).ok_or(())
    }
}
