//! The system user who runs a command, for the audit log.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::domain::log_filter::log_filter_user;

/// The name, or `uid:NUMBER` where the system has no name, as in a container without `/etc/passwd`.
pub(super) fn system_user() -> String {
    let Ok(own) = fs::metadata("/proc/self") else { return log_filter_user("") };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    log_filter_user(&name_in(&users, own.uid()).unwrap_or_else(|| format!("uid:{}", own.uid())))
}

fn name_in(users: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nana:x:1000:1000::/home/ana:/bin/sh\n";
        assert_eq!(name_in(users, 1000).as_deref(), Some("ana"));
        assert_eq!(name_in(users, 0).as_deref(), Some("root"));
        assert_eq!(name_in(users, 7), None);
    }
}
