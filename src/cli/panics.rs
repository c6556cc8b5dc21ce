//! Shows the place of a panic, and never its message: that may hold the value at fault, such as a number or a secret.

use std::io::Write as _;
use std::panic::{Location, PanicHookInfo};

use crate::telemetry::events;

/// For the whole process. Before logging has started the place is written to standard error.
pub(super) fn show_only_places() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map_or_else(|| "unknown".to_owned(), Location::to_string);
        match tracing::dispatcher::has_been_set() {
            true => events::panicked(&place),
            // It may be closed.
            false => drop(writeln!(std::io::stderr(), "otpost: panicked at {place}")),
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::telemetry::start_logging;

    const CHILD: &str = "OTPOST_TEST_OF_PANICS";

    /// The hook is that of a process, so the test has one of its own.
    #[test]
    fn a_panic_shows_its_place_and_not_its_message() {
        let panic = || drop(std::thread::spawn(|| panic!("planted +573001234567")).join());
        if std::env::var_os(CHILD).is_some() {
            super::show_only_places();
            panic();
            start_logging("info", true).expect("it starts");
            panic();
            return;
        }
        let own = std::env::current_exe().expect("a test binary");
        let name = "cli::panics::tests::a_panic_shows_its_place_and_not_its_message";
        let output = Command::new(own).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
        let output = output.expect("it starts");
        let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        assert!(error.contains("otpost: panicked at src/cli/panics.rs:"), "{error}");
        let line = out.lines().find(|line| line.contains("\"message\":\"panicked\"")).expect("a line");
        assert!(line.contains("\"level\":\"ERROR\"") && line.contains("\"place\":\"src/cli/panics.rs:"));
        assert!(!format!("{out}{error}").contains("planted"), "{out}{error}");
    }
}
