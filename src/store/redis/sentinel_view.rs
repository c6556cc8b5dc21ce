//! The views that Sentinels have of the master, and their order.

use super::address::Address;

/// One Sentinel's view of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Of the last failover that this Sentinel knows of.
    epoch: u64,
    /// A failover is going on, and this Sentinel already names the new master.
    is_ahead: bool,
    pub(super) is_down: bool,
    pub(super) master: Address,
}

impl View {
    /// A later failover has chosen another master.
    pub(super) fn replaces(&self, connected: &View) -> bool {
        let is_later = (self.epoch, self.is_ahead) > (connected.epoch, connected.is_ahead);
        is_later && !self.is_down && self.master != connected.master
    }
}

/// The latest view first, and each server once.
pub(super) fn in_order(mut views: Vec<View>) -> Vec<View> {
    views.sort_by_key(|view| (std::cmp::Reverse((view.epoch, view.is_ahead)), view.is_down));
    let mut masters: Vec<Address> = Vec::new();
    views.retain(|view| {
        let is_new = !masters.contains(&view.master);
        masters.push(view.master.clone());
        is_new
    });
    views
}

/// `details` are names and values in turn.
pub(super) fn read_view(master: Address, details: &[String]) -> View {
    let field = |wanted: &str| {
        details.chunks_exact(2).find(|pair| pair[0] == wanted).map_or("", |pair| pair[1].as_str())
    };
    let recorded = (field("ip"), field("port").parse().unwrap_or(0));
    let is_ahead = !recorded.0.is_empty() && recorded != (master.0.as_str(), master.1);
    // One Sentinel alone may be cut off from a master that works.
    let is_down = field("flags").split(',').any(|flag| flag == "o_down");
    View {
        epoch: field("config-epoch").parse().unwrap_or(0),
        is_ahead,
        // The flags are those of the old master.
        is_down: is_down && !is_ahead,
        master,
    }
}

#[cfg(test)]
impl View {
    pub(super) fn of_epoch(epoch: u64) -> View {
        View { epoch, is_ahead: false, is_down: false, master: ("10.0.0.1".to_owned(), 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view_of(fields: &[(&str, &str)], named: u16) -> View {
        let details: Vec<String> =
            fields.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect();
        read_view(("10.0.0.1".to_owned(), named), &details)
    }

    #[test]
    fn the_view_of_the_latest_failover_comes_first_and_a_master_once() {
        let at = |epoch: &str, port: &str, flags: &str, named: u16| {
            view_of(&[("ip", "10.0.0.1"), ("port", port), ("flags", flags), ("config-epoch", epoch)], named)
        };
        let ports = |views: Vec<View>| -> Vec<(u16, bool)> {
            in_order(views).iter().map(|view| (view.master.1, view.is_down)).collect()
        };
        let old = at("1", "1", "master", 1);
        let down = at("1", "1", "s_down,o_down,master", 1);
        let down_for_one = at("1", "1", "s_down,master", 1);
        let ahead = at("1", "1", "s_down,o_down,master", 2);
        let new = at("2", "2", "master", 2);
        let (old_view, ahead_view) = (old.clone(), ahead.clone());
        assert_eq!(ports(vec![old.clone(), new.clone(), old.clone()]), [(2, false), (1, false)]);
        assert_eq!(ports(vec![old.clone(), ahead, down.clone()]), [(2, false), (1, false)]);
        assert_eq!(ports(vec![down.clone(), down.clone()]), [(1, true)]);
        assert_eq!(ports(vec![down.clone(), down_for_one]), [(1, false)]);
        assert_eq!(ports(vec![down.clone(), old]), [(1, false)]);
        let replaces = |view: &View| view.replaces(&old_view);
        assert!(!replaces(&old_view) && !replaces(&down) && replaces(&ahead_view) && replaces(&new));
        assert!(!old_view.replaces(&new) && !ahead_view.replaces(&new), "a Sentinel that lags behind");
        assert_eq!(ports(vec![view_of(&[], 3)]), [(3, false)], "without the right to read more");
    }
}
