//! The one thread that writes. Whoever logs puts an entry into a bounded queue and goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tracing::Level;

use crate::entry::{Entry, Fields, Value};
use crate::journal::Journal;
use crate::limit::Limit;
use crate::render;

/// Entries that may wait where an access log may be written: 16 Ki of less than 1 KiB are 16 MB, a third of a second of a busy one. The
/// places alone take 384 KiB, in use or not.
pub(crate) const QUEUE: usize = 16 * 1024;

/// Entries that may wait where none ever is: the places take 48 KiB. A writer that is not held up takes 2 Ki in less than 50 ms,
/// also by journald; look at [`Writer::dropped`] at level debug under load before changing it.
pub(crate) const SHORT_QUEUE: usize = 2 * 1024;

/// Bytes gathered for one write.
const BATCH: usize = 64 * 1024;

/// Pause after a batch, so that a busy log wakes this thread 500 times a second and not once for each line.
const GATHER: Duration = Duration::from_millis(2);

type Format = fn(&Entry, &mut String);

/// Where entries end.
pub(crate) enum Sink {
    Journal(Journal),
    Lines { format: Format, out: Box<dyn Write + Send> },
}

impl Sink {
    pub(crate) fn text(out: impl Write + Send + 'static) -> Self {
        Self::Lines { format: render::text, out: Box::new(out) }
    }

    pub(crate) fn json(out: impl Write + Send + 'static) -> Self {
        Self::Lines { format: render::json, out: Box::new(out) }
    }
}

enum Item {
    Entry(Box<Entry>),
    Flush(SyncSender<()>),
}

/// The near end of the queue.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread, which ends with the last clone. `places`: entries that may wait.
    pub(crate) fn start(sink: Sink, places: usize) -> io::Result<Self> {
        let (queue, entries) = sync_channel(places);
        let dropped = Arc::new(AtomicU64::new(0));
        let losses = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(&entries, sink, &losses))?;
        Ok(Self { queue, dropped })
    }

    /// Never waits.
    pub(crate) fn send(&self, entry: Entry) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Item::Entry(Box::new(entry))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn flush(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let (done, flushed) = sync_channel(1);
        let mut item = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(item) {
            if Instant::now() >= deadline {
                return;
            }
            item = back;
            std::thread::sleep(GATHER);
        }
        let _ = flushed.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn write_all(entries: &Receiver<Item>, mut sink: Sink, losses: &AtomicU64) {
    let mut limit = Limit::default();
    let mut batch = String::new();
    let mut told = 0;
    loop {
        // What was left out is told when its window ends, also where nothing follows.
        let first = match limit.due(SystemTime::now()) {
            None => entries.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => entries.recv_timeout(wait),
        };
        let mut next = match first {
            Ok(item) => Some(item),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut flushed = Vec::new();
        if next.is_none() {
            limit.end(SystemTime::now(), |report| sink.put(&report, &mut batch));
        }
        while let Some(item) = next.take() {
            match item {
                Item::Entry(entry) => {
                    if limit.admit(&entry, |report| sink.put(&report, &mut batch)) {
                        sink.put(&entry, &mut batch);
                    }
                }
                Item::Flush(done) => {
                    limit.end(SystemTime::now(), |report| sink.put(&report, &mut batch));
                    flushed.push(done);
                }
            }
            if batch.len() < BATCH && flushed.is_empty() {
                next = entries.try_recv().ok();
            }
        }
        let lost = losses.load(Ordering::Relaxed);
        if lost > told {
            sink.put(&loss(lost - told), &mut batch);
            told = lost;
        }
        sink.write(&mut batch);
        let urgent = !flushed.is_empty();
        for done in flushed {
            let _ = done.try_send(());
        }
        if !urgent {
            std::thread::sleep(GATHER);
        }
    }
}

impl Sink {
    fn put(&mut self, entry: &Entry, batch: &mut String) {
        match self {
            // A journal that fails cannot be told about it.
            Self::Journal(journal) => {
                let _ = journal.send(entry);
            }
            Self::Lines { format, .. } => format(entry, batch),
        }
    }

    fn write(&mut self, batch: &mut String) {
        if let Self::Lines { out, .. } = self {
            let _ = out.write_all(batch.as_bytes()).and_then(|()| out.flush());
        }
        batch.clear();
        batch.shrink_to(BATCH * 2);
    }
}

fn loss(lines: u64) -> Entry {
    let mut fields = Fields::default();
    fields.push("lines", Value::Uint(lines));
    Entry {
        at: SystemTime::now(),
        level: Level::WARN,
        target: "figspan::log".into(),
        file: None,
        line: None,
        message: "log lines were lost, because whoever reads the log is too slow".into(),
        fields,
    }
}
