//! All integration tests, in one binary.

mod addresses;
mod answers;
mod audit;
mod contract {
    pub mod broker;
    pub mod provider;
    pub mod store;
}
mod config;
mod console;
mod conversion;
mod corpora;
mod damaged;
mod defence;
mod documents;
mod fake_http;
mod fake_sendgrid;
mod fake_twilio;
mod fake_vendor;
mod fake_verify;
mod faults;
mod forget;
mod harness;
#[path = "../history/mod.rs"]
mod history;
#[path = "../history/tests.rs"]
mod history_tests;
mod http;
mod inspect;
mod log_level;
mod log_lines;
mod logs;
mod metrics;
mod mistyped_prefix;
mod model;
mod opt_statuses;
mod page;
#[path = "../../fuzz/src/lib.rs"]
mod parsers;
mod planted;
mod promises;
mod real;
#[path = "../redis_nodes/mod.rs"]
mod redis_nodes;
#[path = "../redis_nodes/tests.rs"]
mod redis_nodes_tests;
mod reshard;
mod scaling;
mod schema;
mod scripted;
mod sendgrid;
mod simulation;
mod smtp;
mod spend;
mod status;
mod store_faults;
mod store_show;
mod suppressions;
mod texts;
mod tidy;
mod tls;
mod tokens;
mod traces;
mod twilio;
mod unready;
mod vendors;
mod verify;
mod webhooks;
mod why;
mod wire;
