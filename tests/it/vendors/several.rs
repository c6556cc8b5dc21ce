//! A file of several providers and their routes.

use otpost::domain::phone::PhoneNumber;
use otpost::domain::routes::Route;
use otpost::domain::sender_pool::RecipientHash;
use otpost::provider::http_api::file::{DescribedFile, Kind};

use super::{NO_ONES_KEY, read_file};

const FILE: &str = r#"[[providers]]
name = "acme"
kind = "http"
[providers.send]
url = "https://api.acme.example/v1/{{ to_digits }}"
json = { text = "{{ text }}" }
[providers.answers]
rules = [{ status = 200, class = "accepted" }]

[[providers]]
kind = "twilio"
account_sid = "AC00000000000000000000000000000001"
auth_token = "env:ONE_TOKEN"
senders = ["+15005550006"]
status_callback_url = "https://otp.example.com/webhooks/twilio"

[[providers]]
name = "twiliobr"
kind = "twilio"
account_sid = "AC00000000000000000000000000000002"
api_key = "SK00000000000000000000000000000002"
api_secret = "env:TWO_SECRET"
messaging_service_sid = "MG00000000000000000000000000000002"
base_url = "https://api.dublin.ie1.twilio.com"
content_retention = "discard"

[[providers]]
name = "old"
kind = "http"
receipts_only = true
[providers.send]
url = "https://api.old.example/v1/{{ to_digits }}"
json = { text = "{{ text }}", ref = "{{ ref }}" }
[providers.answers]
rules = [{ status = 200, class = "accepted" }]
[providers.receipts]
reference = "json:/ref"
id = "json:/id"
status = "json:/status"
statuses = { done = "delivered" }
proof = { kind = "reference" }
"#;

const ROUTES: &str = r#"
[[routes]]
countries = ["BR"]
purposes = ["payment"]
providers = ["twiliobr"]

[[routes]]
prefixes = ["+57300"]
providers = ["acme", "twilio"]
weights = [3, 1]

[[routes]]
providers = ["twilio", "acme", "twiliobr"]
"#;

fn with_routes() -> String {
    format!("{FILE}{ROUTES}")
}

fn file(text: &str) -> DescribedFile {
    read_file(text, NO_ONES_KEY).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn faults(text: &str) -> Vec<(usize, String)> {
    let found = read_file(text, NO_ONES_KEY).err().unwrap_or_default();
    found.into_iter().map(|fault| (fault.line, fault.problem)).collect()
}

/// The only fault of the file with routes, after a replacement.
#[track_caller]
fn check(from: &str, to: &str, at: &str, problem: &str) {
    assert!(with_routes().contains(from), "{from}");
    let text = with_routes().replacen(from, to, 1);
    let line = 1 + text.lines().position(|line| line == at).expect("a line");
    let found = faults(&text);
    let [(found_at, said)] = &found[..] else { panic!("{to}: expected one fault, found {found:?}") };
    assert!(*found_at == line && said.contains(problem), "{to}: {problem:?} in line {line}: {found:?}");
}

fn number(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text, "CO".parse().expect("a country")).expect("a number")
}

/// The names of a route's providers, and their weights.
fn named(file: &DescribedFile, route: &Route) -> Vec<(&'static str, u32)> {
    route.providers.iter().map(|(index, weight)| (file.providers[index.get()].name, *weight)).collect()
}

#[test]
fn providers_of_both_kinds_stand_in_one_file() {
    let file = file(&with_routes());
    let names: Vec<_> =
        file.providers.iter().map(|provider| (provider.name, provider.receipts_only)).collect();
    assert_eq!(names, [("acme", false), ("twilio", false), ("twiliobr", false), ("old", true)]);
    let Kind::Twilio(brazil) = &file.providers[2].kind else { panic!("an account at Twilio") };
    assert_eq!(brazil.user, "SK00000000000000000000000000000002");
    assert!(brazil.tokens.is_empty() && !brazil.keeps_texts && brazil.keeps_addresses);
    let Kind::Twilio(first) = &file.providers[1].kind else { panic!("an account at Twilio") };
    assert_eq!((first.user.as_str(), first.tokens.len()), ("AC00000000000000000000000000000001", 1));
    assert_eq!((first.base_url.as_str(), file.providers[1].line), ("https://api.twilio.com", 10));
}

#[test]
fn a_route_is_chosen_by_country_prefix_and_purpose() {
    let file = file(&with_routes());
    let chosen = |to: &str, purpose: &str| named(&file, file.routes.of(&number(to), purpose));
    assert_eq!(chosen("+5511912345678", "payment"), [("twiliobr", 1)]);
    assert_eq!(chosen("+573001234567", "login"), [("acme", 3), ("twilio", 1)]);
    let last = [("twilio", 1), ("acme", 0), ("twiliobr", 0)];
    assert_eq!(chosen("+5511912345678", "login"), last);
    let order = file.routes.of(&number("+573101234567"), "login").order(RecipientHash::of("+573101234567"));
    let order: Vec<&str> = order.map(|index| file.providers[index.get()].name).collect();
    assert_eq!(order, ["twilio", "acme", "twiliobr"]);
}

#[test]
fn without_routes_the_providers_follow_each_other_as_in_the_file() {
    let file = file(FILE);
    let [route] = file.routes.all() else { panic!("one route") };
    assert_eq!(named(&file, route), [("acme", 1), ("twilio", 0), ("twiliobr", 0)]);
}

#[test]
fn a_fault_in_routes_is_named_with_its_line() {
    check("\"twiliobr\"]\n\n", "\"nexus\"]\n\n", "providers = [\"nexus\"]", "that no provider has");
    check("\"twiliobr\"]\n\n", "\"old\"]\n\n", "providers = [\"old\"]", "`receipts_only`");
    check("[\"acme\", \"twilio\"]", "[\"acme\", \"acme\"]", "providers = [\"acme\", \"acme\"]", "twice");
    check("[3, 1]", "[3]", "weights = [3]", "as many as `providers`");
    check("[3, 1]", "[3, 1001]", "weights = [3, 1001]", "from 0 to 1000");
    check("[\"BR\"]", "[\"Brazil\"]", "countries = [\"Brazil\"]", "two capital letters");
    check("[\"+57300\"]", "[\"57300\"]", "prefixes = [\"57300\"]", "such as +57300");
    check("[\"payment\"]", "[\"Pay me\"]", "purposes = [\"Pay me\"]", "1 to 32 of a-z");
    check("[\"payment\"]", "[]", "purposes = []", "1 to 300 elements");
    check("weights = [3, 1]", "weight = [3, 1]", "weight = [3, 1]", "not known here");
    let narrow = with_routes() + "countries = [\"CO\"]\n";
    let [(53, problem)] = &faults(&narrow)[..] else { panic!("{:?}", faults(&narrow)) };
    assert!(problem.contains("must fit every message"), "{problem}");
    let empty = format!("routes = []\n{FILE}");
    assert!(faults(&empty)[0].1.contains("must fit every message"));
}

#[test]
fn a_fault_in_a_provider_is_named_with_its_line() {
    let same_name = FILE.replace("name = \"twiliobr\"\n", "");
    assert_eq!(faults(&same_name), [(17, "`name` is that of the provider in line 10".to_owned())]);
    check(
        "\"AC00000000000000000000000000000002\"",
        "\"AC2\"",
        "account_sid = \"AC2\"",
        "32 hexadecimal digits",
    );
    check("\"SK00000000000000000000000000000002\"", "\"AC2\"", "api_key = \"AC2\"", "SK and 32");
    check(
        "\"MG00000000000000000000000000000002\"",
        "\"AC2\"",
        "messaging_service_sid = \"AC2\"",
        "MG and 32",
    );
    check("\"discard\"", "\"forget\"", "content_retention = \"forget\"", "must be one of retain, discard");
    check(
        "https://api.dublin",
        "http://api.dublin",
        "base_url = \"http://api.dublin.ie1.twilio.com\"",
        "https://",
    );
    check(
        "auth_token = \"env:ONE_TOKEN\"",
        "auth_token = \"hunter2\"",
        "auth_token = \"hunter2\"",
        "must name a secret",
    );
    let only_receipts = FILE.replace("kind = \"http\"\n[", "kind = \"http\"\nreceipts_only = true\n[");
    assert_eq!(faults(&only_receipts), []);
    let many: String = (0..9).map(|n| format!("{}\n", one(n))).collect();
    assert!(faults(&many)[0].1.contains("more than 8"), "{:?}", faults(&many));
}

/// A provider with a name of its own.
fn one(number: u8) -> String {
    let (first, _) = FILE.split_once("\n\n").expect("the first provider");
    first.replace("acme", &format!("acme{}", char::from(b'a' + number)))
}

#[test]
fn every_fault_of_every_provider_is_listed_at_once() {
    let text = with_routes()
        .replace("class = \"accepted\"", "class = \"fine\"")
        .replace("\"env:TWO_SECRET\"", "\"hunter2\"")
        .replace("[3, 1]", "[3]");
    let lines: Vec<usize> = faults(&text).into_iter().map(|(line, _)| line).collect();
    assert!([8, 22, 35, 51].iter().all(|line| lines.contains(line)), "{lines:?}");
}
