//! The `otpost` command: arguments, settings, application, exit code.

use std::process::ExitCode;

use otpost::cli;

/// Profiling found a sixth of a message's CPU time in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing was installed before main");
    let arguments = cli::arguments();
    // One thread: a worker mostly waits for servers, and computes for microseconds. More processes do more work. Name
    // lookups and file reads have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli::run(arguments)).into(),
        Err(error) => {
            eprintln!("otpost: the runtime could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}
