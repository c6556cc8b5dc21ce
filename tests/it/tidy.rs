//! The rules of the architecture, held against the text of `src`: who may name whom, where each heavy crate lives, and
//! that what holds a secret cannot be printed.
//!
//! It reads text, not types: it looks at paths and words outside comments, strings and test modules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// A source file as the rules see it.
struct Source {
    /// Its path under `src`, as `store/redis/mod.rs`.
    path: String,
    /// Its text without comments, the insides of strings and test modules; lines are as they were.
    code: String,
}

/// All source files, but those that hold tests only.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let named = path.strip_prefix(&root).expect("below src").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if named.ends_with(".rs") && !named.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).expect("source is text");
                let code = without_tests(&without_comments(&text));
                sources.push(Source { path: named.replace('\\', "/"), code });
            }
        }
    }
    assert!(sources.len() > 40, "a look at nothing proves nothing");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

impl Source {
    /// The modules that the file is, as `["store", "redis"]`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.strip_suffix(".rs").expect("a Rust file");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        match path {
            "lib" | "main" => vec![path],
            path => path.split('/').collect(),
        }
    }

    fn layer(&self) -> &str {
        self.module()[0]
    }

    fn is_within(&self, homes: &[&str]) -> bool {
        homes.iter().any(|home| self.path.starts_with(home))
    }

    /// Every path into the crate, as its first segments: `["store", "Store"]`.
    fn paths(&self) -> Vec<Vec<String>> {
        let module = self.module();
        let mut paths = Vec::new();
        for (at, _) in self.code.match_indices("::") {
            let before = &self.code[..at];
            let start = before.rfind(|c: char| !is_word(c)).map_or(0, |end| end + 1);
            let rest = &self.code[at + 2..];
            match (&before[start..], is_first_segment(&before[..start])) {
                ("crate", true) => paths.extend(expand(rest)),
                ("otpost", true) if module == ["main"] => paths.extend(expand(rest)),
                ("super", true) => paths.extend(above(&module, rest)),
                _ => {}
            }
        }
        paths
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Where a word, or words with a sign between them, stand by themselves.
    fn find<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let (before, after) = (&self.code[..*at], &self.code[at + word.len()..]);
            let alone_before = !word.starts_with(is_word) || !before.ends_with(is_word);
            let alone_after = !word.ends_with(is_word) || !after.starts_with(is_word);
            alone_before && alone_after
        })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A path starts here: nothing of it stands before.
fn is_first_segment(before: &str) -> bool {
    !before.ends_with("::") && !before.ends_with('$')
}

/// The paths that the rest of a `use` or of an expression names, groups taken apart.
fn expand(rest: &str) -> Vec<Vec<String>> {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        return members(group).into_iter().flat_map(expand).collect();
    }
    let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let first = rest[..end].to_owned();
    match rest[end..].strip_prefix("::") {
        Some(more) => expand(more).into_iter().map(|path| [vec![first.clone()], path].concat()).collect(),
        None => vec![vec![first]],
    }
}

/// The members of a group, from behind its opening brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|member| !member.trim().is_empty());
    found
}

/// What `super::…` in a module names. A module inside a file counts as the file: it can only seem to reach less far.
fn above(module: &[&str], rest: &str) -> Vec<Vec<String>> {
    let mut rest = rest;
    let mut level = module.len().saturating_sub(1);
    while let Some(more) = rest.strip_prefix("super::") {
        (rest, level) = (more, level.saturating_sub(1));
    }
    let base: Vec<String> = module[..level].iter().map(|name| (*name).to_owned()).collect();
    expand(rest).into_iter().map(|path| [base.clone(), path].concat()).collect()
}

/// Takes comments and the insides of strings and characters away.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (kept, taken) = match c {
            '/' if rest.starts_with("//") => (false, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (false, block_comment(rest)),
            '"' => (false, string(rest)),
            'r' if !code.ends_with(is_word) && raw_string(rest).is_some() => {
                (false, raw_string(rest).unwrap_or(1))
            }
            '\'' => (false, character(rest)),
            c => (true, c.len_utf8()),
        };
        if kept {
            code.push(c);
        } else {
            code.extend(rest[..taken].chars().filter(|c| *c == '\n'));
            code.push(' ');
        }
        rest = &rest[taken..];
    }
    code
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &rest[at..] {
            "" => return at,
            text if text.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            text if text.starts_with("*/") => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            text => at += text.chars().next().map_or(1, char::len_utf8),
        }
    }
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    rest[start..].find(&end).map(|at| start + at + end.len())
}

/// A character, or the `'` of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Takes `#[cfg(test)]` modules away. Their braces are told from others because strings are gone already.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, module) = rest.split_at(at);
        kept.push_str(before);
        let (mut depth, mut end) = (0, module.len());
        for (at, c) in module.char_indices() {
            match c {
                ';' if depth == 0 => end = at + 1,
                '{' => depth += 1,
                '}' if depth == 1 => end = at + 1,
                '}' => depth -= 1,
                _ => {}
            }
            if end < module.len() {
                break;
            }
        }
        kept.extend(module[..end].chars().filter(|c| *c == '\n'));
        rest = &module[end..];
    }
    kept + rest
}

/// What breaks a rule, one line each.
#[derive(Default)]
struct Broken(String);

impl Broken {
    fn add(&mut self, source: &Source, at: usize, problem: &str) {
        let _ = writeln!(self.0, "src/{}:{}: {problem}", source.path, source.line_of(at));
    }

    #[track_caller]
    fn expect_none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

const SEAMS: [&str; 3] = ["broker", "store", "provider"];
/// What stands below a seam and is a part of it: what is asked through it, and what its adapters have in common.
const SHARED: [[&str; 2]; 4] =
    [["store", "bounds"], ["store", "check"], ["broker", "waiters"], ["provider", "web"]];

/// Which layers a layer may name, itself apart. A seam stands for its `mod.rs` only, but for `app`.
fn may_name(layer: &str) -> &'static [&'static str] {
    match layer {
        "domain" => &[],
        "clock" | "text" | "config" | "telemetry" => &["domain"],
        "broker" | "store" | "provider" => &["domain", "config", "telemetry", "clock"],
        "flow" => &["domain", "config", "telemetry", "clock", "text", "broker", "store", "provider"],
        "http" => &["domain", "config", "telemetry", "clock", "flow", "broker", "store", "provider"],
        "cli" => {
            &["domain", "config", "telemetry", "clock", "flow", "broker", "store", "provider", "http", "app"]
        }
        "app" => &[
            "domain",
            "config",
            "telemetry",
            "clock",
            "flow",
            "text",
            "broker",
            "store",
            "provider",
            "http",
            "cli",
        ],
        "main" => &["app", "cli", "config", "telemetry"],
        "lib" => &[],
        unknown => {
            panic!("src/{unknown} is in no layer: give it a row in this table and in docs/architecture.md")
        }
    }
}

/// The modules right below the seams, `["store", "redis"]`, but those that are a part of their seam.
fn adapters(sources: &[Source]) -> Vec<Vec<&str>> {
    let is_adapter = |module: &Vec<&str>| {
        SEAMS.contains(&module[0]) && module.len() == 2 && !SHARED.contains(&[module[0], module[1]])
    };
    let adapters: Vec<_> = sources.iter().map(Source::module).filter(is_adapter).collect();
    assert!(adapters.contains(&vec!["store", "redis"]) && adapters.contains(&vec!["store", "memory"]));
    adapters
}

#[test]
fn every_layer_names_only_the_layers_below_it() {
    let sources = sources();
    let adapters = adapters(&sources);
    let mut broken = String::new();
    for source in &sources {
        let layer = source.layer();
        let allowed = may_name(layer);
        for path in source.paths() {
            let named = path[0].as_str();
            let is_layer = sources.iter().any(|other| other.layer() == named);
            if named == layer || (!is_layer && layer != "main") {
                continue;
            }
            let shown = path.join("::");
            if !allowed.contains(&named) {
                let _ = writeln!(broken, "src/{}: `{layer}` may not name `{shown}`", source.path);
            } else if layer != "app" && path.len() > 1 && adapters.contains(&vec![named, path[1].as_str()]) {
                let _ = writeln!(broken, "src/{}: `{shown}` is an adapter, for app.rs only", source.path);
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn an_adapter_does_not_know_its_neighbour() {
    let sources = sources();
    let adapters = adapters(&sources);
    let mut broken = String::new();
    for source in sources.iter().filter(|source| SEAMS.contains(&source.layer())) {
        let module = source.module();
        let Some(own) = module.get(1) else { continue };
        for path in source.paths().iter().filter(|path| path.len() > 1 && path[1] != *own) {
            if adapters.contains(&vec![path[0].as_str(), path[1].as_str()]) {
                let _ = writeln!(broken, "src/{} names {}", source.path, path.join("::"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn every_heavy_crate_has_one_home() {
    const HOMES: [(&str, &[&str]); 20] = [
        ("aws_lc_rs", &["provider/sendgrid/signature.rs"]),
        ("chacha20poly1305", &["domain/sealed.rs"]),
        ("lapin", &["broker/rabbit/"]),
        ("lettre", &["provider/smtp/"]),
        ("redis", &["store/redis/"]),
        ("reqwest", &["provider/web/", "provider/twilio/", "provider/sendgrid/", "http/jwks/endpoint.rs"]),
        ("sha1", &["provider/twilio/"]),
        ("axum", &["http/"]),
        ("hyper", &["http/serve.rs"]),
        ("hyper_util", &["http/serve.rs"]),
        ("tower_http", &["http/"]),
        ("jsonwebtoken", &["http/"]),
        ("envy", &["config/"]),
        ("dotenvy", &["config/"]),
        ("minijinja", &["text/"]),
        ("prometheus_client", &["telemetry/"]),
        ("tracing_subscriber", &["telemetry/"]),
        ("phonenumber", &["domain/phone"]),
        ("clap", &["cli/", "main.rs"]),
        ("anyhow", &["app.rs", "app/"]),
    ];
    let sources = sources();
    let mut broken = Broken::default();
    for (name, homes) in HOMES {
        let path = format!("{name}::");
        let mut at_home = false;
        for source in &sources {
            let outside = source.find(&path).filter(|at| is_first_segment(&source.code[..*at]));
            for at in outside {
                at_home |= source.is_within(homes);
                if !source.is_within(homes) {
                    broken.add(source, at, &format!("`{name}` is for {homes:?} only"));
                }
            }
        }
        assert!(at_home, "nobody uses {name}: take it off the list, or is the list misspelt?");
    }
    broken.expect_none();
}

#[test]
fn only_the_configuration_reads_the_environment() {
    let mut broken = Broken::default();
    for source in sources().iter().filter(|source| !source.is_within(&["config/"])) {
        for words in ["std::env", "env::var", "env::vars", "env::var_os", "env::vars_os"] {
            source.find(words).for_each(|at| broken.add(source, at, "settings are read in config only"));
        }
    }
    broken.expect_none();
}

#[test]
fn the_domain_waits_for_nothing_and_knows_neither_time_nor_chance() {
    let mut broken = Broken::default();
    for source in sources().iter().filter(|source| source.layer() == "domain") {
        for word in [
            "async",
            "await",
            "tokio::",
            "tracing::",
            "std::fs",
            "std::net::TcpStream",
            "std::thread",
            "getrandom::",
            "fastrand::",
            "SystemTime",
            "Instant",
            "Timestamp::now",
        ] {
            source.find(word).for_each(|at| broken.add(source, at, &format!("`{word}` in the domain")));
        }
    }
    broken.expect_none();
}

/// What holds a code or a key. Whatever holds one of these cannot derive `Debug` either: it does not compile.
const SECRET: [&str; 24] = [
    "EmailCarrier",
    "SendGrid",
    "Smtp",
    "SendGridSettings",
    "SendGridMail",
    "Code",
    "CodeKey",
    "CodeKeyring",
    "MacKey",
    "RecipientKeyring",
    "SealKey",
    "Message",
    "Candidate",
    "Callback",
    "Memory",
    "TwilioCallbacks",
    "Signatures",
    "RenderedSms",
    "SmsText",
    "Settings",
    "RabbitSettings",
    "TwilioSettings",
    "Authentication",
    "JwtKey",
];

#[test]
fn what_holds_a_secret_cannot_be_printed() {
    let sources = sources();
    let mut broken = Broken::default();
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for source in &sources {
        for name in SECRET {
            for kind in ["struct", "enum"] {
                for at in source.find(&format!("{kind} {name}")) {
                    // The broker's own messages hold what callers sent, as bytes; they are no message of a provider.
                    if name == "Message" && source.layer() != "provider" {
                        continue;
                    }
                    *found.entry(name).or_default() += 1;
                    if attributes_before(&source.code[..at]).contains("Debug") {
                        broken.add(source, at, &format!("{name} derives Debug"));
                    }
                }
            }
            for printing in ["Debug", "Display"] {
                for at in source.find(&format!("{printing} for {name}")) {
                    broken.add(source, at, &format!("{name} implements {printing}"));
                }
            }
        }
    }
    broken.expect_none();
    for name in SECRET {
        assert!(found.contains_key(name), "there is no type {name}: take it off the list");
    }
}

/// The attributes of the item whose keyword comes next.
fn attributes_before(code: &str) -> &str {
    let end_of_last = code.rfind(['}', ';', '{']).map_or(0, |at| at + 1);
    &code[end_of_last..]
}

#[test]
fn nothing_is_left_half_done_or_silenced() {
    const BANNED: [(&str, &str); 8] = [
        (".unwrap()", "say in `expect` why it cannot fail"),
        ("#[allow(", "use `#[expect(…, reason = …)]`"),
        ("#![allow(", "use `#[expect(…, reason = …)]`"),
        ("todo!", "is not done"),
        ("unimplemented!", "is not done"),
        ("dbg!", "is a leftover"),
        ("unsafe", "is not needed here"),
        ("static mut", "is not needed here"),
    ];
    let mut broken = Broken::default();
    for source in &sources() {
        for (word, why) in BANNED {
            source.find(word).for_each(|at| broken.add(source, at, &format!("`{word}` {why}")));
        }
        for at in source.find("use") {
            let used = source.code[at..].split(';').next().unwrap_or_default();
            if used.ends_with("::*") && used.starts_with("use ") {
                broken.add(source, at, "a glob import hides where names come from");
            }
        }
    }
    broken.expect_none();
}

#[test]
fn only_what_talks_to_a_person_prints() {
    let mut broken = Broken::default();
    for source in &sources() {
        if !source.is_within(&["cli/", "app/greet.rs", "provider/simulated.rs"]) {
            for word in ["println!", "print!", "stdout()"] {
                let printing = source.find(word);
                // Whether standard output is a terminal decides about colours in log lines.
                let printing =
                    printing.filter(|at| !source.code[*at..].starts_with("stdout().is_terminal()"));
                printing.for_each(|at| {
                    broken.add(source, at, "print in cli, app/greet.rs or provider/simulated.rs only")
                });
            }
        }
        if !source.is_within(&["cli/", "main.rs"]) {
            for word in ["eprintln!", "eprint!"] {
                source
                    .find(word)
                    .for_each(|at| broken.add(source, at, "errors are logged, or told by the command line"));
            }
        }
    }
    broken.expect_none();
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    const LINES_MAX: usize = 500;
    let mut broken = String::new();
    for source in &sources() {
        let lines = source.code.trim_end().lines().count();
        if lines > LINES_MAX {
            let _ = writeln!(
                broken,
                "src/{} has {lines} lines without its tests; {LINES_MAX} are enough",
                source.path
            );
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn every_module_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for source in sources() {
        let text = std::fs::read_to_string(root.join(&source.path)).expect("source is text");
        assert!(text.starts_with("//! "), "src/{} does not begin with what it is", source.path);
    }
}

#[test]
fn the_rules_see_what_they_are_there_to_see() {
    let text = r##"
//! crate::flow in a comment
use crate::{store::{redis::RedisStore, Store}, domain::code};
/* crate::http /* nested */ crate::http */
fn f<'a>(text: &'a str) -> char { let _ = ("crate::cli \" }", r#"crate::app "{"#, '"', '\''); super::super::text::x() }
#[cfg(test)]
mod tests { fn g() { crate::telemetry::x(); "}" } }
"##;
    let source =
        Source { path: "provider/twilio/x.rs".to_owned(), code: without_tests(&without_comments(text)) };
    let paths: Vec<String> = source.paths().iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["store::redis::RedisStore", "store::Store", "domain::code", "provider::text::x"]);
    assert_eq!(source.code.matches('\n').count(), text.matches('\n').count());
    let path = |module: &[&str], rest| above(module, rest).concat().join("::");
    assert_eq!(path(&["flow", "admit"], "Gateway"), "flow::Gateway");
    assert_eq!(path(&["flow", "admit"], "super::http::x"), "http::x");
    assert_eq!(attributes_before("struct A; #[derive(Debug)] pub "), " #[derive(Debug)] pub ");
}
