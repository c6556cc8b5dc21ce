//! Checks the history of one run against the rules that hold under every fault.
//!
//! A history is plain data: the requests, the published results, and the POSTs that reached the provider. The provider's
//! record is the truth. [`check`] is a pure function without a clock, so runs against real servers and simulated ones are
//! judged alike. Speed is not judged here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

#[derive(Clone, Debug, Default)]
pub struct History {
    pub requests: Vec<Request>,
    /// In the order in which they were read.
    pub results: Vec<PublishedResult>,
    /// Every POST that reached the provider.
    pub posts: Vec<Post>,
    /// The limit of each number, if there is one.
    pub limit: Option<Limit>,
}

/// A request as it was published.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: String,
    pub to: String,
    /// The last time of a POST (ms).
    pub deadline: u64,
    /// The broker confirmed the request. An unconfirmed one may be processed or lost.
    pub confirmed: bool,
}

/// A result or delivery event as it was read.
#[derive(Clone, Debug)]
pub struct PublishedResult {
    pub message_id: String,
    pub request: String,
    pub status: String,
    pub replayed: bool,
    pub error: Option<String>,
    pub sid: Option<String>,
    /// When it was read (ms).
    pub at: u64,
}

/// One POST of a message, as the provider saw it.
#[derive(Clone, Debug)]
pub struct Post {
    pub provider: &'static str,
    /// None where the provider cannot tell.
    pub request: Option<String>,
    pub to: String,
    pub code: String,
    /// When it was read (ms).
    pub at: u64,
    /// The provider made a message of it.
    pub accepted: bool,
    /// The sender got no answer, so the attempt was in doubt.
    pub in_doubt: bool,
    pub sid: Option<String>,
}

/// At most `count` requests are sent to one number within `window` (ms).
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub count: usize,
    pub window: u64,
}

/// The outcomes of a request. Other statuses belong to delivery events and are not judged.
const TERMINAL: [&str; 4] = ["sent", "rejected", "failed", "unknown"];
/// Messages of one request after any number of attempts in doubt.
const SMS_MAX: usize = 2;

/// The counts of a run, and the rules that it broke.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub requests: usize,
    pub confirmed: usize,
    pub sent: usize,
    pub failed: usize,
    pub rejected: usize,
    pub unknown: usize,
    /// Outcomes published again.
    pub repeats: usize,
    /// Results with `replayed: true`. One of them may be read before the first publication.
    pub replayed: usize,
    pub posts: usize,
    /// Messages at the provider.
    pub accepted: usize,
    pub in_doubt: usize,
    /// Requests with two messages, as an attempt in doubt allows.
    pub twice: usize,
    /// Requests that were posted at two providers.
    pub at_two: usize,
    /// `sent` without a message id: the provider's answer broke off after the status.
    pub nameless: usize,

    /// Confirmed requests without a result.
    pub lost: usize,
    /// Requests with two different outcomes.
    pub contradicting: usize,
    /// Results without a request.
    pub unasked: usize,
    /// Messages beyond those that a request may have.
    pub sms_beyond: usize,
    /// POSTs at another provider than the one that had surely accepted the request.
    pub posted_elsewhere: usize,
    /// Requests with two codes.
    pub codes_differ: usize,
    /// POSTs after the deadline.
    pub late: usize,
    /// `sent` with the id of a message of another request.
    pub wrong_sid: usize,
    /// `sent`, and the provider has no message.
    pub sent_without_sms: usize,
    /// `failed` or `rejected`, and the provider has a message.
    pub sms_without_sent: usize,
    /// `rejected` after an attempt.
    pub rejected_after_post: usize,
    /// Requests sent to a number beyond its limit.
    pub over_limit: usize,
    /// POSTs that no request explains.
    pub unattributed: usize,
    /// One sentence for each broken rule.
    pub broken: Vec<String>,
}

/// Checks a history against the rules.
pub fn check(history: &History) -> Report {
    let mut report = Report { requests: history.requests.len(), ..Report::default() };
    let requests: BTreeMap<&str, &Request> =
        history.requests.iter().map(|request| (request.id.as_str(), request)).collect();
    let results = results_by_request(history, &requests, &mut report);
    let posts = posts_by_request(history, &requests, &mut report);
    for (id, request) in requests {
        report.confirmed += usize::from(request.confirmed);
        let posts = posts.get(id).map_or(&[][..], Vec::as_slice);
        check_posts(request, posts, &mut report);
        match results.get(id) {
            Some(results) => check_results(request, results, posts, &mut report),
            None if request.confirmed => {
                report.lost += 1;
                report.broken.push(format!("lost: {id} was confirmed and has no terminal result"));
            }
            None => {}
        }
    }
    if let Some(limit) = history.limit {
        check_limit(history, limit, &mut report);
    }
    report
}

fn results_by_request<'a>(
    history: &'a History,
    requests: &BTreeMap<&str, &Request>,
    report: &mut Report,
) -> HashMap<&'a str, Vec<&'a PublishedResult>> {
    let mut results: HashMap<&str, Vec<&PublishedResult>> = HashMap::new();
    for result in history.results.iter().filter(|result| TERMINAL.contains(&result.status.as_str())) {
        if !requests.contains_key(result.request.as_str()) {
            report.unasked += 1;
            report.broken.push(format!("unasked: {} answers no request", result.message_id));
        }
        results.entry(&result.request).or_default().push(result);
    }
    results
}

fn posts_by_request<'a>(
    history: &'a History,
    requests: &BTreeMap<&str, &Request>,
    report: &mut Report,
) -> HashMap<&'a str, Vec<&'a Post>> {
    report.posts = history.posts.len();
    report.accepted = history.posts.iter().filter(|post| post.accepted).count();
    report.in_doubt = history.posts.iter().filter(|post| post.in_doubt).count();
    let mut posts: HashMap<&str, Vec<&Post>> = HashMap::new();
    for post in &history.posts {
        let asked = post.request.as_deref().and_then(|id| requests.get(id).copied());
        match (asked, &post.request) {
            (Some(asked), Some(id)) if asked.to == post.to => posts.entry(id).or_default().push(post),
            _ => {
                report.unattributed += 1;
                let named = post.request.as_deref().unwrap_or("no request");
                report.broken.push(format!("unattributed: a POST to {} at {} for {named}", post.to, post.at));
            }
        }
    }
    // Providers and runs may list them in any order.
    posts.values_mut().for_each(|posts| posts.sort_by_key(|post| post.at));
    posts
}

/// Checks the provider's record of a request, independent of its results.
fn check_posts(request: &Request, posts: &[&Post], report: &mut Report) {
    let id = &request.id;
    let accepted: Vec<usize> = (0..posts.len()).filter(|&nth| posts[nth].accepted).collect();
    // A second message is allowed once, and only after an attempt in doubt.
    let doubt_before = |&nth: &usize| posts[..nth].iter().any(|post| post.in_doubt);
    let allowed = match accepted.get(1) {
        Some(second) if doubt_before(second) => SMS_MAX,
        _ => 1,
    };
    report.twice += usize::from(accepted.len() == 2 && allowed == SMS_MAX);
    if accepted.len() > allowed {
        report.sms_beyond += accepted.len() - allowed;
        let (count, at) = (accepted.len(), accepted.iter().map(|&nth| posts[nth].at).collect::<Vec<_>>());
        report.broken.push(format!("sms_beyond: {id} has {count} messages, {allowed} allowed, at {at:?}"));
    }
    check_providers(id, posts, report);
    let codes: BTreeSet<&str> = posts.iter().map(|post| post.code.as_str()).collect();
    if codes.len() > 1 {
        report.codes_differ += 1;
        report.broken.push(format!("codes_differ: {id} was posted with {} codes", codes.len()));
    }
    for post in posts.iter().filter(|post| post.at > request.deadline) {
        report.late += 1;
        let by = post.at - request.deadline;
        report.broken.push(format!("late: {id} was posted {by} ms after its deadline"));
    }
}

/// Another provider is asked after a refusal or a doubt.
fn check_providers(id: &str, posts: &[&Post], report: &mut Report) {
    let is_elsewhere = |nth: &usize| {
        let surely = |earlier: &&Post| earlier.accepted && !earlier.in_doubt;
        posts[..*nth].iter().any(|earlier| surely(earlier) && earlier.provider != posts[*nth].provider)
    };
    report.at_two += usize::from(posts.iter().any(|post| post.provider != posts[0].provider));
    for nth in (0..posts.len()).filter(is_elsewhere) {
        report.posted_elsewhere += 1;
        let Post { provider, at, .. } = posts[nth];
        report.broken.push(format!("posted_elsewhere: {id} was accepted, and posted at {provider} at {at}"));
    }
}

/// Checks the results of a request against the provider's record.
fn check_results(request: &Request, results: &[&PublishedResult], posts: &[&Post], report: &mut Report) {
    let id = &request.id;
    let first = results[0];
    report.repeats += results.len() - 1;
    report.replayed += results.iter().filter(|result| result.replayed).count();
    if results.iter().any(|other| (&other.status, &other.sid) != (&first.status, &first.sid)) {
        report.contradicting += 1;
        let ends: Vec<_> = results.iter().map(|end| (&end.status, &end.sid, end.at)).collect();
        report.broken.push(format!("contradicting: {id} ended as {ends:?}"));
    }
    let sids: Vec<Option<&str>> =
        posts.iter().filter(|post| post.accepted).map(|post| post.sid.as_deref()).collect();
    match first.status.as_str() {
        "sent" => {
            report.sent += 1;
            report.nameless += usize::from(first.sid.is_none());
            if sids.is_empty() {
                report.sent_without_sms += 1;
                report.broken.push(format!("sent_without_sms: {id} has the result sent and no message"));
            } else if first.sid.is_some() && !sids.contains(&first.sid.as_deref()) {
                report.wrong_sid += 1;
                report.broken.push(format!(
                    "wrong_sid: {id} has the result {:?} and the messages {sids:?}",
                    first.sid
                ));
            }
        }
        "unknown" => report.unknown += 1,
        status => {
            report.failed += usize::from(status == "failed");
            report.rejected += usize::from(status == "rejected");
            if !sids.is_empty() {
                report.sms_without_sent += 1;
                let error = first.error.as_deref().unwrap_or("none");
                report.broken.push(format!(
                    "sms_without_sent: {id} has the result {status} ({error}) and the messages {sids:?}"
                ));
            } else if status == "rejected" && !posts.is_empty() {
                report.rejected_after_post += 1;
                report.broken.push(format!("rejected_after_post: {id} had {} POSTs", posts.len()));
            }
        }
    }
}

/// A request counts once against the limit, at its first message.
fn check_limit(history: &History, limit: Limit, report: &mut Report) {
    let mut first: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for post in history.posts.iter().filter(|post| post.accepted) {
        let Some(request) = &post.request else { continue };
        let at = first.entry((&post.to, request)).or_insert(post.at);
        *at = (*at).min(post.at);
    }
    let mut numbers: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for ((to, _), at) in first {
        numbers.entry(to).or_default().push(at);
    }
    for (to, mut times) in numbers {
        times.sort_unstable();
        let inside = |end: usize| (0..=end).filter(|&at| times[end] - times[at] < limit.window).count();
        let most = (0..times.len()).map(inside).max().unwrap_or(0);
        if most > limit.count {
            report.over_limit += most - limit.count;
            report.broken.push(format!("over_limit: {to} got {most} in a window, {} allowed", limit.count));
        }
    }
}

impl Report {
    /// The counts that must all be zero.
    pub fn violations(&self) -> [(&'static str, usize); 13] {
        [
            ("lost", self.lost),
            ("contradicting", self.contradicting),
            ("unasked", self.unasked),
            ("sms_beyond", self.sms_beyond),
            ("posted_elsewhere", self.posted_elsewhere),
            ("codes_differ", self.codes_differ),
            ("late", self.late),
            ("wrong_sid", self.wrong_sid),
            ("sent_without_sms", self.sent_without_sms),
            ("sms_without_sent", self.sms_without_sent),
            ("rejected_after_post", self.rejected_after_post),
            ("over_limit", self.over_limit),
            ("unattributed", self.unattributed),
        ]
    }

    pub fn holds(&self) -> bool {
        self.violations().iter().all(|&(_, count)| count == 0)
    }

    /// The first line of a table of reports.
    pub fn heading() -> String {
        let (requests, results, posts) =
            ("asked confirmed", "sent unknown failed reject repeats", "posts sms twice");
        row("", [requests, results, posts].join(" ").split(' ').map(str::to_owned), "verdict")
    }

    /// One line of that table.
    pub fn line(&self, name: &str) -> String {
        let results = [self.sent, self.unknown, self.failed, self.rejected, self.repeats];
        let posts = [self.posts, self.accepted, self.twice];
        let counts = [self.requests, self.confirmed].into_iter().chain(results).chain(posts);
        let broken: Vec<String> =
            self.violations().iter().filter(|(_, count)| *count > 0).map(name_and_count).collect();
        let verdict = if broken.is_empty() { "holds".to_owned() } else { broken.join(" ") };
        row(name, counts.map(|count| count.to_string()), &verdict)
    }
}

/// The table of one run, then a line for each broken rule.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", Report::heading(), self.line(""))?;
        let Report { replayed, in_doubt, nameless, at_two, .. } = self;
        writeln!(
            f,
            "replayed {replayed}, in doubt {in_doubt}, at two providers {at_two}, sent without a message id {nameless}"
        )?;
        self.broken.iter().try_for_each(|broken| writeln!(f, "  {broken}"))
    }
}

fn name_and_count((name, count): &(&'static str, usize)) -> String {
    format!("{name}={count}")
}

fn row(name: &str, cells: impl Iterator<Item = String>, verdict: &str) -> String {
    let cells: String = cells.map(|cell| format!("{cell:>10}")).collect();
    format!("{name:<44}{cells}  {verdict}")
}
