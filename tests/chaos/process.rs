//! A process of ours: its log, signals to it by its id, and its end.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait::until;

/// Killed with its children and reaped when dropped, so that no failure leaves it running.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with only the command's own environment, in its own process group, so that a Ctrl-C reaches the test
    /// alone. Its output is appended to the log.
    pub fn start(mut command: Command, log: &Path) -> Process {
        let file = File::options().append(true).create(true).open(log).expect("the log can be written");
        let program = command.get_program().display().to_string();
        let child = command
            .current_dir(log.parent().expect("a log lies in a folder"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        Process { child, log: log.to_owned() }
    }

    /// A signal to it and its children, as `TERM`.
    pub fn signal(&self, name: &str) {
        // The id cannot be reused before the process is reaped, which happens only here.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", name, "--", &group]).stderr(Stdio::null()).status();
    }

    /// `kill -9`, and reaped.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.signal("KILL");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be asked")
    }

    /// Asks it to stop with SIGTERM, and waits for its end; one that does not end in time is an error.
    pub async fn terminate(mut self, within: Duration) -> Result<ExitStatus, String> {
        self.signal("TERM");
        until("the end of a process", within, || self.ended().ok_or_else(String::new)).await
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines that it wrote.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
