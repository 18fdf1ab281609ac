//! A host that is gone without a word: no packet of its address arrives any more, nor one to it.

use std::{net::IpAddr, process::Command};

use super::skip;

/// Until this is dropped.
pub struct Blackout(IpAddr);

impl Blackout {
    /// Cuts an address of the loopback off; none where this process may not, which it says.
    pub fn of(address: IpAddr) -> Option<Self> {
        let blackout = Self(address);
        if blackout.rules("-I") {
            return Some(blackout);
        }
        skip("iptables and the right to use it (root, or CAP_NET_ADMIN in a container)");
        None
    }

    /// Where packets arrive, so that no end is told: what is dropped on its way out is an error to the sender.
    fn rules(&self, action: &str) -> bool {
        let address = self.0.to_string();
        ["-s", "-d"].iter().all(|side| {
            let rule = ["-w", action, "INPUT", "-i", "lo", side, &address, "-j", "DROP"];
            Command::new("iptables").args(rule).output().is_ok_and(|output| output.status.success())
        })
    }
}

impl Drop for Blackout {
    fn drop(&mut self) {
        self.rules("-D");
    }
}
