//! Reads a `.env` file, whole: every broken line is reported by its number, and the others count.
//!
//! A value is taken as it stands, so that no part of a secret is cut off or replaced: a line with two readings is refused.

use std::collections::BTreeMap;
use std::path::Path;

use super::text_file::{self, ReadFault};

const BYTES_MAX: u64 = 64 * 1024;
/// More are counted only.
const FAULTS_MAX: usize = 20;

/// The variables and the problems of a file; none of either without a file.
#[derive(Default)]
pub(super) struct Dotenv {
    pub(super) variables: BTreeMap<String, String>,
    /// Each follows the name `.env`.
    pub(super) problems: Vec<String>,
}

impl Dotenv {
    fn with_problem(problem: impl ToString) -> Dotenv {
        Dotenv { problems: vec![problem.to_string()], ..Dotenv::default() }
    }
}

/// True if there is a file, a directory or anything else of that name.
pub(super) fn is_here(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

pub(super) fn read(path: &Path) -> Dotenv {
    match text_file::read(path, BYTES_MAX) {
        Ok(bytes) => parse(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)),
        Err(ReadFault::Missing) if !is_here(path) => Dotenv::default(),
        Err(ReadFault::Missing) => Dotenv::with_problem("is a symbolic link to a file that does not exist"),
        Err(fault) => Dotenv::with_problem(fault),
    }
}

fn parse(bytes: &[u8]) -> Dotenv {
    let lines: Vec<Result<&str, &'static str>> = bytes.split(|byte| *byte == b'\n').map(line).collect();
    let (mut dotenv, mut faults, mut first_lines) = (Dotenv::default(), Vec::new(), BTreeMap::new());
    let mut at = 0;
    while at < lines.len() {
        let number = at + 1;
        match assignment(&lines[at..]) {
            Ok(None) => at += 1,
            Ok(Some(Assignment { name, value, lines })) => {
                at += lines;
                match first_lines.get(name) {
                    Some(first) => faults.push((number, format!("sets the variable of line {first} again"))),
                    None => {
                        first_lines.insert(name, number);
                        dotenv.variables.insert(name.to_owned(), value);
                    }
                }
            }
            Err(problem) => {
                faults.push((number, problem.to_owned()));
                at += 1;
            }
        }
    }
    let more = faults.len().saturating_sub(FAULTS_MAX);
    let shown = faults.iter().take(FAULTS_MAX);
    dotenv.problems = shown.map(|(number, problem)| format!("line {number} {problem}")).collect();
    if more > 0 {
        dotenv.problems.push(format!("has {more} more broken lines"));
    }
    dotenv
}

fn line(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(bytes.strip_suffix(b"\r").unwrap_or(bytes)).map_err(|_| "is not UTF-8")?;
    match text.chars().any(|char| char.is_control() && char != '\t') {
        true => Err("has a control character"),
        false => Ok(text),
    }
}

struct Assignment<'a> {
    name: &'a str,
    value: String,
    /// A quoted value may have several.
    lines: usize,
}

type Lines<'a, 'b> = &'b [Result<&'a str, &'static str>];

/// The assignment that begins on the first line; `None` for an empty line or a comment.
fn assignment<'a>(lines: Lines<'a, '_>) -> Result<Option<Assignment<'a>>, &'static str> {
    let text = lines[0]?.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = text.split_once('=').ok_or("is not NAME=value")?;
    let name = match name.split_once([' ', '\t']) {
        Some(("export", name)) => name.trim(),
        _ => name.trim(),
    };
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts_well || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)) {
        return Err("is not NAME=value");
    }
    let trimmed = value.trim_start();
    let (value, lines) = match trimmed.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(quote, &trimmed[1..], &lines[1..])?,
        // The space in front decides if a # begins a comment.
        _ => (unquoted(value)?, 1),
    };
    Ok(Some(Assignment { name, value, lines }))
}

fn unquoted(text: &str) -> Result<String, &'static str> {
    let is_comment = |at: &usize| text[..*at].ends_with([' ', '\t']);
    let comment = text.match_indices('#').map(|(at, _)| at).find(is_comment);
    let value = match comment.map(|at| text.split_at(at)) {
        // A # that begins a word may belong to the value.
        Some((_, comment)) if comment[1..].starts_with(|next: char| !next.is_whitespace()) => {
            return Err("has # after a space: put the value into single quotes, or a space after the #");
        }
        Some((value, _)) => value.trim(),
        None => text.trim(),
    };
    match value.contains(['\'', '"', '\\']) || value.contains("${") {
        true => Err("has quotes, \\ or ${ in its value: put the value into single quotes"),
        false => Ok(value.to_owned()),
    }
}

/// The value up to its closing quote, and its number of lines.
fn quoted(quote: char, first: &str, others: Lines<'_, '_>) -> Result<(String, usize), &'static str> {
    let mut value = String::new();
    let (mut text, mut lines) = (first, 1);
    loop {
        let mut chars = text.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                _ if char == quote => {
                    let rest = text[at + 1..].trim_start();
                    let is_end = rest.is_empty() || rest.starts_with('#');
                    return if is_end {
                        Ok((value, lines))
                    } else {
                        Err("has text behind its closing quote")
                    };
                }
                '\\' if quote == '"' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, next @ ('\\' | '"' | '$'))) => value.push(next),
                    _ => {
                        return Err("has \\ before another character than \\, \", $ or n: use single quotes");
                    }
                },
                '$' if quote == '"' && text[at..].starts_with("${") => {
                    return Err("has ${ in its value, which is not replaced: use single quotes");
                }
                other => value.push(other),
            }
        }
        text = match others.get(lines - 1) {
            Some(Ok(next)) => next,
            _ => return Err("has a quote without its end"),
        };
        value.push('\n');
        lines += 1;
    }
}
