//! Reads the tables of a file of providers, and collects every fault with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A fault of the file. The text names the rule, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub problem: String,
}

/// The faults of one text. A place is a byte of it.
pub(super) struct Faults<'t> {
    text: &'t str,
    found: Vec<Fault>,
}

impl<'t> Faults<'t> {
    pub(super) fn new(text: &'t str) -> Faults<'t> {
        Faults { text, found: Vec::new() }
    }

    pub(super) fn add(&mut self, at: usize, problem: impl Into<String>) {
        self.found.push(Fault { line: self.line(at), problem: problem.into() });
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The value, or its fault.
    pub(super) fn ok<T>(&mut self, at: usize, checked: Result<T, impl Into<String>>) -> Option<T> {
        checked.map_err(|problem| self.add(at, problem)).ok()
    }

    /// In the order of lines.
    pub(super) fn all(mut self) -> Vec<Fault> {
        self.found.sort_by_key(|fault| fault.line);
        self.found
    }
}

/// A value and its place.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) at: usize,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    pub(super) fn of(value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        Item { at: value.span().start, value: value.get_ref() }
    }

    /// The elements of a list.
    pub(super) fn elements(self, key: &str, faults: &mut Faults<'_>) -> Vec<Item<'a>> {
        match self.value {
            DeValue::Array(list) => list.iter().map(Item::of).collect(),
            _ => {
                faults.add(self.at, format!("`{key}` must be a list, not {}", shape(self.value)));
                Vec::new()
            }
        }
    }

    pub(super) fn whole(self, key: &str, min: u64, max: u64, faults: &mut Faults<'_>) -> Option<u64> {
        let read = match self.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let read = read.filter(|number| (min..=max).contains(number));
        faults.ok(self.at, read.ok_or_else(|| format!("`{key}` must be a whole number from {min} to {max}")))
    }

    /// The texts of a list.
    pub(super) fn texts(self, key: &str, faults: &mut Faults<'_>) -> Vec<Text<'a>> {
        self.elements(key, faults).into_iter().filter_map(|item| item.text(key, faults)).collect()
    }

    pub(super) fn text(self, key: &str, faults: &mut Faults<'_>) -> Option<Text<'a>> {
        match self.value {
            DeValue::String(text) if !text.is_empty() => Some(Text { at: self.at, text }),
            DeValue::String(_) => {
                faults.add(self.at, format!("`{key}` is empty"));
                None
            }
            _ => {
                faults.add(self.at, format!("`{key}` must be a text, not {}", shape(self.value)));
                None
            }
        }
    }
}

/// A text and its place.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

/// A table whose members are taken one by one; those that are left are unknown.
pub(super) struct Table<'a> {
    pub(super) at: usize,
    members: Vec<(&'a str, usize, Item<'a>)>,
}

impl<'a> Table<'a> {
    pub(super) fn new(at: usize, table: &'a DeTable<'a>) -> Table<'a> {
        let member = |(key, value): (&'a Spanned<_>, &'a Spanned<_>)| {
            let name: &std::borrow::Cow<'a, str> = key.get_ref();
            (name.as_ref(), key.span().start, Item::of(value))
        };
        Table { at, members: table.iter().map(member).collect() }
    }

    pub(super) fn of(item: Item<'a>, key: &str, faults: &mut Faults<'_>) -> Option<Table<'a>> {
        match item.value {
            DeValue::Table(table) => Some(Table::new(item.at, table)),
            _ => {
                faults.add(item.at, format!("`{key}` must be a table, not {}", shape(item.value)));
                None
            }
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.members.iter().any(|(name, ..)| *name == key)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Item<'a>> {
        let place = self.members.iter().position(|(name, ..)| *name == key)?;
        Some(self.members.swap_remove(place).2)
    }

    pub(super) fn text(&mut self, key: &str, faults: &mut Faults<'_>) -> Option<Text<'a>> {
        self.take(key)?.text(key, faults)
    }

    pub(super) fn required(&mut self, key: &str, faults: &mut Faults<'_>) -> Option<Text<'a>> {
        let Some(item) = self.take(key) else {
            faults.add(self.at, format!("`{key}` is missing"));
            return None;
        };
        item.text(key, faults)
    }

    pub(super) fn flag(&mut self, key: &str, faults: &mut Faults<'_>) -> bool {
        match self.take(key) {
            None => false,
            Some(Item { value: DeValue::Boolean(flag), .. }) => *flag,
            Some(item) => {
                faults.add(item.at, format!("`{key}` must be true or false, not {}", shape(item.value)));
                false
            }
        }
    }

    /// A whole number that must be there.
    pub(super) fn whole(&mut self, key: &str, min: u64, max: u64, faults: &mut Faults<'_>) -> Option<u64> {
        let Some(item) = self.take(key) else {
            faults.add(self.at, format!("`{key}` is missing: a whole number from {min} to {max}"));
            return None;
        };
        item.whole(key, min, max, faults)
    }

    pub(super) fn table(&mut self, key: &str, faults: &mut Faults<'_>) -> Option<Table<'a>> {
        let item = self.take(key)?;
        Table::of(item, key, faults)
    }

    /// One of the words, by its place among them.
    pub(super) fn choice(&mut self, key: &str, words: &[&str], faults: &mut Faults<'_>) -> Option<usize> {
        let text = self.required(key, faults)?;
        choice(text, key, words, faults)
    }

    /// The names and values of a table with names of the file's own.
    pub(super) fn entries(self) -> Vec<(&'a str, Item<'a>)> {
        self.members.into_iter().map(|(name, _, item)| (name, item)).collect()
    }

    /// Reports the members that were not taken.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for (name, at, _) in self.members {
            // A key may have any length and any character.
            let shown: String = name.chars().take(40).collect();
            faults.add(at, format!("`{shown}` is not known here"));
        }
    }
}

pub(super) fn choice(text: Text<'_>, key: &str, words: &[&str], faults: &mut Faults<'_>) -> Option<usize> {
    let place = words.iter().position(|word| *word == text.text);
    if place.is_none() {
        faults.add(text.at, format!("`{key}` must be one of {}", words.join(", ")));
    }
    place
}

pub(super) fn shape(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
