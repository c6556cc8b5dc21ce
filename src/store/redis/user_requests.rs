//! Finds the requests of a user among all records: an operator may wait for that, a request may not.

use super::RedisStore;
use super::keys::read_request_id;
use super::library::Step;
use super::pack::Unpacker;
use super::record_parts::user_part;
use crate::domain::keyed_digest::Digest16;
use crate::store::{RequestOfUser, StoreError};

struct Found {
    next_cursor: String,
    requests: Vec<RequestOfUser>,
}

impl RedisStore {
    /// At most `count_max`, of one shard after another.
    pub(super) async fn find_requests_of_user(
        &self,
        user: &Digest16,
        count_max: usize,
    ) -> Result<Vec<RequestOfUser>, StoreError> {
        let (part, mut all) = (user_part(user), Vec::new());
        for shard in 0..self.keys.shards() {
            let mut cursor = "0".to_owned();
            loop {
                let call = self
                    .call(Step::RequestsOfUser, &[self.keys.suppressed_of(shard)])
                    .arg(self.settings().pack())
                    .arg(&cursor)
                    .arg(&part);
                let found = self.run("requests_of_user", &call, read).await?;
                for request in found.requests {
                    // SCAN may find a key twice.
                    if !all.contains(&request) {
                        all.push(request);
                    }
                }
                if all.len() >= count_max {
                    all.truncate(count_max);
                    return Ok(all);
                }
                if found.next_cursor == "0" {
                    break;
                }
                cursor = found.next_cursor;
            }
        }
        Ok(all)
    }
}

fn read(answer: &[u8]) -> Option<Found> {
    let (mut words, mut requests) = (Unpacker::new(answer), Vec::new());
    let next_cursor = words.short_text()?.to_owned();
    while !words.is_empty() {
        let (recipient, request) = (words.digest()?, words.bytes(17)?);
        let request_id = read_request_id(request, words.short_text()?)?;
        requests.push(RequestOfUser { recipient, request_id });
    }
    Some(Found { next_cursor, requests })
}
