//! `AMQP_URL` and `REDIS_URL`: a URL has exactly one meaning, or the start is refused.

use super::*;

/// The fault names the variable, stands beside the others, and holds nothing of the URL.
#[track_caller]
fn expect_url_refused(name: &str, url: &str) {
    let pairs = with(production(), &[(name, url), ("OTP_CODE_LENGTH", "none")]);
    let failure = read(Role::Serve, &pairs).err().unwrap_or_else(|| panic!("{url} was taken"));
    let has = |wanted| failure.names.iter().any(|found| found == wanted);
    assert!(failure.names.len() == 2 && has(name) && has("OTP_CODE_LENGTH"), "{url}: {}", failure.text);
    for part in [url, "hunter2", "secret", "rabbit.internal", "redis.internal"] {
        assert!(!failure.text.contains(part), "{url}: {}", failure.text);
    }
}

#[test]
fn a_url_that_could_mean_another_server_or_user_is_refused() {
    for (name, scheme) in [("AMQP_URL", "amqp"), ("REDIS_URL", "redis")] {
        for nothing in [format!("{scheme}:"), format!("{scheme}://")] {
            expect_faults(Role::Serve, &with(production(), &[(name, &nothing)]), &[name]);
        }
        for rest in [
            "///",
            "//:hunter2",
            "//@host",
            "//u:hunter2@",
            "//u:hunter2@:5672",
            "//u@host",
            "//u:@host",
            // The host.
            "//u:hunter2@2001:db8::1",
            "//u:hunter2@2001:db8::1:5672",
            "//u:hunter2@[2001:db8::1",
            "//u:hunter2@[2001:db8::1]5672",
            "//u:hunter2@[2001:db8::g]",
            "//u:hunter2@[fe80::1%25eth0]:5672",
            "//u:hunter2@[fe80::1%eth0]:5672",
            "//u:hunter2@[127.0.0.1]",
            "//u:hunter2@[v1.host]",
            "//u:hunter2@[::]",
            "//u:hunter2@0.0.0.0",
            "//u:hunter2@[::ffff:0.0.0.0]",
            "//u:hunter2@[::ffff:0:0]",
            "//u:hunter2@127.1",
            "//u:hunter2@2130706433",
            "//u:hunter2@0x7f000001",
            "//u:hunter2@256.0.0.1",
            "//u:hunter2@ho%73t",
            "//u:hunter2@h\u{f6}st",
            "//u:hunter2@host..internal",
            "//u:hunter2@one,two,one",
            "//u:hunter2@one:5672,,two:5672",
            // The port.
            "//u:hunter2@host:",
            "//u:hunter2@host:0",
            "//u:hunter2@host:70000",
            "//u:hunter2@host:+5672",
            "//u:hunter2@host:port",
            "//u:hunter2@[::1]:",
            // Signs that end a part: the password would lead elsewhere.
            "//u:1/hunter2@host",
            "//u:1?hunter2@host",
            "//u:1#hunter2@host",
            "//u:hunter2%zz@host",
            "//u:hunter2%2@host",
            "//u:hunter2%ff@host",
            "//u:hunter2%00@host",
            "//u:hunter2 @host",
            "//u:hunter2@host /",
            "//u:hunter2@host\\path",
            "//u:hunter2@host/#insecure",
            "//u:hunter2@host#",
            // A path of more than one segment, and what no client knows.
            "//u:hunter2@host/1/2",
            "//u:hunter2@host/?secret=1",
            "//u:hunter2@host/?heartbeat",
            "//u:hunter2@host/?=5",
            "//u:hunter2@host?&",
        ] {
            expect_url_refused(name, &format!("{scheme}:{rest}"));
        }
        for url in
            ["host", "//host", "http://host", "unix:/run/secret", "file:///run/secret", ":hunter2@host"]
        {
            expect_url_refused(name, url);
        }
    }
}

#[test]
fn only_a_url_of_rabbitmq_lists_hosts_without_another_scheme() {
    for scheme in ["redis", "rediss"] {
        for hosts in ["one,two", "one:5672,two:5672"] {
            expect_url_refused("REDIS_URL", &format!("{scheme}://u:hunter2@{hosts}"));
        }
    }
    for hosts in ["one,two", "one:5672,[::1]:5673,three/v?heartbeat=5"] {
        let url = format!("amqps://u:hunter2@{hosts}");
        expect(Role::Serve, &with(production(), &[("AMQP_URL", &url)]));
    }
}

#[test]
fn a_parameter_that_the_client_would_overlook_is_refused() {
    for query in [
        "heartbeat=soon",
        "heartbeat=0",
        "heartbeat=-1",
        "heartbeat=70000",
        "heartbeat=5&heartbeat=6",
        "Heartbeat=5",
        "connection_timeout=0",
        "connection_timeout=5s",
        "channel_max=1",
        "frame_max=64",
        "auth_mechanism=EXTERNAL",
        "auth_mechanism=secret",
        "cacertfile=secret",
        "verify=verify_none",
        "server_name_indication=secret",
        "vhost=secret",
    ] {
        expect_url_refused("AMQP_URL", &format!("amqps://u:hunter2@rabbit.internal/v?{query}"));
    }
    for rest in [
        "?db=1",
        "/0?db=1",
        "?protocol=3",
        "/0?password=secret",
        "/-1",
        "/+1",
        "/one",
        "/1.0",
        "/%31/2",
        "//1",
        "/99999999999999999999",
        "#insecure",
        "/0#insecure",
        "/0#",
    ] {
        expect_url_refused("REDIS_URL", &format!("rediss://u:hunter2@redis.internal{rest}"));
    }
    for url in
        ["redis+unix:///run/secret", "unix:///run/secret?db=1", "valkey://host", "redis-sentinel://a/m"]
    {
        expect_url_refused("REDIS_URL", url);
    }
}

#[test]
fn a_url_of_several_servers_has_one_meaning_or_is_refused() {
    for rest in [
        "+cluster://u:hunter2@redis.internal,",
        "+cluster://u:hunter2@,redis.internal",
        "+cluster://u:hunter2@redis.internal,,two",
        "+cluster://u:hunter2@redis.internal,redis.internal",
        "+cluster://u:hunter2@redis.internal,REDIS.internal:6379",
        "+cluster://u:hunter2@redis.internal,two:0",
        "+cluster://u:hunter2@redis.internal,[::1",
        "+cluster://u:hunter2@redis.internal/0",
        "+cluster://u:hunter2@redis.internal/1",
        "+cluster://u:hunter2@redis.internal//",
        "+cluster://u:hunter2@redis.internal?x=secret",
        "+cluster://u@redis.internal",
        "+cluster://u:hun/ter2@redis.internal,two",
        "+cluster:///",
        "+sentinel://u:hunter2@redis.internal",
        "+sentinel://u:hunter2@redis.internal/",
        "+sentinel://u:hunter2@redis.internal//1",
        "+sentinel://u:hunter2@redis.internal/secret/one",
        "+sentinel://u:hunter2@redis.internal/secret/1/2",
        "+sentinel://u:hunter2@redis.internal/%zz",
        "+sentinel://u:hunter2@redis.internal,redis.internal:26379/secret",
        "+sentinel://u:hunter2@redis.internal/secret?sentinel_username=secret",
        "+sentinel://u:hunter2@redis.internal/secret?sentinel_password=",
        "+sentinel://u:hunter2@redis.internal/secret?sentinel_username=&sentinel_password=secret",
        "+sentinel://u:hunter2@redis.internal/secret?sentinel_password=a&sentinel_password=secret",
        "+sentinel://u:hunter2@redis.internal/secret?sentinel_password=se@cret",
        "+sentinel://u:hunter2@redis.internal/secret?db=1",
        "+sentinel://u:hunter2@redis.internal/secret#insecure",
        "+sentinels://u:hunter2@redis.internal/secret",
        "+://u:hunter2@redis.internal",
    ] {
        expect_url_refused("REDIS_URL", &format!("rediss{rest}"));
    }
    let hosts: Vec<String> = (0..33).map(|number| format!("h{number}")).collect();
    expect_url_refused("REDIS_URL", &format!("redis+cluster://u:hunter2@{}", hosts.join(",")));
    for url in ["amqp+cluster://u:hunter2@host", "amqps+sentinel://u:hunter2@host/secret"] {
        expect_url_refused("AMQP_URL", url);
    }
    for url in [
        "redis+cluster://one",
        "REDISS+CLUSTER://u:p,q@one:7000,two,[2001:db8::1]:7001/",
        "redis+sentinel://one/mymaster",
        "redis+sentinel://one/mymaster/",
        "rediss+sentinel://:p@one:1,two:26379,[::1]/my%2Fmaster/15?sentinel_password=s%40&sentinel_username=u",
    ] {
        expect(Role::Serve, &with(production(), &[("REDIS_URL", url)]));
    }
}

#[test]
fn a_url_with_one_meaning_is_taken() {
    for url in [
        "amqp://host",
        "amqp://host/",
        "AMQPS://u:p@Rabbit.Internal.:5671/%2f",
        "amqp://u:p@[2001:db8::1]:5672/",
        "amqp://u:p@[::ffff:192.0.2.1]",
        "amqp://u%40shop:p%3A%2F%23%3F%25@my_rabbit/v%2fhost",
        "amqp://u:p@ss:w\u{f6}rd@host/vhost",
        "amqp://u:p@host/v?heartbeat=3&connection_timeout=70&channel_max=100&frame_max=131072&auth_mechanism=plain",
    ] {
        expect(Role::Serve, &with(production(), &[("AMQP_URL", url)]));
    }
    for url in [
        "redis://host",
        "REDIS://host:6380/",
        "rediss://:p@host/0",
        "rediss://u:p%40@[2001:db8::1]:6379/15",
        "redis://127.0.0.1",
    ] {
        expect(Role::Serve, &with(production(), &[("REDIS_URL", url)]));
    }
}
