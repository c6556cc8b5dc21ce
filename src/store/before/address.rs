//! Reads `REDIS_URL` into the client's own settings. The client's parser overlooks `?db=`, and `#insecure` turns its
//! check of certificates off.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use crate::domain::server_url::{InvalidUrl, ServerUrl, whole_number};

const PORT: u16 = 6379;

pub(super) fn read(url: &str) -> Result<ConnectionInfo, InvalidUrl> {
    let url = ServerUrl::parse(url, &["redis", "rediss"])?;
    if !url.parameters.is_empty() {
        return Err(InvalidUrl::new("must have no parameters; a database is the path, as redis://host/1"));
    }
    let mut redis = RedisConnectionInfo::default().set_db(database(url.path.as_deref().unwrap_or_default())?);
    if let Some(known) = &url.credentials {
        redis = redis.set_password(&known.password);
        if !known.user.is_empty() {
            redis = redis.set_username(&known.user);
        }
    }
    let (host, port) = (url.host, url.port.unwrap_or(PORT));
    let address = match url.scheme {
        "rediss" => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        _ => ConnectionAddr::Tcp(host, port),
    };
    let info = address.into_connection_info().map_err(|_| InvalidUrl::new("must be the URL of a Redis"))?;
    Ok(info.set_redis_settings(redis))
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

    #[test]
    fn the_url_names_the_server_the_user_and_the_database() {
        let info = read("rediss://:p%40@[2001:db8::1]:6380/15").expect("valid");
        let wanted = ConnectionAddr::TcpTls {
            host: "2001:db8::1".to_owned(),
            port: 6380,
            insecure: false,
            tls_params: None,
        };
        assert_eq!(*info.addr(), wanted);
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (None, Some("p@"), 15));
        let info = read("REDIS://u:p@host").expect("valid");
        assert_eq!(*info.addr(), ConnectionAddr::Tcp("host".to_owned(), 6379));
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("u"), Some("p"), 0));
    }
}
