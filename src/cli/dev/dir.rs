//! The temporary directory of a cluster that `rondo dev` runs: the nodes' logs and ids.
//!
//! A file in it is locked for as long as its `rondo dev` runs, and the system unlocks it when that ends, however it
//! ends. So the next one knows which directories were left behind by a `kill -9`, and removes them. One that is kept on
//! purpose loses the file first. The file is locked before it has its name: nobody finds it unlocked meanwhile.
//!
//! What others have put under such a name is not touched: directories of other users, and those without the file.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How the names of the directories begin.
const PREFIX: &str = "rondo-dev-";
/// The file that is locked.
const OWNER: &str = "owner";

/// See the head of the file.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    /// Held for its lock.
    _owner: File,
}

impl Dir {
    /// A new directory that only this user can look into, where such are made. Those that were left behind are removed.
    pub fn make() -> io::Result<Dir> {
        let root = std::env::temp_dir();
        remove_left(&root);
        Dir::make_in(&root)
    }

    fn make_in(root: &Path) -> io::Result<Dir> {
        let path = root.join(format!("{PREFIX}{:08x}", rand::random::<u32>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let unnamed = path.join("owner.new");
        let owner = File::create(&unnamed)?;
        owner.lock()?;
        std::fs::rename(unnamed, path.join(OWNER))?;
        Ok(Dir { path, _owner: owner })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.path)
    }

    /// Leaves it to whoever wants to read the logs: no other `rondo dev` removes it.
    pub fn keep(&self) -> io::Result<()> {
        std::fs::remove_file(self.path.join(OWNER))
    }
}

/// Removes the directories whose `rondo dev` is gone. What cannot be removed is left: it is no reason not to start.
fn remove_left(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let is_named_so = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if is_named_so && is_left(&path) {
            _ = std::fs::remove_dir_all(path);
        }
    }
}

fn is_left(path: &Path) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let is_ours = path.symlink_metadata().is_ok_and(|it| it.is_dir() && it.uid() == uid);
    is_ours && File::open(path.join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_behind_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let make = || Dir::make_in(root.path()).unwrap();
        let (running, kept, killed) = (make(), make(), make());
        kept.keep().unwrap();
        let [kept, left] = [kept, killed].map(|dir| {
            std::fs::write(dir.path().join("node-1.log"), "words").unwrap();
            dir.path().to_owned()
        });
        let others = root.path().join("rondo-dev-of-somebody");
        std::fs::create_dir(&others).unwrap();
        remove_left(root.path());
        assert!(running.path().exists() && kept.exists() && others.exists() && !left.exists());
        running.remove().unwrap();
        assert!(!running.path().exists());
    }
}
