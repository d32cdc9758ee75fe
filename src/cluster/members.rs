//! Who the members of this node's cluster are, kept over restarts: the file `members` in the data directory.
//!
//! A node that starts asks those whom it remembers, and never begins a cluster while they may be in one (`founding`).
//! The file is text: a line that says what it is, a line for each row (id, state, generation, version, peer address,
//! name), those that left or were given up included, so that what several nodes remember can be merged; and a checksum.
//! It is written when a state, an address or a name changes, beside the old one and moved into its place.
//!
//! Invariant: a node says that it acts on a row (`barrier`) only when the row's state is on disk. A step of coming or
//! going takes effect when a majority has said so: what a later majority remembers is never older.
//!
//! Without a data directory nothing is remembered. Decides nothing.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{error, info};
use xxhash_rust::xxh3::xxh3_64;

use crate::base::config::Settings;
use crate::cluster::Cluster;
use crate::cluster::identity::replace_file;
use crate::ring::{Row, RowState, Rows};

/// The file in the data directory.
const FILE_NAME: &str = "members";
const HEAD: &str = "rondo members 1";
/// A longer file is not ours: a full map of the longest names fits.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Before the file is tried again that could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long whoever asks waits for the file to be as the rows are.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);
const WRITE_LOOK: Duration = Duration::from_millis(2);
const STATES: [(RowState, &str); 5] = [
    (RowState::Joining, "joining"),
    (RowState::Normal, "normal"),
    (RowState::Leaving, "leaving"),
    (RowState::Left, "left"),
    (RowState::Gone, "gone"),
];

/// A node does not know what it remembers. The operator's to mend; nothing was started.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum MembersError {
    #[error("cannot read {path}: {source}")]
    File { path: String, source: io::Error },
    #[error(
        "{path} is damaged and does not say who the members of this node's cluster are: put all their peer addresses into \
         join, and remove the file"
    )]
    Damaged { path: String },
}

/// What a node remembers, and where.
#[derive(Debug)]
pub struct Memory {
    /// What it remembered when it started.
    pub rows: Rows,
    path: Option<PathBuf>,
}

impl Memory {
    /// What the data directory holds; nothing when there is none.
    pub fn load(settings: &Settings) -> Result<Memory, MembersError> {
        if settings.data_dir.is_empty() {
            return Ok(Memory { rows: Rows::new(), path: None });
        }
        let path = Path::new(&settings.data_dir).join(FILE_NAME);
        let name = || path.display().to_string();
        let rows = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).ok_or_else(|| MembersError::Damaged { path: name() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Rows::new(),
            Err(source) => return Err(MembersError::File { path: name(), source }),
        };
        Ok(Memory { rows, path: Some(path) })
    }
}

/// How far the file is.
#[derive(Debug)]
pub(super) struct Recorded {
    path: Option<PathBuf>,
    /// Of what stands in it, as far as that matters.
    gist: Mutex<Vec<u8>>,
    /// Why it could not be written when that was last tried.
    trouble: Mutex<Option<String>>,
}

impl Recorded {
    /// Of a node that has just read its file.
    pub(super) fn new(memory: &Memory) -> Recorded {
        Recorded { path: memory.path.clone(), gist: Mutex::new(gist(&memory.rows)), trouble: Mutex::new(None) }
    }

    /// Logs why it could not be written, once for as long as it is the same.
    fn note_trouble(&self, error: &io::Error) {
        let why = error.to_string();
        let before = self.trouble.lock().replace(why.clone());
        if before.is_none_or(|before| before != why) {
            error!(%error, "cannot write the file members in the data-dir: others wait for this node when they come or go");
        }
    }
}

impl Cluster {
    /// Keeps the file as the rows are, for ever.
    pub(super) async fn persist_members(&self) {
        let Some(path) = self.recorded.path.clone() else { return };
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let rows = self.topology().rows.clone();
            let wanted = gist(&rows);
            // Who belongs to nothing yet knows less than the file.
            if !rows.is_empty() && *self.recorded.gist.lock() != wanted {
                let (path, text) = (path.clone(), format(&rows));
                let written = tokio::task::spawn_blocking(move || replace_file(&path, &text)).await;
                if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                    self.recorded.note_trouble(&error);
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
                *self.recorded.gist.lock() = wanted;
                if self.recorded.trouble.lock().take().is_some() {
                    info!("the file members in the data-dir is written again");
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Why the file is behind the rows, if it cannot be written: then nobody comes or goes.
    pub fn members_unwritten(&self) -> Option<String> {
        self.recorded.trouble.lock().clone()
    }

    /// Returns when all that this node knows of its members is on disk, as far as that is to be; false when it takes
    /// long.
    pub(super) async fn has_remembered(&self) -> bool {
        let until = Instant::now() + WRITE_PATIENCE;
        while self.recorded.path.is_some() && *self.recorded.gist.lock() != gist(&self.topology().rows) {
            if Instant::now() >= until {
                return false;
            }
            sleep(WRITE_LOOK).await;
        }
        true
    }
}

/// Equal for rows of which nothing needs to be written anew.
fn gist(rows: &Rows) -> Vec<u8> {
    let all: Vec<_> = rows.iter().map(|row| (row.id, row.state, row.peer_addr, &row.name)).collect();
    postcard::to_extend(&all, Vec::new()).unwrap_or_default()
}

fn format(rows: &Rows) -> String {
    let mut text = format!("{HEAD}\n");
    for row in rows.iter() {
        let state = STATES.iter().find(|(state, _)| *state == row.state).map_or("", |(_, word)| word);
        let Row { id, generation, version, peer_addr, name, .. } = row;
        // Writing to a string has no way to fail.
        _ = writeln!(text, "{id} {state} {generation} {version} {peer_addr} {name}");
    }
    let sum = xxh3_64(text.as_bytes());
    _ = writeln!(text, "checksum {sum:016x}");
    text
}

fn parse(bytes: &[u8]) -> Option<Rows> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= FILE_BYTES_MAX)?;
    let (body, sum) = text.strip_suffix('\n')?.rsplit_once("\nchecksum ")?;
    let body = text.get(..body.len() + 1)?;
    if sum != format!("{:016x}", xxh3_64(body.as_bytes())) {
        return None;
    }
    let mut lines = body.lines();
    if lines.next() != Some(HEAD) {
        return None;
    }
    let mut rows = Rows::new();
    for line in lines {
        rows.merge(parse_row(line)?);
    }
    Some(rows)
}

fn parse_row(line: &str) -> Option<Row> {
    let mut words = line.splitn(6, ' ');
    let id = words.next()?.parse().ok()?;
    let word = words.next()?;
    let (state, _) = *STATES.iter().find(|(_, known)| *known == word)?;
    let (generation, version) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (peer_addr, name): (SocketAddr, _) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    let row = Row {
        id,
        state,
        peer_addr,
        name,
        host: peer_addr.ip().to_string(),
        // Of what is asked over the peer port only.
        port: 0,
        cluster_port: 0,
        admin_port: 0,
        zone: String::new(),
        weight: 1.0,
        warm: false,
        generation,
        version,
    };
    Some(row).filter(|row| row.check().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{row, settings};

    fn rows() -> Rows {
        let mut rows = Rows::new();
        for (number, (state, _)) in STATES.into_iter().enumerate() {
            rows.merge(Row { generation: 1 << 41, ..row(number as u8 + 1, state) });
        }
        rows.merge(Row { name: String::new(), ..row(9, RowState::Normal) });
        rows
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(parse(format(&Rows::new()).as_bytes()), Some(Rows::new()));
        let read = parse(format(&rows()).as_bytes()).expect("good text");
        assert_eq!((gist(&read), read.len()), (gist(&rows()), 6));
        assert!(
            read.iter().zip(rows().iter()).all(|(it, of)| (it.generation, it.version) == (of.generation, of.version))
        );
    }

    #[test]
    fn whatever_is_damaged_is_refused() {
        let text = format(&rows());
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), None, "cut at {end}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(parse(&bytes), None, "flipped at {at}");
        }
        assert_eq!(parse(format!("{text}more").as_bytes()), None);
        for bad in ["", "12 normal 1 1 127.0.0.1:1 a", "rondo members 2"] {
            let body = format!("{HEAD}\n{bad}\n");
            assert_eq!(parse(format!("{body}checksum {:016x}\n", xxh3_64(body.as_bytes())).as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_what_matters_is_written_anew() {
        let before = rows();
        let with = |changed: Row| {
            let mut rows = before.clone();
            assert!(rows.merge(changed));
            gist(&rows) != gist(&before)
        };
        let next = |state| Row { version: 2, generation: 1 << 41, ..row(2, state) };
        assert!(!with(Row { warm: false, ..next(RowState::Normal) }));
        assert!(!with(Row { generation: 1 << 42, ..row(2, RowState::Normal) }));
        assert!(with(next(RowState::Leaving)) && with(row(7, RowState::Joining)));
        assert!(with(Row { peer_addr: SocketAddr::from(([127, 0, 0, 1], 1)), ..next(RowState::Normal) }));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it_and_none_is_no_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = settings(&[("data-dir", folder.path().to_str().expect("plain"))]);
        assert!(Memory::load(&options).is_ok_and(|memory| memory.rows.is_empty() && memory.path.is_some()));
        let path = folder.path().join(FILE_NAME);
        replace_file(&path, &format(&rows())).expect("written");
        assert_eq!(Memory::load(&options).expect("read").rows.len(), rows().len());
        std::fs::write(&path, "rondo members 1\n").expect("written");
        let error = Memory::load(&options).expect_err("damaged").to_string();
        assert!(error.contains(path.to_str().expect("plain")) && error.contains("remove the file"), "{error}");
        assert!(Memory::load(&settings(&[])).is_ok_and(|memory| memory.path.is_none()));
    }
}
