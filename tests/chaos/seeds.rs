//! The seeds of a run. A run over many seeds can be stopped and goes on where it was.

use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Seeds that have held, one run a line. Below `target`, so `cargo clean` forgets them.
const HELD: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos-held");

/// Reads seeds and ranges of them: `910545,1000..1200`.
pub fn parse(list: &str) -> Option<Vec<u64>> {
    let mut seeds = Vec::new();
    for part in list.split(',') {
        match part.trim().split_once("..") {
            Some((first, end)) => seeds.extend(first.parse::<u64>().ok()?..end.parse().ok()?),
            None => seeds.push(part.trim().parse().ok()?),
        }
    }
    Some(seeds)
}

/// Has this run held before?
pub fn has_held(run: &str) -> bool {
    fs::read_to_string(HELD).is_ok_and(|held| held.lines().any(|line| line == run))
}

pub fn record_held(run: &str) {
    fs::create_dir_all(Path::new(HELD).parent().expect("it is in a folder")).expect("a folder can be made");
    let file = fs::OpenOptions::new().create(true).append(true).open(HELD);
    writeln!(file.expect("a file can be opened"), "{run}").expect("a line can be written");
}
