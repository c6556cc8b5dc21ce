//! Random bytes for identifiers and nonces.

pub(super) fn random_bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// For a fencing token, or the id of a check or of a worker.
pub(super) fn random_id() -> u64 {
    u64::from_ne_bytes(random_bytes())
}
