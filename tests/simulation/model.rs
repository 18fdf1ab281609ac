//! The oracle: the plain list of what was accepted, and what that says of a client.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use video_notifier::{
    history::Trimmed,
    position::{Epoch, Offset, Position},
    region::{Region, Regions},
};

/// One accepted publication.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub offset: Offset,
    pub region: Region,
    /// Which post it was.
    pub post: usize,
}

/// Everything that any history accepted, by epoch, in order.
#[derive(Clone, Default)]
pub struct Truth(Arc<Mutex<HashMap<Epoch, Log>>>);

#[derive(Default)]
struct Log {
    accepted: Vec<Accepted>,
    /// What retention has removed, as the history said last.
    trimmed: Trimmed,
}

impl Truth {
    pub fn accept(&self, epoch: Epoch, accepted: Accepted) {
        let mut logs = self.0.lock().expect("no oracle panics while it writes");
        let log = logs.entry(epoch).or_default();
        assert!(log.accepted.last().is_none_or(|last| last.offset < accepted.offset), "offsets only rise");
        log.accepted.push(accepted);
    }

    pub fn trim(&self, epoch: Epoch, trimmed: Trimmed) {
        self.0.lock().expect("no oracle panics while it writes").entry(epoch).or_default().trimmed = trimmed;
    }

    fn read<T>(&self, epoch: Epoch, read: impl FnOnce(&Log) -> T) -> T {
        read(self.0.lock().expect("no oracle panics while it writes").entry(epoch).or_default())
    }

    /// What lies after one offset up to another, of these regions.
    pub fn between(&self, epoch: Epoch, after: Offset, to: Offset, regions: &Regions) -> Vec<Accepted> {
        self.read(epoch, |log| {
            let accepted = log.accepted.iter().filter(|it| it.offset > after && it.offset <= to);
            accepted.filter(|it| regions.contains(&it.region)).cloned().collect()
        })
    }

    pub fn find(&self, position: Position) -> Option<Accepted> {
        self.read(position.epoch, |log| log.accepted.iter().find(|it| it.offset == position.offset).cloned())
    }

    pub fn is_trimmed_after(&self, position: Position, regions: &Regions) -> bool {
        self.read(position.epoch, |log| log.trimmed.reaches_past(position.offset, regions))
    }

    /// How often a post was accepted in one history.
    pub fn times(&self, epoch: Epoch, post: usize) -> usize {
        self.read(epoch, |log| log.accepted.iter().filter(|it| it.post == post).count())
    }

    pub fn head(&self, epoch: Epoch) -> Offset {
        self.read(epoch, |log| log.accepted.last().map_or(0, |it| it.offset))
    }
}
