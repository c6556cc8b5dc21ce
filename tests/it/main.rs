//! All integration tests, in one binary.

mod contract {
    pub mod store;
}
mod model;
mod real;
