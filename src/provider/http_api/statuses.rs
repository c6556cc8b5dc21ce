//! A vendor's words for the status of a message, and their meaning.

use std::collections::BTreeMap;

use super::table::{self, Faults, Table};
use crate::domain::receipt::DeliveryStatus;

const STATUSES_MAX: usize = 64;

pub(super) struct Statuses(BTreeMap<String, DeliveryStatus>);

impl Statuses {
    /// Takes the member `statuses`.
    pub(super) fn read(of: &mut Table<'_>, faults: &mut Faults<'_>) -> Statuses {
        let Some(words) = of.table("statuses", faults) else {
            faults.add(of.at, "`statuses` is missing: a table of the vendor's words and their meanings");
            return Statuses(BTreeMap::new());
        };
        let (at, mut statuses) = (words.at, BTreeMap::new());
        for (word, item) in words.entries() {
            let known_words = DeliveryStatus::ALL.map(DeliveryStatus::as_str);
            let text = item.text(word, faults);
            let known = text.and_then(|text| table::choice(text, word, &known_words, faults));
            statuses.extend(known.map(|place| (word.to_owned(), DeliveryStatus::ALL[place])));
        }
        if statuses.len() > STATUSES_MAX {
            faults.add(at, format!("`statuses` has more than {STATUSES_MAX} members"));
        }
        Statuses(statuses)
    }

    /// The whole word counts, or else the longest beginning that the file ends with `*`.
    pub(super) fn meaning(&self, word: &str) -> Option<DeliveryStatus> {
        let whole = self.0.get(word).copied();
        let begins = |(known, _): &(&String, &DeliveryStatus)| {
            known.strip_suffix('*').is_some_and(|beginning| word.starts_with(beginning))
        };
        let longest = || self.0.iter().filter(begins).max_by_key(|(known, _)| known.len());
        whole.or_else(|| longest().map(|(_, status)| *status))
    }
}
