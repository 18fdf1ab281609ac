//! What every history does, whichever backend: one suite, run against each. A new backend adds a line to `suite!`.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::time::timeout;
use video_notifier::{
    history::{
        Append, AppendError, History, HistoryError, IdempotencyKey, Retention, Tailed,
        memory::MemoryHistory,
        sqlite::{OpenError, SqliteHistory},
    },
    notification::{Notification, Post},
    position::{Epoch, Position},
    publication::Receipt,
    region::Regions,
};

use crate::support::{post_body, server::PATIENCE};

const LONG: Retention =
    Retention { max_count: 10_000, max_age: Duration::from_secs(3600), dedup_window: Duration::from_secs(600) };

fn append(region: &str, id: usize, key: Option<&str>) -> Append {
    let Ok(Post::Publish(notification)) = Notification::parse(post_body(region, id).as_bytes(), &Regions::All) else {
        panic!("the post is valid")
    };
    Append { notification, key: key.and_then(IdempotencyKey::new), subscribers: 3 }
}

async fn publish(history: &dyn History, region: &str, id: usize) -> Receipt {
    history.append(append(region, id, None)).await.expect("the history takes it")
}

/// The ids of videos after an offset.
async fn ids_after(history: &dyn History, offset: u64, limit: usize) -> Vec<u64> {
    let head = history.head().await.unwrap().position;
    let page = history.read(Position { offset, ..head }, limit).await.unwrap();
    page.publications.iter().map(|publication| publication.position.offset).collect()
}

async fn it_reads_in_order_what_was_appended(history: Arc<dyn History>) {
    let empty = history.head().await.unwrap().position;
    assert_eq!(empty.offset, 0);
    for id in 1..=10 {
        let receipt = publish(&*history, "US", id).await;
        assert_eq!(receipt.id, Some(Position { offset: id as u64, ..empty }));
        assert_eq!((receipt.count, receipt.subscribers, receipt.deduplicated), (1, 3, false));
    }
    assert_eq!(history.head().await.unwrap().position.offset, 10);
    assert_eq!(ids_after(&*history, 0, 3).await, [1, 2, 3]);
    assert_eq!(ids_after(&*history, 7, 100).await, [8, 9, 10]);
    assert_eq!(ids_after(&*history, 10, 100).await, [0; 0]);
    let page = history.read(empty, 1).await.unwrap();
    assert_eq!(page.publications[0].videos, r#"[{"id":"1","title":"Video 1"}]"#);
}

async fn a_position_of_another_epoch_or_above_the_head_is_lost(history: Arc<dyn History>) {
    publish(&*history, "US", 1).await;
    let head = history.head().await.unwrap().position;
    let other = Position { epoch: Epoch::from_seed(7), ..head };
    for lost in [other, Position { offset: 2, ..head }] {
        assert_eq!(history.read(lost, 1).await.unwrap_err(), HistoryError::PositionLost);
        let told = timeout(PATIENCE, history.tail(lost).next()).await.unwrap();
        assert!(matches!(told, Some(Err(HistoryError::PositionLost))), "{told:?}");
    }
}

async fn a_tail_tells_what_is_there_and_what_comes(history: Arc<dyn History>) {
    publish(&*history, "US", 1).await;
    publish(&*history, "GB", 2).await;
    let start = Position { offset: 1, ..history.head().await.unwrap().position };
    let mut tail = history.tail(start);
    for id in 2..=300 {
        if id > 2 {
            publish(&*history, "US", id).await;
        }
        match timeout(PATIENCE, tail.next()).await.expect("in time") {
            Some(Ok(Tailed::Published(publication))) => assert_eq!(publication.position.offset, id as u64),
            other => panic!("{other:?}"),
        }
    }
}

async fn equal_posts_at_once_are_published_once(history: Arc<dyn History>) {
    let posts: Vec<_> = (0..64)
        .map(|number| {
            let history = history.clone();
            let key = (number % 2 == 0).then_some("one-key");
            tokio::spawn(async move { history.append(append("US", 1, key)).await.expect("the history takes it") })
        })
        .collect();
    let mut receipts = Vec::new();
    for post in posts {
        receipts.push(post.await.unwrap());
    }
    let ids: HashSet<_> = receipts.iter().map(|receipt| receipt.id).collect();
    // A keyless one may have been first; the key then publishes once more.
    assert!(ids.len() <= 2, "{ids:?}");
    let accepted = receipts.iter().filter(|receipt| !receipt.deduplicated).count();
    assert_eq!((accepted, history.head().await.unwrap().position.offset), (ids.len(), ids.len() as u64));
}

async fn a_key_means_one_notification(history: Arc<dyn History>) {
    let first = history.append(append("US", 1, Some("a"))).await.unwrap();
    let again = history.append(append("US", 1, Some("a"))).await.unwrap();
    assert_eq!(again, Receipt { deduplicated: true, ..first.clone() });
    assert_eq!(history.append(append("US", 2, Some("a"))).await, Err(AppendError::KeyReused));
    let keyless = history.append(append("US", 1, None)).await.unwrap();
    assert_eq!(keyless, again);
    assert_ne!(history.append(append("US", 1, Some("b"))).await.unwrap().id, first.id);
    // The first of several within the window is the one that is repeated.
    assert_eq!(history.append(append("US", 1, None)).await.unwrap(), again);
}

async fn retention_by_count_remembers_what_it_removed(history: Arc<dyn History>) {
    let [us, gb] = ["US", "GB"].map(|name| name.parse().unwrap());
    publish(&*history, "GB", 1).await;
    let first = history.head().await.unwrap().position;
    for id in 2..=9 {
        publish(&*history, "US", id).await;
    }
    assert_eq!(ids_after(&*history, 0, 100).await, [5, 6, 7, 8, 9]);
    let trimmed = history.head().await.unwrap().trimmed;
    assert!(trimmed.covers(&gb, 1) && !trimmed.covers(&gb, 2) && trimmed.covers(&us, 4) && !trimmed.covers(&us, 5));

    // A tail that stood before what was removed is told so before anything that lies beyond it.
    let mut tail = history.tail(first);
    let told = timeout(PATIENCE, tail.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&told, Tailed::Trimmed(trimmed) if trimmed.highest() == 4), "{told:?}");
    let next = timeout(PATIENCE, tail.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&next, Tailed::Published(publication) if publication.position.offset == 5), "{next:?}");
}

async fn retention_by_age_empties_the_log_and_offsets_go_on(history: Arc<dyn History>) {
    publish(&*history, "US", 1).await;
    let head = history.head().await.unwrap().position;
    let mut tail = history.tail(head);
    // Nobody asks and nobody posts: the history removes by itself what is too old, and tells it.
    let told = timeout(PATIENCE, tail.next()).await.expect("in time").unwrap().unwrap();
    assert!(matches!(&told, Tailed::Trimmed(trimmed) if trimmed.highest() == 1), "{told:?}");
    assert_eq!(ids_after(&*history, 0, 100).await, [0; 0]);
    assert_eq!(history.head().await.unwrap().position, head);
    assert_eq!(publish(&*history, "US", 2).await.id, Some(Position { offset: 2, ..head }));
}

/// Opens a history of each kind; the folder lives as long as the test.
trait Backend {
    fn open(folder: &Path, retention: Retention) -> Arc<dyn History>;
}

struct Memory;
impl Backend for Memory {
    fn open(_: &Path, retention: Retention) -> Arc<dyn History> {
        Arc::new(MemoryHistory::new(retention))
    }
}

struct Sqlite;
impl Backend for Sqlite {
    fn open(folder: &Path, retention: Retention) -> Arc<dyn History> {
        Arc::new(SqliteHistory::open(&folder.join("history.db"), retention).expect("a new history"))
    }
}

macro_rules! suite {
    ($($module:ident: $backend:ty),*) => { $(
        mod $module {
            use super::*;

            fn open(retention: Retention) -> (TempDir, Arc<dyn History>) {
                let folder = tempfile::tempdir().expect("a temporary directory");
                let history = <$backend>::open(folder.path(), retention);
                (folder, history)
            }

            suite!(@test it_reads_in_order_what_was_appended, LONG);
            suite!(@test a_position_of_another_epoch_or_above_the_head_is_lost, LONG);
            suite!(@test a_tail_tells_what_is_there_and_what_comes, LONG);
            suite!(@test equal_posts_at_once_are_published_once, LONG);
            suite!(@test a_key_means_one_notification, LONG);
            suite!(@test retention_by_count_remembers_what_it_removed, Retention { max_count: 5, ..LONG });
            suite!(@test retention_by_age_empties_the_log_and_offsets_go_on,
                Retention { max_age: Duration::from_millis(300), ..LONG });
        }
    )* };
    (@test $name:ident, $retention:expr) => {
        #[tokio::test]
        async fn $name() {
            let (_folder, history) = open($retention);
            super::$name(history).await;
        }
    };
}

suite!(memory: Memory, sqlite: Sqlite);

#[tokio::test]
async fn a_file_keeps_epoch_head_marks_and_receipts() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Sqlite::open(folder.path(), Retention { max_count: 2, ..LONG });
    let history = open();
    for id in 1..=4 {
        publish(&*history, "US", id).await;
    }
    let (head, first) = (history.head().await.unwrap(), publish(&*history, "US", 1).await);
    drop(history);
    let history = open();
    let again = history.head().await.unwrap();
    assert_eq!((again.position, again.trimmed), (head.position, head.trimmed));
    assert_eq!(ids_after(&*history, 2, 100).await, [3, 4]);
    let repeated = publish(&*history, "US", 1).await;
    assert!(repeated.deduplicated && repeated.id == first.id);
}

#[tokio::test]
async fn a_file_that_is_no_history_of_ours_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let text = b"this is no database, but it is long enough to be looked at as if it were one".repeat(20);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(SqliteHistory::open(&path, LONG).err(), Some(OpenError::NotADatabase(_))));
    assert_eq!(std::fs::read(&path).unwrap(), text);
    std::fs::remove_file(&path).unwrap();

    drop(Sqlite::open(folder.path(), LONG));
    for (pragma, newer) in [("user_version = 99", true), ("application_id = 7", false)] {
        rusqlite::Connection::open(&path).unwrap().execute_batch(&format!("PRAGMA {pragma}")).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = SqliteHistory::open(&path, LONG).err();
        assert!(matches!(
            (&error, newer),
            (Some(OpenError::Newer { .. }), true) | (Some(OpenError::Foreign(_)), false)
        ));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
