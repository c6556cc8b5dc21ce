//! The `otpost` command: arguments, settings, application, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use otpost::cli::{self, Arguments};

/// Sampling found a sixth of a message's CPU in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing was installed before main");
    let arguments = Arguments::parse();
    // One thread: a worker waits for servers most of its time, and what it computes takes microseconds. More work is
    // done by more processes. Name look-ups and file reads have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli::run(arguments)).into(),
        Err(error) => {
            eprintln!("otpost: the runtime could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}
