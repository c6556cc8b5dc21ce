//! The rules: each lists its breaches in a tree, one line each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::tree::{Source, Tree};

pub type Rule = fn(&Tree) -> Vec<String>;

const SEAMS: [&str; 3] = ["broker", "store", "provider"];

fn breach(source: &Source, line: usize, problem: impl std::fmt::Display) -> String {
    format!("src/{}:{line}: {problem}", source.path)
}

/// Each pattern that stands outside its home.
fn outside(source: &Source, homes: &[&str], patterns: &[&str], why: &str) -> Vec<String> {
    if source.is_within(homes) {
        return Vec::new();
    }
    let found =
        patterns.iter().flat_map(|pattern| source.find(pattern).into_iter().map(move |line| (line, pattern)));
    found.map(|(line, pattern)| breach(source, line, format_args!("`{pattern}`: {why}"))).collect()
}

/// The table of layers in docs/architecture.md: who may name whom.
fn layers(page: &str) -> BTreeMap<String, Vec<String>> {
    let mut layers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rows = page.lines().skip_while(|line| !line.starts_with("| layer |")).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let mut may_name = names(cells[3]);
        if let Some(others) = cells[3].strip_prefix("as ") {
            may_name.extend(layers.get(&names(others)[0]).cloned().unwrap_or_default());
        }
        if cells[3].contains("seams' traits") {
            may_name.extend(SEAMS.map(str::to_owned));
        }
        if cells[3] == "everything" {
            may_name.extend(layers.keys().cloned());
        }
        layers.extend(names(cells[1]).into_iter().map(|layer| (layer, may_name.clone())));
    }
    layers
}

/// The words in backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The modules right below a seam that implement a trait declared in the seam.
pub fn adapters(tree: &Tree) -> BTreeSet<(String, String)> {
    let below = |source: &&Source| SEAMS.contains(&source.layer());
    let is_shared = |source: &&Source| source.module().len() < 3;
    let declared = |source: &Source| {
        source.items.traits.iter().map(|name| (source.layer().to_owned(), name.clone())).collect::<Vec<_>>()
    };
    let traits: BTreeSet<(String, String)> =
        tree.code().filter(below).filter(is_shared).flat_map(declared).collect();
    let implements = |source: &&Source| {
        let layer = source.layer().to_owned();
        source.module().len() > 1
            && source
                .items
                .implementations
                .iter()
                .any(|item| traits.contains(&(layer.clone(), item.of.clone())))
    };
    let own = |source: &Source| (source.layer().to_owned(), source.module()[1].to_owned());
    tree.code().filter(below).filter(implements).map(own).collect()
}

pub fn layers_name_only_layers_below(tree: &Tree) -> Vec<String> {
    let layers = layers(&tree.text("docs/architecture.md"));
    let (adapters, mut breaches) = (adapters(tree), Vec::new());
    for source in tree.code().filter(|source| source.path != "lib.rs") {
        let layer = source.layer();
        let Some(allowed) = layers.get(layer) else {
            breaches.push(breach(source, 1, "is in no layer: docs/architecture.md needs a row"));
            continue;
        };
        for (path, line) in source.paths() {
            let is_adapter = path.len() > 1 && adapters.contains(&(path[0].clone(), path[1].clone()));
            if path[0] == layer || !layers.contains_key(&path[0]) {
                continue;
            }
            let shown = path.join("::");
            if !allowed.contains(&path[0]) {
                breaches.push(breach(source, line, format_args!("`{layer}` may not name `{shown}`")));
            } else if is_adapter && layer != "app" {
                breaches.push(breach(source, line, format_args!("`{shown}` is an adapter, for `app` only")));
            }
        }
    }
    breaches
}

pub fn adapters_know_no_other_adapter(tree: &Tree) -> Vec<String> {
    let (adapters, mut breaches) = (adapters(tree), Vec::new());
    for source in tree.code().filter(|source| SEAMS.contains(&source.layer()) && source.module().len() > 1) {
        for (path, line) in source.paths().into_iter().filter(|(path, _)| path.len() > 1) {
            let is_adapter = adapters.contains(&(path[0].clone(), path[1].clone()));
            if is_adapter && path[1] != source.module()[1] {
                breaches.push(breach(source, line, format_args!("names the adapter `{}`", path.join("::"))));
            }
        }
    }
    breaches
}

/// A file depends on the file whose item it names. Declaring a module is no dependency.
pub fn files_import_in_no_circle(tree: &Tree) -> Vec<String> {
    let files: BTreeMap<Vec<&str>, &str> =
        tree.code().map(|source| (source.module(), source.path.as_str())).collect();
    let home = |path: &[String]| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        (1..=path.len()).rev().find_map(|len| files.get(&path[..len]).copied())
    };
    let mut named: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for source in tree.code() {
        for (path, _) in source.paths() {
            let to = home(&path).filter(|to| *to != source.path);
            let Some(to) = to else { continue };
            named.entry(&source.path).or_default().entry(to).or_insert_with(|| path.join("::"));
        }
    }
    let mut circles = BTreeSet::new();
    for (from, others) in &named {
        for to in others.keys() {
            circles.extend(way(&named, to, from).map(in_order));
        }
    }
    let show = |circle: Vec<&str>| {
        let next = circle.iter().cycle().skip(1);
        let steps: Vec<String> =
            circle.iter().zip(next).map(|(from, to)| format!("{from} (names {})", named[from][to])).collect();
        format!("src/{}: imports in a circle: {} -> {}", circle[0], steps.join(" -> "), circle[0])
    };
    circles.into_iter().map(show).collect()
}

/// The shortest way along names, both ends included.
fn way<'a>(
    named: &BTreeMap<&'a str, BTreeMap<&'a str, String>>,
    from: &'a str,
    to: &'a str,
) -> Option<Vec<&'a str>> {
    let mut before = BTreeMap::from([(from, None)]);
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            return Some(
                std::iter::successors(Some(to), |at| before[at])
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect(),
            );
        }
        for other in named.get(at).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(other) {
                before.insert(other, Some(at));
                next.push_back(other);
            }
        }
    }
    None
}

/// The same circle has one form, whichever edge it was found by.
fn in_order(mut circle: Vec<&str>) -> Vec<&str> {
    let first = circle.iter().enumerate().min_by_key(|(_, file)| **file).map_or(0, |(at, _)| at);
    circle.rotate_left(first);
    circle
}

pub const HOMES: [(&str, &[&str]); 25] = [
    ("async_rs", &["broker/rabbit/"]),
    ("aws_lc_rs", &["http/token_key.rs", "provider/http_api/", "provider/sendgrid/signature.rs"]),
    ("chacha20poly1305", &["domain/encryption.rs"]),
    ("lapin", &["broker/rabbit/"]),
    ("lettre", &["provider/smtp/"]),
    ("rustls_native_certs", &["tls/"]),
    ("tokio_rustls", &["provider/smtp/relay.rs", "store/redis/tls.rs"]),
    ("redis", &["store/redis/"]),
    (
        "reqwest",
        &[
            "provider/http_api/",
            "provider/http_client/",
            "provider/twilio/",
            "provider/sendgrid/",
            "http/jwks/endpoint.rs",
            "telemetry/trace/export.rs",
        ],
    ),
    ("regex", &["provider/http_api/"]),
    ("sha1", &["provider/http_api/digest.rs", "provider/twilio/"]),
    ("toml", &["provider/http_api/"]),
    ("axum", &["http/"]),
    ("hyper", &["http/serve.rs", "http/connection_io.rs"]),
    ("hyper_util", &["http/serve.rs"]),
    ("tower_http", &["http/"]),
    ("jsonwebtoken", &["http/"]),
    ("envy", &["config/"]),
    ("minijinja", &["provider/http_api/", "text/"]),
    ("prometheus_client", &["telemetry/"]),
    ("tracing_subscriber", &["telemetry/"]),
    ("phonenumber", &["domain/phone"]),
    ("clap", &["cli/", "main.rs"]),
    ("anyhow", &["app.rs", "app/"]),
    ("rlimit", &["app/"]),
];

pub fn heavy_crates_have_one_home(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in tree.code() {
        for (name, homes) in HOMES.iter().filter(|(_, homes)| !source.is_within(homes)) {
            breaches.extend(
                uses(source, name)
                    .into_iter()
                    .map(|line| breach(source, line, format_args!("`{name}` is for {homes:?} only"))),
            );
        }
    }
    breaches
}

/// The lines on which a path begins with a crate.
pub fn uses(source: &Source, name: &str) -> Vec<usize> {
    let text = |at: usize| source.words.get(at).map(|word| word.text.as_str());
    let starts = |at: &usize| {
        let first = *at == 0 || !matches!(text(at - 1), Some(":" | "$"));
        text(*at) == Some(name) && text(at + 1) == Some(":") && text(at + 2) == Some(":") && first
    };
    (0..source.words.len()).filter(starts).map(|at| source.words[at].line).collect()
}

pub fn only_config_reads_the_environment(tree: &Tree) -> Vec<String> {
    let patterns = ["std::env", "env::var", "env::vars", "env::var_os", "env::vars_os"];
    tree.code()
        .flat_map(|source| outside(source, &["config/"], &patterns, "settings are read in config only"))
        .collect()
}

pub fn the_domain_is_pure(tree: &Tree) -> Vec<String> {
    let patterns = [
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
    ];
    let domain = tree.code().filter(|source| source.layer() == "domain");
    domain
        .flat_map(|source| outside(source, &[], &patterns, "the domain neither waits nor reads a clock"))
        .collect()
}

/// Types that hold a code or a key. A type that holds one of them cannot derive `Debug`: it does not compile.
pub const SECRETS: [&str; 34] = [
    "ReferenceKey",
    "TwilioAccount",
    "ProvidersFile",
    "HttpApi",
    "HttpApiCallbacks",
    "Filled",
    "ServerUrl",
    "Credentials",
    "EmailProvider",
    "SendGrid",
    "Smtp",
    "SendGridSettings",
    "SendGridMail",
    "Code",
    "CodeKey",
    "CodeKeyring",
    "MacKey",
    "RecipientKeyring",
    "DeadLetterKey",
    "Message",
    "ProviderMessage",
    "Callback",
    "Memory",
    "TwilioCallbacks",
    "Signatures",
    "RenderedSms",
    "TextValues",
    "Settings",
    "RabbitSettings",
    "TwilioSettings",
    "Authentication",
    "JwtKey",
    "TlsClient",
    "Material",
];

pub fn secrets_cannot_be_printed(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in tree.code() {
        // The broker's own `Message` holds the bytes that callers sent; it is not the message of a provider.
        let is_secret =
            |name: &str| SECRETS.contains(&name) && (name != "Message" || source.layer() == "provider");
        for item in source.items.types.iter().filter(|item| item.derives_debug && is_secret(&item.name)) {
            breaches.push(breach(source, item.line, format_args!("{} derives Debug", item.name)));
        }
        for item in source.items.implementations.iter().filter(|item| is_secret(&item.for_type)) {
            if matches!(item.of.as_str(), "Debug" | "Display") {
                breaches.push(breach(
                    source,
                    item.line,
                    format_args!("{} implements {}", item.for_type, item.of),
                ));
            }
        }
    }
    breaches
}

pub fn nothing_is_unfinished_or_silenced(tree: &Tree) -> Vec<String> {
    const BANNED: [(&str, &str); 8] = [
        (".unwrap()", "say in `expect` why it cannot fail"),
        ("#[allow(", "use `#[expect(…, reason = …)]`"),
        ("#![allow(", "use `#[expect(…, reason = …)]`"),
        ("todo!", "is unfinished"),
        ("unimplemented!", "is unfinished"),
        ("dbg!", "is a leftover"),
        ("unsafe", "is not needed here"),
        ("static mut", "is not needed here"),
    ];
    let mut breaches = Vec::new();
    for source in tree.code() {
        BANNED.iter().for_each(|(pattern, why)| breaches.extend(outside(source, &[], &[pattern], why)));
        let globs = source.items.globs.iter();
        breaches.extend(globs.map(|line| breach(source, *line, "a glob import hides where names come from")));
    }
    breaches
}

pub fn only_commands_print(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in tree.code() {
        let homes = ["cli/", "app/dev_banner.rs", "provider/simulated.rs"];
        let why = "print in cli, app/dev_banner.rs or provider/simulated.rs only";
        breaches.extend(outside(source, &homes, &["println!", "print!"], why));
        // Log lines are coloured on a terminal.
        let colours = source.find("stdout().is_terminal()");
        let printing = source.find("stdout()").into_iter().filter(|line| !colours.contains(line));
        if !source.is_within(&homes) {
            breaches.extend(printing.map(|line| breach(source, line, why)));
        }
        let why = "errors are logged, or printed by the command line";
        breaches.extend(outside(source, &["cli/", "main.rs"], &["eprintln!", "eprint!"], why));
    }
    breaches
}

pub fn files_are_short(tree: &Tree) -> Vec<String> {
    const LINES_MAX: usize = 500;
    let lines = |source: &Source| source.words.last().map_or(0, |word| word.line);
    let long = tree.code().filter(|source| lines(source) > LINES_MAX);
    long.map(|source| breach(source, lines(source), format_args!("over {LINES_MAX} lines without tests")))
        .collect()
}

pub fn functions_are_short(tree: &Tree) -> Vec<String> {
    const LINES_MAX: usize = 70;
    let mut breaches = Vec::new();
    for source in &tree.sources {
        for function in source.items.functions.iter().filter(|function| function.lines > LINES_MAX) {
            let problem = format!("{} has {} lines; {LINES_MAX} are enough", function.name, function.lines);
            breaches.push(breach(source, function.line, problem));
        }
    }
    breaches
}

pub fn modules_say_what_they_are(tree: &Tree) -> Vec<String> {
    let silent = tree.code().filter(|source| !source.text.starts_with("//! "));
    silent.map(|source| breach(source, 1, "does not begin with what it is")).collect()
}

/// The lines of everything in `src`: sources with their tests, scripts, pages, texts.
fn lines(tree: &Tree) -> impl Iterator<Item = (String, String)> {
    let is_ours = |path: &&String| path.starts_with("src/");
    let numbered = |path: &String| {
        let text = tree.text(path);
        let lines: Vec<_> =
            (1..).zip(text.lines()).map(|(at, line)| (format!("{path}:{at}"), line.to_owned())).collect();
        lines
    };
    tree.files.keys().filter(is_ours).flat_map(numbered)
}

/// Words of prose, of strings and of names; a phrase may go on in the next line.
pub fn words_are_plain(tree: &Tree) -> Vec<String> {
    const BANNED: [&[&str]; 5] = [&["told"], &["somebody"], &["nobody"], &["whoever"], &["in", "vain"]];
    let divides = |c: char| !c.is_alphanumeric();
    let mut words = Vec::new();
    for (place, line) in lines(tree) {
        let found = line.split(divides).filter(|word| !word.is_empty());
        words.extend(found.map(|word| (word.to_lowercase(), place.clone())));
    }
    let mut breaches = Vec::new();
    for banned in BANNED {
        let matches = |window: &&[(String, String)]| window.iter().map(|(word, _)| word).eq(banned);
        let found = words.windows(banned.len()).filter(matches);
        breaches.extend(found.map(|window| format!("{}: `{}`", window[0].1, banned.join(" "))));
    }
    breaches
}

/// A clause as the subject hides the noun that the sentence is about.
pub fn comments_open_with_their_subject(tree: &Tree) -> Vec<String> {
    const OPENERS: [&str; 5] = ["What", "Who", "How", "That", "Whether"];
    const SIGNS: [&str; 7] = ["///", "//!", "//", "/*", "*", "--", "<!--"];
    let opens_so = |(_, line): &(String, String)| {
        let line = format!(" {}", line.trim());
        let opening = |comment: &str| {
            comment.trim_start().split(|c: char| !c.is_alphanumeric()).next().map(str::to_owned)
        };
        let comments = SIGNS.iter().filter_map(|sign| line.split_once(&format!(" {sign} ")));
        comments.filter_map(|(_, comment)| opening(comment)).any(|word| OPENERS.contains(&word.as_str()))
    };
    lines(tree)
        .filter(opens_so)
        .map(|(place, line)| format!("{place}: opens with a clause: {}", line.trim()))
        .collect()
}

pub fn binaries_have_homes(tree: &Tree) -> Vec<String> {
    const HOMES: [&str; 3] = ["docs/images/", "fuzz/corpus/", "tests/"];
    const EXTENSIONS: [&str; 22] = [
        "7z", "a", "bin", "bz2", "class", "deb", "dll", "dylib", "exe", "gz", "jar", "o", "pdf", "pyc",
        "rar", "rpm", "so", "tar", "tgz", "wasm", "whl", "zip",
    ];
    let is_binary = |(path, bytes): &(&String, &Vec<u8>)| {
        bytes.contains(&0)
            || path.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
    };
    let found = tree
        .files
        .iter()
        .filter(is_binary)
        .filter(|(path, _)| !HOMES.iter().any(|home| path.starts_with(home)));
    found.map(|(path, _)| format!("{path}: a binary or an archive; those live in {HOMES:?}")).collect()
}

/// A tag can be moved to another image or action; a digest cannot.
pub fn images_and_actions_have_digests(tree: &Tree) -> Vec<String> {
    let reference = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        let named = ["FROM ", "image: ", "uses: "].iter().find_map(|word| line.strip_prefix(word))?;
        let reference = named.split_whitespace().next()?.to_owned();
        let is_ours = reference == "otpost" || reference == "otpost:local" || reference.starts_with("./");
        let digest = reference.rsplit_once('@').map_or("", |(_, digest)| digest);
        let digits = digest.strip_prefix("sha256:").filter(|digits| digits.len() == 64).unwrap_or(digest);
        let is_pinned = digits.len() >= 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (!is_ours && !is_pinned).then_some(reference)
    };
    let of_containers =
        |path: &str| path == "Dockerfile" || path.ends_with(".yml") || path.ends_with(".yaml");
    let mut breaches = Vec::new();
    for path in tree.files.keys().filter(|path| of_containers(path)) {
        for (at, line) in tree.text(path).lines().enumerate() {
            breaches.extend(reference(line).map(|name| format!("{path}:{}: `{name}` has no digest", at + 1)));
        }
    }
    breaches
}
