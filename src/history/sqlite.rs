//! A history in one SQLite file, the default: durable, with nothing else to run.
//!
//! One thread writes. It takes whatever posts wait and commits them together (group commit), since the price of
//! a commit is one `fsync`, however many rows it carries. Reads have connections of their own, which write-ahead
//! logging lets go on beside the writer.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::{
    Append, AppendError, Clock, Head, History, HistoryError, IdempotencyKey, Page, Retention, Tailed, Trimmed,
    memory::tail_by_reading,
};
use crate::{
    notification::{Fingerprint, Notification},
    panics::contain,
    position::{Epoch, Offset, Position},
    publication::{Publication, Receipt, Timestamp},
    region::Region,
};

/// Says in the file's header whose it is (`PRAGMA application_id`): "VNOT".
const APPLICATION_ID: i32 = 0x564e_4f54;

/// The version of the tables below (`PRAGMA user_version`). A change of them raises it and adds a migration.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = "
    CREATE TABLE history (
        epoch TEXT NOT NULL,
        head INTEGER NOT NULL               -- goes on when all publications are trimmed
    ) STRICT;
    CREATE TABLE publications (
        offset INTEGER PRIMARY KEY,
        region TEXT NOT NULL,
        count INTEGER NOT NULL,
        videos TEXT NOT NULL,
        timestamp INTEGER NOT NULL,         -- wall clock, milliseconds
        clock INTEGER NOT NULL              -- the clock that never steps back, milliseconds
    ) STRICT;
    CREATE TABLE trimmed (
        region TEXT PRIMARY KEY,
        offset INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE receipts (                 -- outlive their publications
        offset INTEGER PRIMARY KEY,
        fingerprint BLOB NOT NULL,
        key TEXT UNIQUE,
        region TEXT NOT NULL,
        count INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        subscribers INTEGER NOT NULL,
        clock INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX receipts_by_fingerprint ON receipts (fingerprint, clock);
    CREATE INDEX receipts_by_clock ON receipts (clock);
";

/// How long the writer waits for a lock that another process holds, before the posts that wait get an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The most posts that one transaction takes, and a bound for those that wait.
const MAX_BATCH: usize = 128;
const MAX_WAITING: usize = 1024;

/// How often age is looked at while nobody posts.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Clone)]
pub struct SqliteHistory {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    epoch: Epoch,
    /// Connections for reading that nobody uses just now.
    readers: Mutex<Vec<Connection>>,
    changed: watch::Sender<()>,
    /// Taken away to end the writer, which then closes the database.
    writer: Option<(SyncSender<Job>, JoinHandle<()>)>,
    /// Let go of last, when the database is closed.
    lock: OnceLock<File>,
}

/// One post on its way to the writer, and where the answer goes.
struct Job {
    append: Append,
    answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

/// Why a file can't serve as history. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is not a database", .0.display())]
    NotADatabase(PathBuf),
    #[error("{} is a database of another program", .0.display())]
    Foreign(PathBuf),
    #[error("{} is from a newer version (schema {version}, known is {SCHEMA_VERSION})", path.display())]
    Newer { path: PathBuf, version: i32 },
    #[error("{} can't be opened: {error}", path.display())]
    Unavailable { path: PathBuf, error: rusqlite::Error },
}

impl SqliteHistory {
    /// Opens the history in a file, or creates it.
    pub fn open(path: &Path, retention: Retention) -> Result<Self, OpenError> {
        let unavailable = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::NotADatabase(path.to_owned()),
            _ => OpenError::Unavailable { path: path.to_owned(), error },
        };
        check(path)?;
        let mut connection =
            connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).map_err(unavailable)?;
        let version = prepare(&mut connection).map_err(unavailable)?;
        if version > SCHEMA_VERSION {
            return Err(OpenError::Newer { path: path.to_owned(), version });
        }
        let epoch = epoch(&connection).map_err(unavailable)?;
        let place = Place::of(path).map_err(unavailable)?;
        let writer = Writer::new(place.clone(), connection, epoch, retention).map_err(unavailable)?;

        let changed = watch::Sender::new(());
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let told = changed.clone();
        let thread = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || writer.run(&waiting, &told))
            .expect("the system lets a thread start");
        Ok(Self {
            shared: Arc::new(Shared {
                place,
                epoch,
                readers: Mutex::default(),
                changed,
                writer: Some((jobs, thread)),
                lock: OnceLock::new(),
            }),
        })
    }

    /// Holds the lock that keeps other processes away, for as long as anything of the database is open.
    pub fn hold(&self, lock: File) {
        let _ = self.shared.lock.set(lock);
    }

    /// Runs `query` on a thread that may block, in one snapshot of the database.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Transaction<'_>, Epoch) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let shared = self.shared.clone();
        let run = move || {
            let idle = shared.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => shared.place.connect(OpenFlags::SQLITE_OPEN_READ_ONLY, shared.epoch)?,
            };
            let transaction = connection.transaction()?;
            let answer = query(&transaction, shared.epoch)?;
            drop(transaction);
            // Only a connection that worked is used again: after a failure the file may have been replaced.
            shared.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(answer)
        };
        let answer: Result<T, rusqlite::Error> =
            tokio::task::spawn_blocking(run).await.map_err(|error| HistoryError::Unavailable(error.to_string()))?;
        answer.map_err(|error| HistoryError::Unavailable(error.to_string()))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.readers.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some((jobs, thread)) = self.writer.take() {
            drop(jobs);
            // A panic of the writer was reported where it happened.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl History for SqliteHistory {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        let (answer, answered) = oneshot::channel();
        let (jobs, _) = self.shared.writer.as_ref().expect("the writer ends with the history");
        jobs.try_send(Job { append, answer }).map_err(|error| match error {
            TrySendError::Full(_) => AppendError::Unavailable("too many posts wait for the disk".into()),
            TrySendError::Disconnected(_) => AppendError::Unavailable("the writer has ended".into()),
        })?;
        answered.await.map_err(|_| AppendError::Unavailable("the writer has ended".into()))?
    }

    async fn head(&self) -> Result<Head, HistoryError> {
        let shared = self.shared.clone();
        self.query(move |transaction, epoch| {
            // What is gone goes nowhere any more, though those who have it open can read on.
            shared.place.check()?;
            Ok(Head { position: Position { epoch, offset: head(transaction)? }, trimmed: trimmed(transaction)? })
        })
        .await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, HistoryError> {
        let page = self.query(move |transaction, epoch| {
            if after.epoch != epoch || after.offset > head(transaction)? {
                return Ok(None);
            }
            let mut rows = transaction.prepare_cached(
                "SELECT offset, region, count, videos, timestamp FROM publications WHERE offset > ?1 ORDER BY offset LIMIT ?2",
            )?;
            let publications = rows.query_map((after.offset, limit as i64), |row| publication(row, epoch))?;
            Ok(Some(Page { publications: publications.collect::<Result<_, _>>()?, trimmed: trimmed(transaction)? }))
        });
        page.await?.ok_or(HistoryError::PositionLost)
    }

    async fn find(&self, epoch: Epoch, offsets: &[Offset]) -> Result<Vec<Publication>, HistoryError> {
        let offsets = offsets.to_vec();
        let found = self.query(move |transaction, known| {
            if epoch != known {
                return Ok(None);
            }
            let mut row = transaction.prepare_cached(
                "SELECT offset, region, count, videos, timestamp FROM publications WHERE offset = ?1",
            )?;
            let rows = offsets.iter().map(|offset| row.query_row([offset], |row| publication(row, epoch)).optional());
            Ok(Some(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?))
        });
        found.await?.ok_or(HistoryError::PositionLost)
    }

    fn tail(&self, after: Position) -> BoxStream<'static, Result<Tailed, HistoryError>> {
        tail_by_reading(self.clone(), after, self.shared.changed.subscribe(), TRIM_INTERVAL)
    }
}

/// Owns the only connection that writes.
struct Writer {
    place: Place,
    /// None after a failure that may have left the connection unusable; it is opened again with the next post.
    connection: Option<Connection>,
    epoch: Epoch,
    retention: Retention,
    clock: Clock,
}

impl Writer {
    fn new(place: Place, connection: Connection, epoch: Epoch, retention: Retention) -> Result<Self, rusqlite::Error> {
        let latest: u64 = connection.query_row(
            "SELECT max((SELECT coalesce(max(clock), 0) FROM receipts), (SELECT coalesce(max(clock), 0) FROM publications))",
            (),
            |row| row.get(0),
        )?;
        let clock = Clock::starting_after(latest);
        Ok(Self { place, connection: Some(connection), epoch, retention, clock })
    }

    /// Serves posts until their sender is gone.
    fn run(mut self, jobs: &Receiver<Job>, changed: &watch::Sender<()>) {
        loop {
            let first = match jobs.recv_timeout(TRIM_INTERVAL) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let batch: Vec<Job> = first.into_iter().chain(jobs.try_iter()).take(MAX_BATCH).collect();
            let (appends, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|job| (job.append, job.answer)).unzip();
            let committed = contain("the writer of the history", || self.commit(&appends));
            match committed.unwrap_or_else(|| Err(broken())) {
                Ok(outcome) => {
                    if outcome.changed {
                        changed.send_replace(());
                    }
                    for (answer, receipt) in answers.into_iter().zip(outcome.receipts) {
                        // A poster that went away still has its notification published.
                        let _ = answer.send(receipt);
                    }
                }
                Err(error) => {
                    if !leaves_connection_usable(&error) {
                        self.connection = None;
                    }
                    tracing::error!(%error, posts = answers.len(), "the history can't be written");
                    for answer in answers {
                        let _ = answer.send(Err(AppendError::Unavailable(error.to_string())));
                    }
                }
            }
        }
    }

    /// Appends all of them and trims, in one transaction.
    fn commit(&mut self, appends: &[Append]) -> Result<Outcome, rusqlite::Error> {
        let now = self.clock.millis();
        // What is written to a file without a name is gone with this process, receipts or not.
        self.place.check()?;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            // Without CREATE: a file that vanished is a failure, not the start of another history.
            None => self.connection.insert(self.place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, self.epoch)?),
        };
        if appends.is_empty() && !is_any_older(connection, oldest_kept(now, &self.retention))? {
            return Ok(Outcome { receipts: Vec::new(), changed: false });
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = head(&transaction)?;
        let mut batch = Batch { transaction, epoch: self.epoch, head: before, now, retention: &self.retention };
        batch.forget()?;
        let mut receipts = Vec::with_capacity(appends.len());
        for append in appends {
            receipts.push(match batch.append(append) {
                Ok(receipt) => Ok(receipt),
                Err(Rejected::KeyReused) => Err(AppendError::KeyReused),
                Err(Rejected::Database(error)) => return Err(error),
            });
        }
        let trimmed = batch.trim()?;
        let changed = trimmed || batch.head != before;
        batch.transaction.execute("UPDATE history SET head = ?1", [batch.head])?;
        batch.transaction.commit()?;
        Ok(Outcome { receipts, changed })
    }
}

/// The file of a history, by its name and by what it was at the start.
#[derive(Clone)]
struct Place {
    path: PathBuf,
    /// Device and number, which it keeps whatever its name.
    file: (u64, u64),
}

impl Place {
    fn of(path: &Path) -> Result<Self, rusqlite::Error> {
        Ok(Self { path: path.to_owned(), file: file_id(path).ok_or_else(moved)? })
    }

    /// Fails where the file is gone, or another has its name.
    fn check(&self) -> Result<(), rusqlite::Error> {
        if file_id(&self.path) == Some(self.file) { Ok(()) } else { Err(moved()) }
    }

    /// Opens the file once more, and no other: what that one has at our positions is not what was published there.
    fn connect(&self, flags: OpenFlags, known: Epoch) -> Result<Connection, rusqlite::Error> {
        self.check()?;
        let connection = connect(&self.path, flags)?;
        let is_known = epoch(&connection)? == known;
        // Once more, since it may have been replaced in between.
        self.check()?;
        if is_known { Ok(connection) } else { Err(moved()) }
    }
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// SQLite knows this error, but does not look for it in write-ahead logging.
fn moved() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED);
    rusqlite::Error::SqliteFailure(code, Some("the file was moved, deleted or replaced".into()))
}

/// Whatever the writer was at was rolled back: the posts that waited for it can be made again.
fn broken() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERNAL);
    rusqlite::Error::SqliteFailure(code, Some("a fault of the server".into()))
}

fn leaves_connection_usable(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
    match code {
        Some((ErrorCode::DatabaseBusy | ErrorCode::DiskFull, _)) => true,
        // To close the last connection would remove the log beside whatever file is there now.
        Some((_, rusqlite::ffi::SQLITE_READONLY_DBMOVED)) => true,
        _ => false,
    }
}

struct Outcome {
    /// One for each append, in order.
    receipts: Vec<Result<Receipt, AppendError>>,
    changed: bool,
}

/// One transaction of the writer.
struct Batch<'a> {
    transaction: Transaction<'a>,
    epoch: Epoch,
    head: Offset,
    /// The clock's reading for all of it.
    now: u64,
    retention: &'a Retention,
}

enum Rejected {
    KeyReused,
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Rejected {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Batch<'_> {
    fn append(&mut self, append: &Append) -> Result<Receipt, Rejected> {
        let Append { notification, key, subscribers } = append;
        if let Some(receipt) = self.find(&notification.fingerprint, key.as_ref())? {
            return Ok(receipt);
        }
        self.head += 1;
        let Notification { region, count, videos, fingerprint } = notification;
        let timestamp = Timestamp::now();
        let millis = timestamp.as_millis();
        self.transaction
            .prepare_cached(
                "INSERT INTO publications (offset, region, count, videos, timestamp, clock) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((self.head, region.as_str(), count, videos, millis, self.now))?;
        let key = key.as_ref().map(IdempotencyKey::as_str);
        self.transaction
            .prepare_cached(
                "INSERT INTO receipts (offset, fingerprint, key, region, count, timestamp, subscribers, clock)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((self.head, fingerprint.0, key, region.as_str(), count, millis, subscribers, self.now))?;
        Ok(Receipt {
            id: Some(Position { epoch: self.epoch, offset: self.head }),
            region: region.clone(),
            count: *count,
            timestamp,
            deduplicated: false,
            subscribers: *subscribers,
        })
    }

    /// The receipt of an equal post, if one is remembered.
    fn find(&self, fingerprint: &Fingerprint, key: Option<&IdempotencyKey>) -> Result<Option<Receipt>, Rejected> {
        let (condition, window) = match key {
            Some(_) => ("key = ?1 AND clock > ?2", self.retention.receipt_lifetime()),
            None => ("fingerprint = ?1 AND clock > ?2", self.retention.dedup_window),
        };
        let mut query = self.transaction.prepare_cached(&format!(
            "SELECT offset, region, count, timestamp, subscribers, fingerprint FROM receipts
             WHERE {condition} ORDER BY offset LIMIT 1"
        ))?;
        let since = self.now.saturating_sub(window.as_millis() as u64);
        let receipt = |row: &Row<'_>| {
            let receipt = Receipt {
                id: Some(Position { epoch: self.epoch, offset: row.get(0)? }),
                region: region(row, 1)?,
                count: row.get(2)?,
                timestamp: Timestamp::from_millis(row.get(3)?),
                deduplicated: true,
                subscribers: row.get(4)?,
            };
            Ok((receipt, Fingerprint(row.get(5)?)))
        };
        let found = match key {
            Some(key) => query.query_row((key.as_str(), since), receipt),
            None => query.query_row((fingerprint.0, since), receipt),
        };
        match found.optional()? {
            Some((_, known)) if known != *fingerprint => Err(Rejected::KeyReused),
            found => Ok(found.map(|(receipt, _)| receipt)),
        }
    }

    /// Forgets the receipts that nobody may ask for any more, before anything is appended: their keys are free again.
    fn forget(&self) -> Result<(), rusqlite::Error> {
        let oldest = self.now.saturating_sub(self.retention.receipt_lifetime().as_millis() as u64);
        self.transaction.prepare_cached("DELETE FROM receipts WHERE clock <= ?1")?.execute([oldest])?;
        Ok(())
    }

    /// Removes what retention no longer keeps; whether anything was.
    fn trim(&self) -> Result<bool, rusqlite::Error> {
        // Offsets have no holes here, so those above this one are as many as may stay.
        let last_by_count = self.head.saturating_sub(self.retention.max_count as u64);
        let oldest = oldest_kept(self.now, self.retention);
        let mut gone = Vec::new();
        {
            // Oldest first, up to the first that stays: both bounds rise with the offset.
            let mut log =
                self.transaction.prepare_cached("SELECT offset, region, clock FROM publications ORDER BY offset")?;
            let mut log = log.query(())?;
            while let Some(row) = log.next()? {
                let (offset, at): (Offset, u64) = (row.get(0)?, row.get(2)?);
                if offset > last_by_count && at >= oldest {
                    break;
                }
                gone.push((offset, region(row, 1)?));
            }
        }
        for (offset, region) in &gone {
            self.transaction.prepare_cached("DELETE FROM publications WHERE offset = ?1")?.execute([offset])?;
            self.transaction
                .prepare_cached(
                    "INSERT INTO trimmed (region, offset) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET offset = excluded.offset",
                )?
                .execute((region.as_str(), offset))?;
        }
        Ok(!gone.is_empty())
    }
}

/// The clock's reading of the oldest publication that age lets stay.
fn oldest_kept(now: u64, retention: &Retention) -> u64 {
    now.saturating_sub(retention.max_age.as_millis() as u64)
}

fn is_any_older(connection: &Connection, oldest: u64) -> Result<bool, rusqlite::Error> {
    let mut first = connection.prepare_cached("SELECT clock < ?1 FROM publications ORDER BY offset LIMIT 1")?;
    Ok(first.query_row([oldest], |row| row.get(0)).optional()?.unwrap_or(false))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // FULL: with write-ahead logging, NORMAL would let a power cut take back what a receipt has promised.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Refuses a file that is not ours by its header (<https://sqlite.org/fileformat2.html#the_database_header>), read by
/// hand: SQLite would tidy up after whoever wrote the file last, and takes a very short file for an empty one.
///
/// No connection of this process may have the file open, since closing a file drops all locks on it.
fn check(path: &Path) -> Result<(), OpenError> {
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    const HEADER: usize = 100;

    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER as u64).read_to_end(&mut header));
    // What can't be read, SQLite has the words for.
    if read.is_err() || header.is_empty() {
        return Ok(());
    }
    if header.len() < HEADER || !header.starts_with(MAGIC) {
        return Err(OpenError::NotADatabase(path.to_owned()));
    }
    let number = |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("the header has 100 bytes"));
    let (schema_changes, version, application) = (number(40), number(60), number(68));
    let log = PathBuf::from([path.as_os_str(), "-wal".as_ref()].into_iter().collect::<OsString>());
    match (application, version) {
        (APPLICATION_ID, version) if version > SCHEMA_VERSION => {
            Err(OpenError::Newer { path: path.to_owned(), version })
        }
        (APPLICATION_ID, _) => Ok(()),
        (0, 0) if schema_changes == 0 && !log.exists() => Ok(()),
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

/// Creates the tables in a new file; answers the version of those that are there.
fn prepare(connection: &mut Connection) -> Result<i32, rusqlite::Error> {
    let version = |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    if version(connection)? == 0 {
        // In the file itself before there is a log beside it: so even a file that was never finished is known as ours.
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version(&transaction)? == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.execute("INSERT INTO history (epoch, head) VALUES (?1, 0)", [Epoch::draw().as_str()])?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()?;
    version(connection)
}

fn epoch(connection: &Connection) -> Result<Epoch, rusqlite::Error> {
    connection.query_row("SELECT epoch FROM history", (), |row| parsed(row, 0))
}

fn head(connection: &Connection) -> Result<Offset, rusqlite::Error> {
    connection.prepare_cached("SELECT head FROM history")?.query_row((), |row| row.get(0))
}

fn trimmed(connection: &Connection) -> Result<Trimmed, rusqlite::Error> {
    let mut trimmed = Trimmed::default();
    let mut rows = connection.prepare_cached("SELECT region, offset FROM trimmed")?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        trimmed.note(&region(row, 0)?, row.get(1)?);
    }
    Ok(trimmed)
}

fn publication(row: &Row<'_>, epoch: Epoch) -> Result<Publication, rusqlite::Error> {
    Ok(Publication {
        position: Position { epoch, offset: row.get(0)? },
        region: region(row, 1)?,
        count: row.get(2)?,
        videos: row.get(3)?,
        timestamp: Timestamp::from_millis(row.get(4)?),
    })
}

fn region(row: &Row<'_>, column: usize) -> Result<Region, rusqlite::Error> {
    parsed(row, column)
}

/// A column of text as a value; what can't be one was not written by this program.
fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> Result<T, rusqlite::Error> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}
