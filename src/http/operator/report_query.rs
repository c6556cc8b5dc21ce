//! The query of a report: the parameters `by`, `since` and `limit`, each at most once.

use std::time::Duration;

use crate::domain::conversion_report::{ROWS_DEFAULT, ROWS_MAX, SINCE_RULE, parse_since};
use crate::domain::json::Shape;
use crate::http::problem::Problem;

/// `None`: not given.
pub(super) struct GroupedQuery<By> {
    pub(super) by: Option<By>,
    pub(super) since: Option<Duration>,
    pub(super) rows_max: u32,
}

pub(super) fn read_query<By>(
    query: &str,
    by_rule: &str,
    parse_by: impl Fn(&str) -> Option<By>,
) -> Result<GroupedQuery<By>, Problem> {
    let (mut by, mut since, mut rows_max) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_repeated = match &*name {
            "by" => by.replace(read(&value, "by", by_rule, &parse_by)?).is_some(),
            "since" => since.replace(read(&value, "since", SINCE_RULE, parse_since)?).is_some(),
            "limit" => rows_max.replace(read(&value, "limit", LIMIT_RULE, parse_limit)?).is_some(),
            _ => return Err(Problem::invalid("the query has a name other than `by`, `since` and `limit`")),
        };
        if is_repeated {
            return Err(Problem::invalid(format!("`{name}` must be given once; got it twice")));
        }
    }
    Ok(GroupedQuery { by, since, rows_max: rows_max.unwrap_or(ROWS_DEFAULT) })
}

/// A query whose only parameter is `since`.
pub(super) fn read_since(query: &str) -> Result<Option<Duration>, Problem> {
    let mut since = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "since" {
            return Err(Problem::invalid("the query has a name other than `since`"));
        }
        if since.replace(read(&value, "since", SINCE_RULE, parse_since)?).is_some() {
            return Err(Problem::invalid("`since` must be given once; got it twice"));
        }
    }
    Ok(since)
}

const LIMIT_RULE: &str = "must be a number from 1 to 5000";

fn parse_limit(text: &str) -> Option<u32> {
    let is_number = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?.filter(|limit| (1..=ROWS_MAX).contains(limit))
}

fn read<T>(value: &str, name: &str, rule: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Problem> {
    let problem = || {
        let shape = Shape::Text(value.chars().count());
        Problem::invalid(format!("`{name}` {rule}; got {shape}"))
    };
    parse(value).ok_or_else(problem)
}
