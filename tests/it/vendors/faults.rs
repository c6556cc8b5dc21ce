//! Faults in a file: all at once, by line, without a secret.

use super::{Vendor, read};
use crate::fake_vendor::FakeVendor;

const GOOD: &str = r#"[[providers]]
name = "acme"
kind = "http"
senders = ["MeStore"]
[providers.authentication]
kind = "bearer"
secret = "env:ACME_KEY"
[providers.send]
url = "https://api.acme.example/v1/{{ to_digits }}"
json = { text = "{{ text }}", from = "{{ sender }}", ref = "{{ ref }}" }
[providers.answers]
rules = [{ status = 200, class = "accepted" }]
[providers.receipts]
reference = "json:/ref"
id = "json:/id"
status = "json:/status"
statuses = { done = "delivered" }
proof = { kind = "basic", user = "u", secret = "env:ACME_PASSWORD" }
"#;

fn faults(text: &str) -> Vec<(usize, String)> {
    let found = read(text).err().unwrap_or_default();
    found.into_iter().map(|fault| (fault.line, fault.problem)).collect()
}

#[track_caller]
fn check(from: &str, to: &str, line: usize, problem: &str) {
    assert!(GOOD.contains(from), "{from}");
    let found = faults(&GOOD.replace(from, to));
    let is_found = found.iter().any(|(at, said)| *at == line && said.contains(problem));
    assert!(is_found, "{to}: expected {problem:?} in line {line}, found {found:?}");
}

#[test]
fn a_good_file_has_no_fault() {
    assert_eq!(faults(GOOD), []);
}

#[test]
fn a_fault_is_named_with_its_line_and_its_rule() {
    check("kind = \"http\"", "kind = \"smpp\"", 3, "must be one of http");
    check("name = \"acme\"", "name = \"Acme-1\"", 2, "lower-case letters");
    check("name = \"acme\"", "name = \"twilio\"", 2, "must begin with twilio if");
    check("name = \"acme\"", "name = \"smtp\"", 2, "must be none of");
    check("name = \"acme\"", "names = \"acme\"", 2, "`names` is not known here");
    check("senders = [\"MeStore\"]", "senders = []", 4, "1 to 100");
    check("\"env:ACME_KEY\"", "\"hunter2\"", 7, "must name a secret");
    check("\"env:ACME_KEY\"", "\"env:UNSET_KEY\"", 7, "no variable");
    check("\"env:ACME_KEY\"", "\"file:/nowhere\"", 7, "does not exist");
    check("https://", "http://", 9, "must begin with https://");
    check("https://api.acme.example", "https://{{ to }}", 9, "a fixed host");
    check("/{{ to_digits }}", "/?a=1", 9, "without query");
    check("/{{ to_digits }}", "/{{ code }}", 9, "names `code`");
    check("{{ text }}", "{% for x in text %}", 10, "no statement");
    check("{{ text }}", "{{ text * 9 }}", 10, "no *");
    check("{{ sender }}", "{{ sender | nothing }}", 1, "cannot be filled");
    check("class = \"accepted\"", "class = \"fine\"", 12, "must be one of accepted");
    check("status = 200, ", "", 12, "hides doubt");
    check("status = 200, ", "status = 99, ", 12, "such as 429");
    check("status = 200, ", "value = \"json:/a\", matches = \"(\", ", 12, "regular expression");
    check("status = 200, ", "value = \"json:/a\", ", 12, "`is` or `matches`");
    check("\"json:/ref\"", "\"json:ref\"", 14, "JSON pointer");
    check("done = \"delivered\"", "done = \"arrived\"", 17, "must be one of accepted");
    check("kind = \"basic\"", "kind = \"saml\"", 18, "must be one of reference");
    check("kind = \"basic\"", "kind = \"jwt\"", 18, "`algorithm` is missing");
    check(", ref = \"{{ ref }}\"", "", 13, "needs {{ ref }}");
    check("{{ text }}", "code", 8, "needs {{ text }}");
    check(
        "url = \"https://api.acme.example/v1/{{ to_digits }}\"",
        "url = \"https://api.acme.example/v1\"",
        8,
        "needs {{ to }}",
    );
    check("[providers.send]", "[providers.send]\nidempotency = true", 8, "needs {{ idempotency_key }}");
    check(
        "[providers.answers]",
        "[providers.check]\nurl = \"https://a.example/{{ to }}\"\n[providers.answers]",
        12,
        "names `to`",
    );
    check(
        "[providers.answers]",
        "[providers.fetch]\nurl = \"https://a.example/\"\n[providers.answers]",
        11,
        "needs {{ message_id }}",
    );
    assert_eq!(faults(""), [(1, "must name a provider: [[providers]]".to_owned())]);
    assert!(faults("[[providers]")[0].1.starts_with("is not TOML"));
}

#[test]
fn no_value_leaves_the_path_of_the_url() {
    for sender in [".", "..", "%2e%2E"] {
        let text = GOOD.replace("{{ to_digits }}", "{{ sender }}/send").replace("MeStore", sender);
        let is_refused = faults(&text).iter().any(|(_, problem)| problem.contains("cannot be filled"));
        assert_eq!(is_refused, !sender.contains('%'), "{sender}: a percent sign is escaped");
    }
    check("v1/{{ to_digits }}", "v1/%2{{ 'e' }}/x", 1, "cannot be filled");
}

#[test]
fn a_signature_covers_the_places_of_receipts() {
    let proof = |text: &str| {
        let hmac = format!(
            "kind = \"hmac\", header = \"s\", algorithm = \"sha256\", encoding = \"hex\", text = \"{text}\", secret"
        );
        faults(&GOOD.replace("kind = \"basic\", user = \"u\", secret", &hmac))
    };
    assert_eq!(proof("{{ body }}"), []);
    let [(13, problem)] = &proof("{{ query }}")[..] else { panic!("expected one fault") };
    assert!(problem.contains("needs {{ body }}"), "{problem}");
}

#[test]
fn a_signed_time_needs_its_header_and_its_signature() {
    let proof = |members: &str| {
        let hmac = format!(
            "kind = \"hmac\", header = \"s\", algorithm = \"sha256\", encoding = \"hex\", {members}, secret"
        );
        faults(&GOOD.replace("kind = \"basic\", user = \"u\", secret", &hmac))
    };
    let text = "text = \"{{ timestamp }}.{{ body }}\"";
    let [(18, problem)] = &proof(text)[..] else { panic!("expected one fault") };
    assert!(problem.contains("needs `timestamp_header`"), "{problem}");
    let [(18, problem)] = &proof("text = \"{{ body }}\", timestamp_header = \"t\"")[..] else {
        panic!("expected one fault")
    };
    assert!(problem.contains("needs {{ timestamp }}"), "{problem}");
    assert_eq!(proof(&format!("{text}, timestamp_header = \"t\"")), []);
}

#[test]
fn all_faults_are_listed_at_once_and_no_secret_is() {
    let text = GOOD
        .replace("name = \"acme\"", "name = \"hunter2 hunter2\"")
        .replace("\"env:ACME_KEY\"", "\"hunter2\"")
        .replace("class = \"accepted\"", "class = \"hunter2\"")
        .replace("{{ text }}", "{{ hunter }}");
    let found = faults(&text);
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert!([2, 7, 10, 12].iter().all(|line| lines.contains(line)), "{found:?}");
    assert!(lines.is_sorted());
    assert!(found.iter().all(|(_, problem)| !problem.contains("hunter2")), "{found:?}");
}

#[test]
fn plain_http_needs_a_word() {
    let plain = GOOD
        .replace("https://api", "http://api")
        .replace("[providers.send]", "[providers.send]\nplain_http = true");
    assert_eq!(faults(&plain), []);
}

#[test]
fn a_broken_file_never_panics() {
    let vendor = Vendor::named("infobip");
    let fake: FakeVendor = vendor.fake();
    let text = vendor.text(&fake);
    for end in (0..text.len()).step_by(37).filter(|end| text.is_char_boundary(*end)) {
        drop(read(&text[..end]));
    }
    for (line, _) in text.lines().enumerate() {
        let without: Vec<&str> =
            text.lines().enumerate().filter(|(at, _)| *at != line).map(|(_, l)| l).collect();
        drop(read(&without.join("\n")));
    }
}
