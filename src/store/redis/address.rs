//! Reads `REDIS_URL` into the client's own settings: one server, a Redis Cluster, or the Sentinels that know the master.
//!
//! The client's parser overlooks `?db=`, its `#insecure` turns the check of certificates off, and it knows only one server.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, RedisResult,
};

use crate::domain::server_url::{Credentials, InvalidUrl, ServerUrl, whole_number};
use crate::tls::TlsClient;

/// As in the settings' reader.
const SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const SEVERAL: &str = "; redis+cluster:// and redis+sentinel:// take several";

/// The kernel gives a connection up whose data is not acknowledged for so long.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(3);

/// A name or an address, and a port.
pub(super) type Address = (String, u16);

/// The servers of the URL.
pub(super) enum Servers {
    One(Address, Access),
    Cluster { nodes: Vec<Address>, access: Access },
    Sentinels(Sentinels),
}

pub(super) struct Sentinels {
    pub(super) sentinels: Vec<Address>,
    /// The access to the Sentinels.
    pub(super) sentinel_access: Access,
    pub(super) master: String,
    /// The access to the master.
    pub(super) access: Access,
}

/// The way to connect to a server, once its address is known. It holds a password: no `Debug`.
#[derive(Clone)]
pub(super) struct Access {
    /// `None`: plain TCP.
    pub(super) tls: Option<TlsClient>,
    redis: RedisConnectionInfo,
    tcp: TcpSettings,
}

impl Access {
    fn new(tls: Option<TlsClient>, credentials: Option<&Credentials>, database: i64) -> Access {
        let mut redis = RedisConnectionInfo::default().set_db(database);
        if let Some(known) = credentials {
            redis = redis.set_password(&known.password);
            if !known.user.is_empty() {
                redis = redis.set_username(&known.user);
            }
        }
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(USER_TIMEOUT);
        Access { tls, redis, tcp }
    }

    /// TLS is no part of it: `tls.rs` makes it.
    pub(super) fn to(&self, (host, port): &Address) -> RedisResult<ConnectionInfo> {
        let info = ConnectionAddr::Tcp(host.clone(), *port).into_connection_info()?;
        Ok(info.set_redis_settings(self.redis.clone()).set_tcp_settings(self.tcp.clone()))
    }
}

/// Without `given`, TLS trusts the system's roots.
pub(super) fn read(url: &str, given: Option<TlsClient>) -> Result<Servers, InvalidUrl> {
    let url = ServerUrl::parse(url, &SCHEMES)?;
    let (scheme, form) = url.scheme.split_once('+').unwrap_or((url.scheme, ""));
    let tls = match given {
        _ if scheme != "rediss" => None,
        None => Some(TlsClient::of_system().map_err(|fault| InvalidUrl::new(fault.problem))?),
        given => given,
    };
    let servers = match form {
        "sentinel" => sentinels(&url, tls),
        "cluster" => cluster(&url, tls),
        _ => one(&url, tls),
    }?;
    let unusable = |error: RedisError| InvalidUrl::new(format!("cannot be used: {}", error.category()));
    let (address, access) = servers.first();
    access.to(address).and_then(redis::Client::open).map_err(unusable)?;
    Ok(servers)
}

impl Servers {
    fn first(&self) -> (&Address, &Access) {
        match self {
            Servers::One(address, access) => (address, access),
            Servers::Cluster { nodes, access } => (&nodes[0], access),
            Servers::Sentinels(known) => (&known.sentinels[0], &known.sentinel_access),
        }
    }
}

fn one(url: &ServerUrl, tls: Option<TlsClient>) -> Result<Servers, InvalidUrl> {
    let host = url.one_host(SEVERAL)?;
    if !url.parameters.is_empty() {
        return Err(InvalidUrl::new("must have no parameters; a database is the path, as redis://host/1"));
    }
    let access = Access::new(tls, url.credentials.as_ref(), database(url.path()?.unwrap_or_default())?);
    Ok(Servers::One((host.name.clone(), host.port.unwrap_or(PORT)), access))
}

fn cluster(url: &ServerUrl, tls: Option<TlsClient>) -> Result<Servers, InvalidUrl> {
    if !url.parameters.is_empty() {
        return Err(InvalidUrl::new("must have no parameters"));
    }
    if url.path()?.is_some_and(|path| !path.is_empty()) {
        return Err(InvalidUrl::new("must have no path: a Redis Cluster has only database 0"));
    }
    Ok(Servers::Cluster {
        nodes: url.all_hosts(PORT)?,
        access: Access::new(tls, url.credentials.as_ref(), 0),
    })
}

fn sentinels(url: &ServerUrl, tls: Option<TlsClient>) -> Result<Servers, InvalidUrl> {
    let (master, path) = match url.segments() {
        [master] if !master.is_empty() => (master, ""),
        [master, path] if !master.is_empty() => (master, path.as_str()),
        _ => {
            let rule =
                "must have the master's name, and may have a database, as redis+sentinel://host/mymaster/1";
            return Err(InvalidUrl::new(rule));
        }
    };
    let credentials = sentinel_credentials(&url.parameters)?;
    Ok(Servers::Sentinels(Sentinels {
        sentinels: url.all_hosts(SENTINEL_PORT)?,
        sentinel_access: Access::new(tls.clone(), credentials.as_ref(), 0),
        master: master.clone(),
        access: Access::new(tls, url.credentials.as_ref(), database(path)?),
    }))
}

/// A Sentinel has users of its own.
fn sentinel_credentials(parameters: &[(String, String)]) -> Result<Option<Credentials>, InvalidUrl> {
    let known = ["sentinel_username", "sentinel_password"];
    if parameters.iter().any(|(name, _)| !known.contains(&name.as_str())) {
        return Err(InvalidUrl::new(
            "must have no other parameters than sentinel_username and sentinel_password",
        ));
    }
    if parameters.iter().any(|(_, value)| value.is_empty()) {
        return Err(InvalidUrl::new("must have no empty parameter"));
    }
    let value =
        |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    match (value(known[0]), value(known[1])) {
        (Some(_), None) => Err(InvalidUrl::new("must have sentinel_password beside sentinel_username")),
        (user, password) => {
            Ok(password.map(|password| Credentials { user: user.unwrap_or_default(), password }))
        }
    }
}

fn database(path: &str) -> Result<i64, InvalidUrl> {
    if path.is_empty() {
        return Ok(0);
    }
    let number = whole_number(path).and_then(|number| i32::try_from(number).ok());
    number
        .map(i64::from)
        .ok_or_else(|| InvalidUrl::new("must have the number of a database as its path, as redis://host/1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Servers, InvalidUrl> {
        super::read(url, None)
    }

    fn address(host: &str, port: u16) -> Address {
        (host.to_owned(), port)
    }

    fn login(info: &ConnectionInfo) -> (Option<&str>, Option<&str>, i64) {
        let redis = info.redis_settings();
        (redis.username(), redis.password(), redis.db())
    }

    #[test]
    fn the_url_names_the_server_the_user_and_the_database() {
        let Ok(Servers::One(server, access)) = read("rediss://:p%40@[2001:db8::1]:6380/15") else {
            panic!("one server")
        };
        let info = access.to(&server).expect("valid");
        let wanted = ConnectionAddr::Tcp("2001:db8::1".to_owned(), 6380);
        assert_eq!((info.addr(), login(&info)), (&wanted, (None, Some("p@"), 15)));
        assert!(access.tls.is_some());
        let Ok(Servers::One(server, access)) = read("REDIS://u:p@host") else { panic!("one server") };
        let info = access.to(&server).expect("valid");
        let wanted = ConnectionAddr::Tcp("host".to_owned(), 6379);
        assert_eq!((info.addr(), login(&info)), (&wanted, (Some("u"), Some("p"), 0)));
        assert!(access.tls.is_none());
    }

    #[test]
    fn nodes_of_a_cluster_share_one_user() {
        let Ok(Servers::Cluster { nodes, access }) = read("rediss+cluster://u:a,b@h1:7000,h2,[::1]:7001/")
        else {
            panic!("a cluster")
        };
        assert_eq!(nodes, [address("h1", 7000), address("h2", 6379), address("::1", 7001)]);
        let info = access.to(&nodes[2]).expect("valid");
        assert!(access.tls.is_some());
        assert_eq!(login(&info), (Some("u"), Some("a,b"), 0));
    }

    #[test]
    fn sentinels_have_users_of_their_own() {
        let url = "redis+sentinel://u:p@h1,h2:7/my%2Fmaster/3?sentinel_password=s%26&sentinel_username=t";
        let Ok(Servers::Sentinels(known)) = read(url) else { panic!("Sentinels") };
        assert_eq!(known.sentinels, [address("h1", 26379), address("h2", 7)]);
        assert_eq!(known.master, "my/master");
        let info = known.sentinel_access.to(&known.sentinels[0]).expect("valid");
        assert_eq!(login(&info), (Some("t"), Some("s&"), 0));
        let info = known.access.to(&address("node", 1)).expect("valid");
        assert_eq!(login(&info), (Some("u"), Some("p"), 3));
        let Ok(Servers::Sentinels(known)) = read("redis+sentinel://u:p@h1/m?sentinel_password=s") else {
            panic!("Sentinels")
        };
        let info = known.sentinel_access.to(&known.sentinels[0]).expect("valid");
        assert_eq!(login(&info), (None, Some("s"), 0));
        let Ok(Servers::Sentinels(known)) = read("redis+sentinel://u:p@h1/m") else { panic!("Sentinels") };
        let info = known.sentinel_access.to(&known.sentinels[0]).expect("valid");
        assert_eq!(login(&info), (None, None, 0), "the password of the nodes goes to nodes alone");
    }

    #[test]
    fn each_broken_rule_has_its_sentence() {
        for (url, rule) in [
            ("redis://one,two", "must name one host; redis+cluster:// and redis+sentinel:// take several"),
            ("redis+cluster://one,two/1", "must have no path: a Redis Cluster has only database 0"),
            ("redis+cluster://one?read=replica", "must have no parameters"),
            ("redis+cluster://one,one:6379", "must name each host once"),
            (
                "redis+sentinel://one",
                "must have the master's name, and may have a database, as redis+sentinel://host/mymaster/1",
            ),
            (
                "redis+sentinel://one/",
                "must have the master's name, and may have a database, as redis+sentinel://host/mymaster/1",
            ),
            (
                "redis+sentinel://one//1",
                "must have the master's name, and may have a database, as redis+sentinel://host/mymaster/1",
            ),
            (
                "redis+sentinel://one/m/1/2",
                "must have the master's name, and may have a database, as redis+sentinel://host/mymaster/1",
            ),
            ("redis+sentinel://one/m/x", "must have the number of a database as its path, as redis://host/1"),
            (
                "redis+sentinel://one/m?db=1",
                "must have no other parameters than sentinel_username and sentinel_password",
            ),
            (
                "redis+sentinel://one/m?sentinel_username=u",
                "must have sentinel_password beside sentinel_username",
            ),
            ("redis+sentinel://one/m?sentinel_password=", "must have no empty parameter"),
            ("redis+sentinel://one,one:26379/m", "must name each host once"),
        ] {
            assert_eq!(read(url).err(), Some(InvalidUrl::new(rule)), "{url}");
        }
    }
}
