//! Permits: how many connections there may be at a time. How often somebody may do something is in [`rates`](crate::rates).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::forwarded::limit_key;

/// Counts permits in use, in all and by address: one of these is for clients, another for connections that are none
/// ([`pending`](crate::pending)).
pub struct Limits {
    max_connections: u64,
    max_connections_per_address: u64,
    connected: Mutex<Connected>,
}

#[derive(Default)]
struct Connected {
    total: u64,
    by_address: HashMap<IpAddr, u64>,
}

/// One place; it is taken until this is dropped.
pub struct Permit {
    limits: Arc<Limits>,
    address: Option<IpAddr>,
}

/// Why no permit was given. An established client is never ended to admit another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server is full.
    Full,
    /// The client's address has as many connections as it may.
    AddressFull,
}

impl Limits {
    /// So many in all, and so many of one address.
    pub fn new(max_connections: u64, max_connections_per_address: u64) -> Arc<Self> {
        Arc::new(Self { max_connections, max_connections_per_address, connected: Mutex::default() })
    }

    /// Admits a client; one without an address (a silent proxy on a Unix socket) counts in all only.
    ///
    /// # Errors
    /// `Full` where both would hold.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Permit, Refusal> {
        let address = address.map(limit_key);
        let mut connected = self.lock();
        if connected.total >= self.max_connections {
            return Err(Refusal::Full);
        }
        if let Some(address) = address {
            let of_address = connected.by_address.entry(address).or_default();
            if *of_address >= self.max_connections_per_address {
                return Err(Refusal::AddressFull);
            }
            *of_address += 1;
        }
        connected.total += 1;
        Ok(Permit { limits: self.clone(), address })
    }

    /// How many are connected.
    pub fn connected(&self) -> u64 {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut connected = self.limits.lock();
        connected.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = connected.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                connected.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_in_all_and_by_address() {
        let limits = Limits::new(3, 2);
        let [one, other]: [Option<IpAddr>; 2] = ["1.1.1.1", "2.2.2.2"].map(|text| text.parse().ok());
        let first = limits.admit(one).ok().unwrap();
        let _second = limits.admit(one).ok().unwrap();
        assert_eq!(limits.admit(one).err(), Some(Refusal::AddressFull));
        let _third = limits.admit(other).ok().unwrap();
        assert_eq!(limits.admit(None).err(), Some(Refusal::Full));
        drop(first);
        assert!(limits.admit(one).is_ok());
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let limits = Limits::new(3, 2);
        drop(limits.admit("1.1.1.1".parse().ok()));
        assert!(limits.lock().by_address.is_empty());
    }
}
