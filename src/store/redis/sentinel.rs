//! The master of Sentinels.
//!
//! All Sentinels are asked at once, and the answers of most are enough: one that is frozen, or has been cut off, neither delays the
//! search nor leads to an old master.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value, from_redis_value};
use tokio::time::timeout;

use super::address::{Address, Sentinels};
use super::node::{NoServer, Node, connect_to, timed_out};

/// A Sentinel that answers later is not waited for, as the master must still be reached in the rest of the attempt.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(400);

/// One Sentinel's view of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    /// Of the last failover that this Sentinel knows of.
    epoch: u64,
    /// A failover is going on, and this Sentinel already names the new master.
    is_ahead: bool,
    is_down: bool,
    master: Address,
}

/// The connection to the master, wherever it is.
pub(super) fn master(sentinels: Sentinels) -> Arc<Node> {
    let (first, sentinels) = (sentinels.sentinels[0].clone(), Arc::new(sentinels));
    Node::new(first, move || {
        let sentinels = Arc::clone(&sentinels);
        async move { connect_to_master(&sentinels).await }.boxed()
    })
}

async fn connect_to_master(known: &Sentinels) -> RedisResult<MultiplexedConnection> {
    let mut error = RedisError::from(NoServer::MasterUnknown);
    for view in in_order(views(known).await?) {
        if view.is_down {
            error = NoServer::MasterDown.into();
            continue;
        }
        let connected = async {
            let mut connection = connect_to(&view.master, &known.access).await?;
            is_master(&mut connection).await?.then_some(connection).ok_or(NoServer::NotMaster.into())
        };
        match connected.await {
            Ok(connection) => return Ok(connection),
            Err(problem) => error = problem,
        }
    }
    Err(error)
}

/// The latest view first, and each server once.
fn in_order(mut views: Vec<View>) -> Vec<View> {
    views.sort_by_key(|view| (std::cmp::Reverse((view.epoch, view.is_ahead)), view.is_down));
    let mut masters: Vec<Address> = Vec::new();
    views.retain(|view| {
        let is_new = !masters.contains(&view.master);
        masters.push(view.master.clone());
        is_new
    });
    views
}

async fn views(known: &Sentinels) -> RedisResult<Vec<View>> {
    let ask = |sentinel| async move { timeout(SENTINEL_TIMEOUT, view(sentinel, known)).await };
    let mut asked: FuturesUnordered<_> = known.sentinels.iter().map(ask).collect();
    let (mut answers, mut views, mut error) = (0, Vec::new(), None);
    while answers * 2 <= known.sentinels.len()
        && let Some(answer) = asked.next().await
    {
        match answer {
            Ok(Ok(view)) => {
                answers += 1;
                views.extend(view);
            }
            // A refusal says more than a Sentinel that is away.
            Ok(Err(problem)) if problem.code().is_some() => error = Some(problem),
            Ok(Err(problem)) => error = error.or(Some(problem)),
            Err(_) => error = error.or_else(|| Some(timed_out())),
        }
    }
    match error {
        Some(error) if answers == 0 => Err(error),
        _ => Ok(views),
    }
}

/// `None`: the Sentinel does not know the master.
async fn view(sentinel: &Address, known: &Sentinels) -> RedisResult<Option<View>> {
    let mut connection = connect_to(sentinel, &known.sentinel_access).await?;
    let mut both = redis::pipe();
    both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&known.master);
    both.cmd("SENTINEL").arg("MASTER").arg(&known.master);
    let mut answers = connection.send_packed_commands(&both, 0, 2).await?.into_iter();
    let (address, details) = (answers.next().unwrap_or(Value::Nil), answers.next().unwrap_or(Value::Nil));
    let address: Option<Address> = from_redis_value(address.extract_error()?)?;
    // Without the right to read them the address alone must do.
    let details = details.extract_error().map_or_else(|_| Vec::new(), words);
    Ok(address.map(|master| read_view(master, &details)))
}

fn words(details: Value) -> Vec<String> {
    from_redis_value(details).unwrap_or_default()
}

/// `details` are names and values in turn.
fn read_view(master: Address, details: &[String]) -> View {
    let field = |wanted: &str| {
        details.chunks_exact(2).find(|pair| pair[0] == wanted).map_or("", |pair| pair[1].as_str())
    };
    let recorded = (field("ip"), field("port").parse().unwrap_or(0));
    let is_ahead = !recorded.0.is_empty() && recorded != (master.0.as_str(), master.1);
    // One Sentinel alone may be cut off from a master that works.
    let is_down = field("flags").split(',').any(|flag| flag == "o_down");
    View {
        epoch: field("config-epoch").parse().unwrap_or(0),
        is_ahead,
        // The flags are those of the old master.
        is_down: is_down && !is_ahead,
        master,
    }
}

/// Sentinels may name a server before it has become the master, or after it was.
async fn is_master(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    match redis::cmd("ROLE").query_async::<Vec<Value>>(connection).await {
        Ok(role) => Ok(matches!(role.first(), Some(Value::BulkString(role)) if role == b"master")),
        // Its first refusal of a write will show it.
        Err(error) if error.code() == Some("NOPERM") => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view_of(fields: &[(&str, &str)], named: u16) -> View {
        let details: Vec<String> =
            fields.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect();
        read_view(("10.0.0.1".to_owned(), named), &details)
    }

    #[test]
    fn the_view_of_the_latest_failover_comes_first_and_a_master_once() {
        let at = |epoch: &str, port: &str, flags: &str, named: u16| {
            view_of(&[("ip", "10.0.0.1"), ("port", port), ("flags", flags), ("config-epoch", epoch)], named)
        };
        let ports = |views: Vec<View>| -> Vec<(u16, bool)> {
            in_order(views).iter().map(|view| (view.master.1, view.is_down)).collect()
        };
        let old = at("1", "1", "master", 1);
        let down = at("1", "1", "s_down,o_down,master", 1);
        let down_for_one = at("1", "1", "s_down,master", 1);
        let ahead = at("1", "1", "s_down,o_down,master", 2);
        let new = at("2", "2", "master", 2);
        assert_eq!(ports(vec![old.clone(), new.clone(), old.clone()]), [(2, false), (1, false)]);
        assert_eq!(ports(vec![old.clone(), ahead, down.clone()]), [(2, false), (1, false)]);
        assert_eq!(ports(vec![down.clone(), down.clone()]), [(1, true)]);
        assert_eq!(ports(vec![down.clone(), down_for_one]), [(1, false)]);
        assert_eq!(ports(vec![down, old]), [(1, false)]);
        assert_eq!(ports(vec![view_of(&[], 3)]), [(3, false)], "without the right to read more");
    }
}
