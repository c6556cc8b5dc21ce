//! Reads a file of providers: every fault at once, each with its line.

use toml::de::DeTable;

use super::file_settings::FileSettings;
use super::provider_table::{self, Described};
use super::routes_table::{self, Named};
use super::table::{Fault, Faults, Item, Table};
use super::twilio_account::TwilioAccount;
use crate::domain::provider_code::TWILIO_NAME;
use crate::domain::routes::{PROVIDERS_MAX, Routes};

/// Names that are taken: those of other providers, and of their webhooks.
const TAKEN: [&str; 5] = ["verify", "sendgrid", "smtp", "simulated", "absent"];
const NAME_LETTERS_MAX: usize = 16;
const KINDS: [&str; 2] = ["http", "twilio"];

/// The providers of a file, in its order.
pub struct DescribedFile {
    pub providers: Vec<DescribedProvider>,
    pub routes: Routes,
}

pub struct DescribedProvider {
    pub name: &'static str,
    /// The line of its table.
    pub line: usize,
    /// No route has it: it was one of ours, and its last receipts are still to come.
    pub receipts_only: bool,
    pub kind: Kind,
}

pub enum Kind {
    Http(Box<Described>),
    /// An account at Twilio, whose adapter is another one.
    Twilio(Box<TwilioAccount>),
}

pub fn read(settings: &FileSettings<'_>) -> Result<DescribedFile, Vec<Fault>> {
    let mut faults = Faults::new(settings.text);
    let (document, errors) = DeTable::parse_recoverable(settings.text);
    for error in &errors {
        faults.add(error.span().map_or(0, |span| span.start), format!("is not TOML: {}", error.message()));
    }
    if !errors.is_empty() {
        return Err(faults.all());
    }
    let mut table = Table::new(0, document.get_ref());
    let items = match table.take("providers") {
        Some(item) => item.elements("providers", &mut faults),
        None => Vec::new(),
    };
    if items.is_empty() {
        faults.add(0, "must name a provider: [[providers]]");
    }
    if let Some(beyond) = items.get(PROVIDERS_MAX) {
        faults.add(beyond.at, format!("`providers` has more than {PROVIDERS_MAX} elements"));
    }
    let read: Vec<(Named, Option<Kind>)> =
        items.into_iter().filter_map(|item| provider(item, settings, &mut faults)).collect();
    let (named, kinds): (Vec<Named>, Vec<Option<Kind>>) = read.into_iter().unzip();
    names_differ(&named, &mut faults);
    let routes = routes_table::read(table.take("routes"), &named, &mut faults);
    table.finish(&mut faults);
    let described = named.iter().zip(kinds).map(|(named, kind)| {
        let (line, receipts_only) = (faults.line(named.at), named.receipts_only);
        Some(DescribedProvider { name: named.name?, line, receipts_only, kind: kind? })
    });
    let providers: Option<Vec<DescribedProvider>> = described.collect();
    let faults = faults.all();
    match providers.zip(routes) {
        Some((providers, routes)) if faults.is_empty() => Ok(DescribedFile { providers, routes }),
        _ => Err(faults),
    }
}

fn provider(
    item: Item<'_>,
    settings: &FileSettings<'_>,
    faults: &mut Faults<'_>,
) -> Option<(Named, Option<Kind>)> {
    let mut table = Table::of(item, "providers", faults)?;
    // A kind that is a fault leaves the members of the usual one.
    let kind = table.choice("kind", &KINDS, faults).map_or("http", |place| KINDS[place]);
    let name = name(&mut table, kind, faults);
    let receipts_only = table.flag("receipts_only", faults);
    let read = match kind {
        "twilio" => {
            TwilioAccount::read(&mut table, settings, faults).map(|account| Kind::Twilio(Box::new(account)))
        }
        _ => provider_table::read(&mut table, name, settings, faults)
            .map(|described| Kind::Http(Box::new(described))),
    };
    table.finish(faults);
    Some((Named { at: item.at, name, receipts_only }, read))
}

/// One word: it is a label of metrics and a part of the webhook's path. Only accounts at Twilio have names that begin like
/// it, by which their numbers are known. It lives as long as the process: a file is read at the start.
fn name(table: &mut Table<'_>, kind: &str, faults: &mut Faults<'_>) -> Option<&'static str> {
    if kind == TWILIO_NAME && !table.has("name") {
        return Some(TWILIO_NAME);
    }
    let name = table.required("name", faults)?;
    let is_word =
        name.text.len() <= NAME_LETTERS_MAX && name.text.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_word {
        faults.add(name.at, format!("`name` must be 1 to {NAME_LETTERS_MAX} lower-case letters"));
    } else if TAKEN.contains(&name.text) {
        faults.add(name.at, format!("`name` must be none of {}", TAKEN.join(", ")));
    } else if name.text.starts_with(TWILIO_NAME) != (kind == TWILIO_NAME) {
        faults.add(name.at, "`name` must begin with twilio if `kind` is \"twilio\", and no other may");
    } else {
        return Some(name.text.to_owned().leak());
    }
    None
}

fn names_differ(named: &[Named], faults: &mut Faults<'_>) {
    for (nth, later) in named.iter().enumerate().filter(|(_, named)| named.name.is_some()) {
        if let Some(first) = named[..nth].iter().find(|earlier| earlier.name == later.name) {
            let line = faults.line(first.at);
            faults.add(later.at, format!("`name` is that of the provider in line {line}"));
        }
    }
}
