//! The file of a log, which may be opened anew under its name.
//!
//! Who rotates logs moves the file away and has the node open it again: from then on lines go to a new file. A line is
//! written whole to one of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// See the head of the file; all clones write to the same one.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    /// Opens the file to append to it, and makes it if there is none.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile { path: path.to_owned(), file: Arc::new(Mutex::new(append_to(path)?)) })
    }

    /// Opens it anew under its name. When that fails the file before is kept.
    pub fn reopen(&self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        *self.file.lock() = file;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.lock().write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.lock().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_away_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let [path, moved] = ["log", "log.1"].map(|name| dir.path().join(name));
        let log = LogFile::open(&path).unwrap();
        log.clone().write_all(b"first\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.clone().write_all(b"second\n").unwrap();
        log.reopen().unwrap();
        log.clone().write_all(b"third\n").unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("first\nsecond\n", "third\n"));
        // It cannot be opened any more: what there is goes on.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(log.reopen().is_err() && log.clone().write_all(b"fourth\n").is_ok());
    }
}
