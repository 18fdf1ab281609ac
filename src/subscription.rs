//! One client's way through the history: replay first, then live, with no gap and no double between.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    history::HistoryError,
    hub::{Event, Hub, NextAfter, Published},
    position::Position,
    protocol::Frame,
    publication::Publication,
    region::Regions,
};

/// See the module's documentation. Ends when dropped.
pub struct Subscription {
    hub: Arc<Hub>,
    receiver: broadcast::Receiver<Event>,
    regions: Regions,
    /// Everything of the regions up to here has been given out. This number is all that a slow client costs.
    position: Position,
    /// What the client was told of its `since`.
    recovered: Option<bool>,
    /// Whether the next publication is looked for in the history and not in the channel.
    behind: bool,
    /// Read from the store and not yet given out: at most one page, and only while behind the hub's window.
    page: VecDeque<Publication>,
}

/// The position means nothing any more: retention overtook it, or the history is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the position is lost")]
pub struct PositionLost;

/// A publication for the client.
#[derive(Debug)]
pub enum Delivery {
    /// From the hub: live, or replayed from memory.
    Shared(Arc<Published>),
    /// From the store, encoded for this client alone.
    Stored(Frame),
}

impl Delivery {
    pub fn frame(&self) -> &Frame {
        match self {
            Self::Shared(published) => &published.frame,
            Self::Stored(frame) => frame,
        }
    }
}

impl Subscription {
    pub(crate) fn new(
        hub: Arc<Hub>,
        receiver: broadcast::Receiver<Event>,
        regions: Regions,
        position: Position,
        recovered: Option<bool>,
    ) -> Self {
        let behind = recovered == Some(true);
        Self { hub, receiver, regions, position, recovered, behind, page: VecDeque::new() }
    }

    /// Where the subscription stands: all up to here has been given out.
    pub fn position(&self) -> Position {
        self.position
    }

    /// `true`: everything after the client's `since` follows. `false`: that can't be proven, and nothing old follows.
    /// `None`: the client gave no `since`.
    pub fn recovered(&self) -> Option<bool> {
        self.recovered
    }

    /// The heartbeat that says where this subscription stands.
    pub fn heartbeat(&self) -> Frame {
        self.hub.heartbeat(self.position)
    }

    /// The next publication of the regions. Can be dropped before it answers; nothing is lost then.
    ///
    /// # Errors
    /// When the position is lost; the client has to start again.
    pub async fn next(&mut self) -> Result<Delivery, PositionLost> {
        loop {
            let found = if self.behind { self.replay().await? } else { self.receive().await? };
            if let Some(delivery) = found {
                return Ok(delivery);
            }
        }
    }

    /// The next publication after the position, from the window or the store; none once there is no more.
    async fn replay(&mut self) -> Result<Option<Delivery>, PositionLost> {
        while let Some(publication) = self.page.pop_front() {
            self.position = publication.position;
            if self.regions.contains(&publication.region) {
                self.hub.metrics.replayed();
                return Ok(Some(Delivery::Stored(Frame::publication(&publication))));
            }
        }
        match self.hub.next_after(self.position, &self.regions) {
            NextAfter::InMemory(published) => {
                self.position = published.position;
                self.hub.metrics.replayed();
                Ok(Some(Delivery::Shared(published)))
            }
            NextAfter::InStore { after, head } => {
                match self.hub.read(after).await {
                    Ok(page) if page.trimmed.reaches_past(self.position.offset, &self.regions) => {
                        return Err(PositionLost);
                    }
                    Ok(page) => {
                        // The store may be ahead of the hub. What lies beyond its head will come live; given out
                        // now it would come twice, and a client could stand where the hub can't prove anything.
                        let known = page.publications.into_iter().filter(|it| it.position.offset <= head.offset);
                        self.page = known.collect();
                    }
                    Err(HistoryError::PositionLost) => return Err(PositionLost),
                    // The position is kept, so the client waits and misses nothing.
                    Err(HistoryError::Unavailable(_)) => tokio::time::sleep(STORE_PAUSE).await,
                }
                Ok(None)
            }
            NextAfter::UpToDate(head) => {
                self.position = head;
                self.behind = false;
                Ok(None)
            }
            NextAfter::Lost => Err(PositionLost),
        }
    }

    /// The next publication from the channel; none where the channel brought something else.
    async fn receive(&mut self) -> Result<Option<Delivery>, PositionLost> {
        match self.receiver.recv().await {
            // Given out by the replay already.
            Ok(Event::Published(published)) if published.position.offset <= self.position.offset => Ok(None),
            Ok(Event::Published(published)) => {
                self.position = published.position;
                Ok(self.regions.contains(&published.region).then_some(Delivery::Shared(published)))
            }
            Ok(Event::Trimmed(trimmed)) if trimmed.reaches_past(self.position.offset, &self.regions) => {
                Err(PositionLost)
            }
            Ok(Event::Trimmed(_)) => Ok(None),
            Ok(Event::Reset) => Err(PositionLost),
            // A resume, not an error: the history has what the channel no longer does.
            Err(RecvError::Lagged(_)) => {
                self.hub.metrics.lagged();
                self.behind = true;
                Ok(None)
            }
            // The hub owns the sender and lives as long as this.
            Err(RecvError::Closed) => Err(PositionLost),
        }
    }
}

/// How long a subscription waits before it asks a store that did not answer again.
const STORE_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.regions);
    }
}
