//! One behaviour suite for every history, and what SQLite promises beyond it.
//!
//! A backend to come implements [`Backend`] and adds one line to `suite!` below.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::join_all, stream::BoxStream};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::{Instant, advance, sleep, timeout};
use video_notifier::{
    history::{
        Append, AppendError, History, HistoryError, IdempotencyKey, Retention, Tailed, Trimmed,
        memory::MemoryHistory,
        sqlite::{OpenError, SqliteHistory},
    },
    notification::{Notification, Post},
    position::{Epoch, Offset, Position},
    publication::{Publication, Receipt},
    region::{Region, Regions},
};

use crate::support::server::PATIENCE;

/// Retention that keeps everything for as long as a test takes.
const KEEP: Retention =
    Retention { max_count: 1000, max_age: Duration::from_secs(3600), dedup_window: Duration::from_secs(600) };

/// Short enough to wait for; a test that asserts what happens before its end would fail on a slow machine.
const SHORT: Duration = Duration::from_millis(200);

/// A way to make a fresh history.
trait Backend {
    type History: History + Clone;

    /// What a history lives in; it is removed at the end of the test.
    type Place;

    fn create(retention: Retention) -> (Self::History, Self::Place);
}

struct Memory;

impl Backend for Memory {
    type History = MemoryHistory;
    type Place = ();

    fn create(retention: Retention) -> (MemoryHistory, ()) {
        (MemoryHistory::new(retention), ())
    }
}

struct Sqlite;

impl Backend for Sqlite {
    type History = SqliteHistory;
    type Place = TempDir;

    fn create(retention: Retention) -> (SqliteHistory, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (SqliteHistory::open(&folder.path().join("history.db"), retention).unwrap(), folder)
    }
}

/// Runs every test against every backend: memory on a paused clock, which moves on by itself while all wait.
macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $test() { super::$test::<super::Memory>().await; })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() { super::$test::<super::Sqlite>().await; })*
        }
    };
}

suite!(
    a_new_history_is_empty,
    a_publication_is_what_was_appended_and_its_receipt_says_so,
    appends_are_read_in_their_order_in_pages_that_join,
    a_position_of_another_epoch_or_above_the_head_is_lost,
    publications_are_found_by_their_offsets,
    a_tail_tells_what_was_and_what_comes,
    tails_do_not_disturb_each_other,
    a_tail_tells_what_was_trimmed_unseen_before_what_lies_beyond,
    retention_by_count_keeps_the_newest,
    retention_by_age_empties_the_log_and_offsets_go_on,
    a_tail_tells_what_became_too_old_though_nobody_appends,
    each_region_remembers_up_to_where_it_was_trimmed,
    an_equal_append_gets_the_first_receipt,
    a_key_decides_before_the_fingerprint_does,
    the_window_ends_for_appends_without_a_key_alone,
    receipts_outlive_their_publications,
    equal_appends_at_once_are_one_publication,
    one_key_at_once_goes_to_one_notification,
    different_appends_at_once_each_get_their_offset,
);

// What appends and reads look like.

fn notification(region: &str, id: u64) -> Notification {
    let post = format!(r#"{{"region":"{region}","count":{},"videos":[{{"id":{id},"title":"Video {id}"}}]}}"#, id + 7);
    match Notification::parse(post.as_bytes(), &Regions::All) {
        Ok(Post::Publish(notification)) => notification,
        other => panic!("{other:?}"),
    }
}

async fn try_append(history: &impl History, region: &str, id: u64, key: Option<&str>) -> Result<Receipt, AppendError> {
    let key = key.map(|key| IdempotencyKey::new(key).unwrap());
    history.append(Append { notification: notification(region, id), key, subscribers: id * 10 }).await
}

async fn append(history: &impl History, region: &str, id: u64) -> Receipt {
    try_append(history, region, id, None).await.unwrap()
}

/// Appends what must be new; answers its offset.
async fn publish(history: &impl History, region: &str, id: u64) -> Offset {
    let receipt = append(history, region, id).await;
    assert!(!receipt.deduplicated);
    receipt.id.unwrap().offset
}

async fn head(history: &impl History) -> Position {
    history.head().await.unwrap().position
}

async fn trimmed(history: &impl History) -> Trimmed {
    history.head().await.unwrap().trimmed
}

/// The history's position at an offset.
async fn at(history: &impl History, offset: Offset) -> Position {
    Position { offset, ..head(history).await }
}

async fn read(history: &impl History, after: Offset) -> Vec<Publication> {
    history.read(at(history, after).await, usize::MAX >> 1).await.unwrap().publications
}

fn offsets(publications: &[Publication]) -> Vec<Offset> {
    publications.iter().map(|publication| publication.position.offset).collect()
}

fn again(receipt: &Receipt) -> Receipt {
    Receipt { deduplicated: true, ..receipt.clone() }
}

/// The highest offset of a region that is gone, 0 where none is.
fn mark(trimmed: &Trimmed, region: &str) -> Offset {
    let region: Region = region.parse().unwrap();
    (1..100).take_while(|offset| trimmed.covers(&region, *offset)).last().unwrap_or(0)
}

async fn told(tail: &mut BoxStream<'static, Result<Tailed, HistoryError>>) -> Tailed {
    timeout(PATIENCE, tail.next()).await.expect("told in time").expect("the tail goes on").expect("a good answer")
}

async fn told_publication(tail: &mut BoxStream<'static, Result<Tailed, HistoryError>>) -> Publication {
    match told(tail).await {
        Tailed::Published(publication) => publication,
        Tailed::Trimmed(trimmed) => panic!("{trimmed:?}"),
    }
}

async fn told_trim(tail: &mut BoxStream<'static, Result<Tailed, HistoryError>>) -> Trimmed {
    match told(tail).await {
        Tailed::Trimmed(trimmed) => trimmed,
        Tailed::Published(publication) => panic!("{publication:?}"),
    }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

// The suite.

async fn a_new_history_is_empty<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    assert_eq!(head(&history).await.offset, 0);
    assert_eq!(trimmed(&history).await, Trimmed::default());
    assert!(read(&history, 0).await.is_empty());
    let (other, _place) = B::create(KEEP);
    assert_ne!(head(&history).await.epoch, head(&other).await.epoch, "each history has an epoch of its own");
}

async fn a_publication_is_what_was_appended_and_its_receipt_says_so<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    let receipt = append(&history, "US", 1).await;
    assert_eq!(receipt.id, Some(at(&history, 1).await));
    assert_eq!((receipt.region.as_str(), receipt.count), ("US", 8));
    assert_eq!((receipt.deduplicated, receipt.subscribers), (false, 10));
    let Notification { region, count, videos, .. } = notification("US", 1);
    let expected = Publication { position: receipt.id.unwrap(), region, count, videos, timestamp: receipt.timestamp };
    assert_eq!(read(&history, 0).await, [expected]);
}

async fn appends_are_read_in_their_order_in_pages_that_join<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    for (id, region) in ["US", "GB", "US", "JP", "US"].into_iter().enumerate() {
        assert_eq!(publish(&history, region, id as u64).await, id as u64 + 1);
    }
    let whole = read(&history, 0).await;
    assert_eq!(offsets(&whole), [1, 2, 3, 4, 5]);
    assert_eq!(whole.iter().map(|it| it.region.as_str()).collect::<Vec<_>>(), ["US", "GB", "US", "JP", "US"]);
    assert!(whole.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp));
    for limit in 1..=6 {
        let mut after = at(&history, 0).await;
        let mut joined = Vec::new();
        loop {
            let page = history.read(after, limit).await.unwrap();
            assert!(page.publications.len() <= limit);
            let Some(last) = page.publications.last() else { break };
            after = last.position;
            joined.extend(page.publications);
            assert!(joined.len() <= whole.len(), "pages of {limit}");
        }
        assert_eq!((joined, after), (whole.clone(), head(&history).await), "pages of {limit}");
    }
}

async fn a_position_of_another_epoch_or_above_the_head_is_lost<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    publish(&history, "US", 1).await;
    let here = head(&history).await;
    let other = std::iter::repeat_with(Epoch::draw).find(|epoch| *epoch != here.epoch).unwrap();
    for lost in [Position { epoch: other, ..here }, Position { epoch: other, offset: 0 }, at(&history, 2).await] {
        assert_eq!(history.read(lost, 10).await.unwrap_err(), HistoryError::PositionLost);
        let mut tail = history.tail(lost);
        let first = timeout(PATIENCE, tail.next()).await.unwrap();
        assert_eq!(first.unwrap().unwrap_err(), HistoryError::PositionLost);
        assert!(timeout(PATIENCE, tail.next()).await.unwrap().is_none(), "a tail ends with its error");
    }
    assert!(history.read(here, 10).await.unwrap().publications.is_empty());
}

async fn publications_are_found_by_their_offsets<B: Backend>() {
    let (history, _place) = B::create(Retention { max_count: 3, ..KEEP });
    for id in 1..=5 {
        publish(&history, if id == 4 { "GB" } else { "US" }, id).await;
    }
    let epoch = head(&history).await.epoch;
    let kept = read(&history, 0).await;
    for wanted in [&[3, 4, 5][..], &[5, 3], &[4], &[]] {
        let expected: Vec<_> = wanted.iter().map(|offset| kept[*offset as usize - 3].clone()).collect();
        assert_eq!(history.find(epoch, wanted).await.unwrap(), expected, "{wanted:?}");
    }
    assert_eq!(offsets(&history.find(epoch, &[5, 2, 3, 1]).await.unwrap()), [5, 3], "what is gone is left out");
    let other = std::iter::repeat_with(Epoch::draw).find(|other| *other != epoch).unwrap();
    assert_eq!(history.find(other, &[3]).await.unwrap_err(), HistoryError::PositionLost);
}

async fn a_tail_tells_what_was_and_what_comes<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    for id in 1..=3 {
        publish(&history, "US", id).await;
    }
    let mut tail = history.tail(at(&history, 1).await);
    for offset in [2, 3] {
        assert_eq!(told_publication(&mut tail).await.position.offset, offset);
    }
    // Polled while it waits, so that the next append has to wake it.
    assert!(tail.next().now_or_never().is_none());
    let waits = tokio::spawn(async move { (told_publication(&mut tail).await, tail) });
    tokio::task::yield_now().await;
    publish(&history, "GB", 4).await;
    let (publication, mut tail) = waits.await.unwrap();
    assert_eq!(publication, read(&history, 3).await[0]);
    // Then many while nobody polls.
    for id in 5..=250 {
        publish(&history, "US", id).await;
    }
    for offset in 5..=250 {
        assert_eq!(told_publication(&mut tail).await.position.offset, offset);
    }
}

async fn tails_do_not_disturb_each_other<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    publish(&history, "US", 1).await;
    let (mut one, mut other) = (history.tail(at(&history, 0).await), history.tail(at(&history, 1).await));
    publish(&history, "US", 2).await;
    assert_eq!(told_publication(&mut other).await.position.offset, 2);
    drop(other);
    for offset in [1, 2] {
        assert_eq!(told_publication(&mut one).await.position.offset, offset);
    }
}

async fn a_tail_tells_what_was_trimmed_unseen_before_what_lies_beyond<B: Backend>() {
    let (history, _place) = B::create(Retention { max_count: 2, ..KEEP });
    for id in 1..=5 {
        publish(&history, if id == 2 { "GB" } else { "US" }, id).await;
    }
    let mut tail = history.tail(at(&history, 0).await);
    let unseen = told_trim(&mut tail).await;
    assert_eq!((mark(&unseen, "US"), mark(&unseen, "JP")), (3, 0));
    assert!(unseen.covers(&"GB".parse().unwrap(), 2));
    for offset in [4, 5] {
        assert_eq!(told_publication(&mut tail).await.position.offset, offset);
    }
    for id in 6..=8 {
        publish(&history, "US", id).await;
    }
    assert_eq!(mark(&told_trim(&mut tail).await, "US"), 6);
    for offset in [7, 8] {
        assert_eq!(told_publication(&mut tail).await.position.offset, offset);
    }
}

async fn retention_by_count_keeps_the_newest<B: Backend>() {
    let (history, _place) = B::create(Retention { max_count: 3, ..KEEP });
    for id in 1..=3 {
        publish(&history, "US", id).await;
    }
    assert_eq!((offsets(&read(&history, 0).await), trimmed(&history).await), (vec![1, 2, 3], Trimmed::default()));
    for id in 4..=20 {
        publish(&history, "US", id).await;
        let page = history.read(at(&history, 0).await, 100).await.unwrap();
        assert_eq!(offsets(&page.publications), [id - 2, id - 1, id]);
        assert_eq!(mark(&page.trimmed, "US"), id - 3);
        assert_eq!(page.trimmed, trimmed(&history).await);
    }
}

async fn retention_by_age_empties_the_log_and_offsets_go_on<B: Backend>() {
    let (history, _place) = B::create(Retention { max_age: SHORT, ..KEEP });
    let start = Instant::now();
    publish(&history, "US", 1).await;
    publish(&history, "GB", 2).await;
    until("the log empties", async || read(&history, 0).await.is_empty()).await;
    assert!(start.elapsed() >= SHORT, "not before its time");
    let marks = trimmed(&history).await;
    assert_eq!(mark(&marks, "US"), 1);
    assert!(marks.covers(&"GB".parse().unwrap(), 2));
    assert_eq!(head(&history).await.offset, 2);
    assert_eq!(publish(&history, "US", 3).await, 3);
}

async fn a_tail_tells_what_became_too_old_though_nobody_appends<B: Backend>() {
    let (history, _place) = B::create(Retention { max_age: SHORT, ..KEEP });
    publish(&history, "US", 1).await;
    let mut tail = history.tail(head(&history).await);
    assert_eq!(mark(&told_trim(&mut tail).await, "US"), 1);
}

async fn each_region_remembers_up_to_where_it_was_trimmed<B: Backend>() {
    let (history, _place) = B::create(Retention { max_count: 2, ..KEEP });
    for (id, region) in ["US", "GB", "US", "JP", "FR"].into_iter().enumerate() {
        publish(&history, region, id as u64).await;
    }
    let marks = trimmed(&history).await;
    let only = |region: &str| Regions::Only([region.parse().unwrap()].into());
    for (region, mark) in [("US", 3), ("GB", 2)] {
        assert!(marks.reaches_past(mark - 1, &only(region)) && !marks.reaches_past(mark, &only(region)), "{region}");
    }
    for region in ["JP", "FR", "DE"] {
        assert!(!marks.reaches_past(0, &only(region)), "{region}");
    }
}

async fn an_equal_append_gets_the_first_receipt<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    let first = append(&history, "US", 1).await;
    let mut equal = notification("US", 1);
    equal.count += 1;
    equal.videos = r#"[{"id":1,"title":"New title"}]"#.into();
    let repeated = history.append(Append { notification: equal, key: None, subscribers: 77 }).await.unwrap();
    assert_eq!(repeated, again(&first));
    assert_eq!(append(&history, "US", 1).await, again(&first));
    assert_eq!(head(&history).await.offset, 1);
    for (region, id) in [("GB", 1), ("US", 2)] {
        publish(&history, region, id).await;
    }
}

async fn a_key_decides_before_the_fingerprint_does<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    let with = async |id, key| try_append(&history, "US", id, Some(key)).await;
    let first = with(1, "one").await.unwrap();
    assert!(!first.deduplicated);
    assert_eq!(with(1, "one").await.unwrap(), again(&first));
    assert_eq!(with(2, "one").await.unwrap_err(), AppendError::KeyReused);
    assert_eq!(append(&history, "US", 1).await, again(&first), "compared with those that came with a key");
    assert_eq!(head(&history).await.offset, 1);

    let second = with(1, "two").await.unwrap();
    assert_eq!((second.deduplicated, second.id.unwrap().offset), (false, 2));
    assert_eq!(with(1, "two").await.unwrap(), again(&second));
    assert_eq!(append(&history, "US", 1).await, again(&first), "of several the first is repeated");
    assert_eq!(with(1, "one").await.unwrap(), again(&first));
    assert!(!with(3, "ONE").await.unwrap().deduplicated, "keys are compared byte by byte");
    // A new key publishes what came without one.
    let without = append(&history, "US", 4).await;
    let keyed = with(4, "three").await.unwrap();
    assert_eq!((keyed.deduplicated, keyed.id.unwrap().offset), (false, without.id.unwrap().offset + 1));
}

async fn the_window_ends_for_appends_without_a_key_alone<B: Backend>() {
    let (history, _place) = B::create(Retention { dedup_window: SHORT, ..KEEP });
    let start = Instant::now();
    let first = try_append(&history, "US", 1, Some("one")).await.unwrap();
    until("the window ends", async || !append(&history, "US", 1).await.deduplicated).await;
    assert!(start.elapsed() >= SHORT, "not before its time");
    assert_eq!(offsets(&read(&history, 0).await), [1, 2]);
    assert_eq!(try_append(&history, "US", 1, Some("one")).await.unwrap(), again(&first));
    assert_eq!(try_append(&history, "US", 2, Some("one")).await.unwrap_err(), AppendError::KeyReused);
}

async fn receipts_outlive_their_publications<B: Backend>() {
    let (history, _place) = B::create(Retention { max_count: 1, ..KEEP });
    let keyed = try_append(&history, "US", 1, Some("one")).await.unwrap();
    let plain = append(&history, "US", 2).await;
    for id in 3..=9 {
        publish(&history, "US", id).await;
    }
    assert_eq!(try_append(&history, "US", 1, Some("one")).await.unwrap(), again(&keyed));
    assert_eq!(try_append(&history, "US", 2, Some("one")).await.unwrap_err(), AppendError::KeyReused);
    assert_eq!(append(&history, "US", 2).await, again(&plain));
    assert_eq!(offsets(&read(&history, 0).await), [9]);
}

async fn equal_appends_at_once_are_one_publication<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    for (id, key) in [(1, None), (2, Some("one"))] {
        let tasks = (0..64).map(|_| {
            let history = history.clone();
            tokio::spawn(async move { try_append(&history, "US", id, key).await.unwrap() })
        });
        let receipts: Vec<Receipt> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        let first = receipts.iter().find(|receipt| !receipt.deduplicated).expect("one was the first");
        assert_eq!(receipts.iter().filter(|receipt| **receipt == again(first)).count(), 63, "{key:?}");
        assert_eq!(head(&history).await.offset, id, "{key:?}");
    }
}

async fn one_key_at_once_goes_to_one_notification<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    let tasks = (0..64).map(|task| {
        let history = history.clone();
        tokio::spawn(async move { try_append(&history, "US", task % 2, Some("one")).await })
    });
    let answers: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(receipt) if !receipt.deduplicated)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(receipt) if receipt.deduplicated)).count(), 31);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(AppendError::KeyReused))).count(), 32);
    assert_eq!(head(&history).await.offset, 1);
}

async fn different_appends_at_once_each_get_their_offset<B: Backend>() {
    let (history, _place) = B::create(KEEP);
    let mut tail = history.tail(at(&history, 0).await);
    let tasks = (0..64).map(|id| {
        let history = history.clone();
        tokio::spawn(async move { publish(&history, "US", id).await })
    });
    let given: BTreeSet<Offset> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(given, (1..=64).collect());
    for offset in 1..=64 {
        assert_eq!(told_publication(&mut tail).await.position.offset, offset);
    }
}

// To the millisecond, where the clock is the test's.

#[tokio::test(start_paused = true)]
async fn windows_and_ages_end_when_they_say() {
    let retention = Retention { max_age: Duration::from_secs(100), dedup_window: Duration::from_secs(10), ..KEEP };
    let history = MemoryHistory::new(retention);
    let millisecond = Duration::from_millis(1);
    let first = append(&history, "US", 1).await;
    advance(retention.dedup_window - millisecond).await;
    assert_eq!(append(&history, "US", 1).await, again(&first));
    advance(millisecond).await;
    let second = append(&history, "US", 1).await;
    assert!(!second.deduplicated);
    advance(retention.dedup_window - millisecond).await;
    assert_eq!(append(&history, "US", 1).await, again(&second));

    advance(retention.max_age - 2 * retention.dedup_window + millisecond).await;
    assert_eq!(offsets(&read(&history, 0).await), [1, 2]);
    advance(millisecond).await;
    assert_eq!(offsets(&read(&history, 0).await), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_kept_for_a_day() {
    let history = MemoryHistory::new(KEEP);
    let first = try_append(&history, "US", 1, Some("one")).await.unwrap();
    advance(Retention::KEY_LIFETIME - Duration::from_millis(1)).await;
    assert_eq!(try_append(&history, "US", 1, Some("one")).await.unwrap(), again(&first));
    advance(Duration::from_millis(1)).await;
    assert!(!try_append(&history, "US", 2, Some("one")).await.unwrap().deduplicated);
}

// What SQLite promises beyond the suite.

fn open(folder: &TempDir, retention: Retention) -> Result<SqliteHistory, OpenError> {
    SqliteHistory::open(&folder.path().join("history.db"), retention)
}

#[tokio::test]
async fn a_file_has_all_of_it_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { max_count: 3, ..KEEP };
    let history = open(&folder, retention).unwrap();
    let keyed = try_append(&history, "US", 1, Some("one")).await.unwrap();
    for (id, region) in [(2, "GB"), (3, "US"), (4, "JP"), (5, "US")] {
        publish(&history, region, id).await;
    }
    let plain = append(&history, "US", 5).await;
    let (before, log) = (history.head().await.unwrap(), read(&history, 0).await);
    drop(history);

    let history = open(&folder, retention).unwrap();
    let after = history.head().await.unwrap();
    assert_eq!((after.position, &after.trimmed), (before.position, &before.trimmed));
    assert_eq!((mark(&after.trimmed, "US"), read(&history, 0).await), (1, log));
    assert_eq!(try_append(&history, "US", 1, Some("one")).await.unwrap(), again(&keyed));
    assert_eq!(try_append(&history, "US", 2, Some("one")).await.unwrap_err(), AppendError::KeyReused);
    assert_eq!(append(&history, "US", 5).await, plain);
    assert_eq!(publish(&history, "US", 6).await, 6);
    // A tail goes on from the position that a node had before.
    let mut tail = history.tail(before.position);
    assert_eq!(mark(&told_trim(&mut tail).await, "US"), 3);
    assert_eq!(told_publication(&mut tail).await.position.offset, 6);
}

#[tokio::test]
async fn offsets_go_on_after_a_log_that_was_emptied_while_the_file_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(&folder, KEEP).unwrap();
    for id in 1..=3 {
        publish(&history, "US", id).await;
    }
    let epoch = head(&history).await.epoch;
    drop(history);
    rewind(&folder, Duration::from_secs(2 * 3600));

    let history = open(&folder, KEEP).unwrap();
    until("the log empties", async || read(&history, 0).await.is_empty()).await;
    assert_eq!(head(&history).await, Position { epoch, offset: 3 });
    assert_eq!(mark(&trimmed(&history).await, "US"), 3);
    assert_eq!(publish(&history, "US", 4).await, 4);
}

#[tokio::test]
async fn a_key_that_is_older_than_a_day_can_be_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(&folder, KEEP).unwrap();
    try_append(&history, "US", 1, Some("one")).await.unwrap();
    drop(history);
    rewind(&folder, Retention::KEY_LIFETIME);

    let history = open(&folder, KEEP).unwrap();
    let receipt = try_append(&history, "US", 2, Some("one")).await.unwrap();
    assert!(!receipt.deduplicated);
    assert_eq!(receipt.id.unwrap().offset, 2);
    assert_eq!(try_append(&history, "US", 2, Some("one")).await.unwrap(), again(&receipt));
}

/// Makes all that is in a closed history older.
fn rewind(folder: &TempDir, by: Duration) {
    let connection = Connection::open(folder.path().join("history.db")).unwrap();
    for table in ["publications", "receipts"] {
        let sql = format!("UPDATE {table} SET clock = clock - ?1");
        assert!(connection.execute(&sql, [by.as_millis() as i64]).unwrap() > 0);
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_move_the_windows() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(&folder, KEEP).unwrap();
    let first = append(&history, "US", 1).await;
    drop(history);
    // To the file the last run was an hour from now; its publications are neither too old nor forgotten.
    let connection = Connection::open(folder.path().join("history.db")).unwrap();
    connection
        .execute_batch("UPDATE publications SET clock = clock + 3600000; UPDATE receipts SET clock = clock + 3600000")
        .unwrap();
    drop(connection);

    let history = open(&folder, Retention { dedup_window: SHORT, ..KEEP }).unwrap();
    assert_eq!(append(&history, "US", 1).await, again(&first));
    until("the window ends", async || !append(&history, "US", 1).await.deduplicated).await;
}

/// Everything in a folder, by name.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let mut files: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect();
    files.sort();
    files
}

/// Opens what is no history of ours; the folder must not change by a byte.
fn refused(folder: &TempDir) -> OpenError {
    let before = content(folder.path());
    let error = open(folder, KEEP).err().unwrap_or_else(|| panic!("not refused: {} bytes", before[0].1.len()));
    let after = content(folder.path());
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{error}");
    assert!(after == before, "{error}: some bytes are not as they were");
    assert!(!error.to_string().contains('\n') && error.to_string().contains("history.db"), "{error}");
    error
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_as_it_was() {
    // Longer than a header, shorter than a page, and shorter than what SQLite looks at.
    for bytes in [&b"x"[..], &b"A note that somebody left here.\n".repeat(200), &[0; 4096], &[0xff; 100]] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("history.db"), bytes).unwrap();
        assert!(matches!(refused(&folder), OpenError::NotADatabase(_)), "{} bytes of {}", bytes.len(), bytes[0]);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("history.db")).unwrap();
    assert!(matches!(open(&folder, KEEP).err(), Some(OpenError::Unavailable { .. })));
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_as_it_was() {
    for sql in [
        "CREATE TABLE notes (text TEXT)",
        "CREATE TABLE history (epoch TEXT, head INTEGER)",
        "PRAGMA user_version = 1; CREATE TABLE notes (text TEXT)",
        "PRAGMA application_id = 7; CREATE TABLE notes (text TEXT)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 3",
        "PRAGMA journal_mode = WAL; CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('x')",
    ] {
        let folder = tempfile::tempdir().unwrap();
        Connection::open(folder.path().join("history.db")).unwrap().execute_batch(sql).unwrap();
        assert!(matches!(refused(&folder), OpenError::Foreign(_)), "{sql}");
    }
}

#[tokio::test]
async fn a_database_that_another_program_did_not_close_is_left_as_it_was() {
    let (live, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let connection = Connection::open(live.path().join("history.db")).unwrap();
    let sql = "PRAGMA journal_mode = WAL; CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('x')";
    connection.execute_batch(sql).unwrap();
    // As it is after a power cut: what was written last stands in the log beside the file.
    for (name, bytes) in content(live.path()).into_iter().filter(|(name, _)| !name.ends_with("-shm")) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    assert_eq!(content(folder.path()).len(), 2);
    assert!(matches!(refused(&folder), OpenError::Foreign(_)));
}

#[tokio::test]
async fn a_file_that_a_kill_left_is_taken_up_again() {
    let (live, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let history = open(&live, KEEP).unwrap();
    let receipt = append(&history, "US", 1).await;
    // All of it stands in the log beside the file still.
    for (name, bytes) in content(live.path()).into_iter().filter(|(name, _)| !name.ends_with("-shm")) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let taken_up = open(&folder, KEEP).unwrap();
    assert_eq!(head(&taken_up).await, head(&history).await);
    assert_eq!(append(&taken_up, "US", 1).await, again(&receipt));

    // And one that was killed before there was anything.
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join("history.db")).unwrap();
    connection.pragma_update(None, "application_id", 0x564e_4f54).unwrap();
    connection.close().unwrap();
    assert_eq!(publish(&open(&folder, KEEP).unwrap(), "US", 1).await, 1);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("history.db"), "").unwrap();
    assert_eq!(publish(&open(&folder, KEEP).unwrap(), "US", 1).await, 1);
}

#[tokio::test]
async fn a_log_that_is_torn_anywhere_is_taken_up_to_its_last_whole_commit() {
    /// <https://sqlite.org/fileformat2.html#the_write_ahead_log>
    const HEADER: usize = 32;
    const FRAME: usize = 24 + 4096;

    let live = tempfile::tempdir().unwrap();
    let retention = Retention { max_count: 3, ..KEEP };
    let history = open(&live, retention).unwrap();
    let epoch = head(&history).await.epoch;
    let log = || fs::read(live.path().join("history.db-wal")).unwrap();
    // How long the log is once so many are published.
    let (mut ends, mut receipts) = (vec![log().len()], Vec::new());
    for id in 1..=5 {
        receipts.push(append(&history, "US", id).await);
        ends.push(log().len());
    }
    let (file, whole) = (fs::read(live.path().join("history.db")).unwrap(), log());

    let frames = (HEADER..whole.len()).step_by(FRAME);
    assert_eq!((whole.len() - HEADER) % FRAME, 0);
    let cuts = frames.clone().flat_map(|at| [at, at + 10, at + 2000]).chain([0, 7]);
    let cuts = cuts.map(|at| (at, whole[..at].to_vec()));
    // What a disk did not write may be anything.
    let flips = frames.flat_map(|at| [at + 4, at + 2000]).map(|at| {
        let mut log = whole.clone();
        log[at] ^= 0x40;
        (at, log)
    });
    for (at, log) in cuts.chain(flips).chain([(whole.len(), whole.clone())]) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("history.db"), &file).unwrap();
        fs::write(folder.path().join("history.db-wal"), log).unwrap();
        let history = open(&folder, retention).unwrap_or_else(|error| panic!("torn at {at}: {error}"));
        let kept = ends.iter().rposition(|end| *end <= at);
        // One that was never finished is begun anew; nobody knows its epoch.
        assert_eq!(head(&history).await.epoch == epoch, kept.is_some(), "torn at {at}");
        let kept = kept.unwrap_or(0);
        let oldest = kept.saturating_sub(retention.max_count) as u64 + 1;
        assert_eq!(offsets(&read(&history, 0).await), (oldest..=kept as u64).collect::<Vec<_>>(), "torn at {at}");
        for (id, first) in (1..).zip(&receipts) {
            let receipt = append(&history, "US", id).await;
            assert_eq!((receipt.deduplicated, receipt.id.unwrap().offset), (id <= kept as u64, id), "torn at {at}");
            assert!(!receipt.deduplicated || receipt == again(first), "torn at {at}");
        }
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(&folder, KEEP).unwrap();
    publish(&history, "US", 1).await;
    drop(history);
    let connection = Connection::open(folder.path().join("history.db")).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    connection.close().unwrap();
    assert!(matches!(refused(&folder), OpenError::Newer { version: 2, .. }));

    let connection = Connection::open(folder.path().join("history.db")).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection.close().unwrap();
    assert_eq!(offsets(&read(&open(&folder, KEEP).unwrap(), 0).await), [1]);
}

/// Copies a history that is open, as a backup does.
fn back_up(folder: &TempDir, to: &Path) {
    let connection = Connection::open(folder.path().join("history.db")).unwrap();
    connection.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

#[tokio::test]
async fn a_file_that_took_the_place_of_a_history_is_never_read_for_it() {
    let unavailable = |error: HistoryError| assert!(matches!(error, HistoryError::Unavailable(_)), "{error}");
    // Its own backup has its epoch and may have its offsets, but not what came since.
    for is_backup in [false, true] {
        for was_read in [false, true] {
            let (folder, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let history = open(&folder, KEEP).unwrap();
            publish(&history, "US", 1).await;
            let other = aside.path().join("history.db");
            if is_backup {
                back_up(&folder, &other);
            } else {
                publish(&open(&aside, KEEP).unwrap(), "GB", 7).await;
            }
            let last = append(&history, "US", 2).await.id.unwrap();
            let start = Position { offset: 0, ..last };
            if was_read {
                history.read(start, 10).await.unwrap();
            }
            fs::rename(&other, folder.path().join("history.db")).unwrap();

            // What is open it reads on: clients that are behind lose nothing by it.
            match history.read(start, 10).await {
                Ok(page) => assert_eq!((was_read, offsets(&page.publications)), (true, vec![1, 2])),
                Err(error) => {
                    assert!(!was_read);
                    unavailable(error);
                }
            }
            // But it is no history to start from, nor one that can be appended to.
            unavailable(history.head().await.unwrap_err());
            let refused = try_append(&history, "US", 3, None).await.unwrap_err();
            assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
            let names: Vec<_> = content(folder.path()).into_iter().map(|(name, _)| name).collect();
            assert!(names.contains(&"history.db-wal".to_owned()), "the log of what is open is left alone: {names:?}");
        }
    }
}

#[tokio::test]
async fn a_backup_that_is_given_another_epoch_is_taken_for_no_history_that_went_on() {
    /// As the documentation tells operators to.
    const RENEW: &str = "UPDATE history SET epoch = lower(hex(randomblob(4)))";

    let (folder, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let history = open(&folder, KEEP).unwrap();
    publish(&history, "US", 1).await;
    let file = restored.path().join("history.db");
    back_up(&folder, &file);
    let lost = append(&history, "US", 2).await.id.unwrap();
    drop(history);

    Connection::open(&file).unwrap().execute_batch(RENEW).unwrap();
    let history = open(&restored, KEEP).unwrap();
    assert_eq!(offsets(&read(&history, 0).await), [1]);
    assert_eq!(publish(&history, "US", 3).await, lost.offset);
    assert_ne!(head(&history).await, lost);
    assert_eq!(history.read(lost, 10).await.unwrap_err(), HistoryError::PositionLost);
    assert!(append(&history, "US", 1).await.deduplicated, "all else is as it was");
}

#[tokio::test]
async fn a_history_that_is_dropped_leaves_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let history = Arc::new(open(&folder, KEEP).unwrap());
    publish(&*history, "US", 1).await;
    read(&*history, 0).await;
    drop(history);
    let names: Vec<String> = content(folder.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["history.db"], "all of it is in the file that one copies");
}
