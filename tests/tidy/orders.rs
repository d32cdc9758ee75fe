//! The order of the files and folders of a folder: that of the `mod` lines in its `mod.rs`, the lowest layer first.
//!
//! A folder's `mod.rs` itself has no place in it: it is the folder's face, and may know all that it declares, and be
//! known by it. What it hands on with `pub use` counts as imported from where it comes.

use std::collections::BTreeMap;

use crate::source::{Source, words};
use crate::{declared_modules, expand};

/// The orders of all folders, by module path.
pub struct Orders {
    folders: BTreeMap<Vec<String>, Vec<String>>,
    /// What `pub use` hands on: its path, and where it comes from.
    handed_on: BTreeMap<Vec<String>, Vec<String>>,
}

impl Orders {
    /// Of these files; modules that are compiled for tests only are left out.
    pub fn of(sources: &[Source]) -> Orders {
        let (mut folders, mut handed_on) = (BTreeMap::new(), BTreeMap::new());
        for source in sources.iter().filter(|source| source.path.ends_with("/mod.rs")) {
            let (folder, modules) = (source.module(), declared_modules(source));
            for at in words(&source.blank, "pub use") {
                let paths = expand(&source.blank[at + "pub use".len()..]);
                for path in paths.iter().filter(|path| modules.iter().any(|(name, _)| Some(name) == path.first())) {
                    let name = path.last().cloned().into_iter().collect();
                    handed_on.insert([folder.clone(), name].concat(), [folder.clone(), path.clone()].concat());
                }
            }
            folders.insert(folder, modules.into_iter().filter(|(_, test)| !test).map(|(name, _)| name).collect());
        }
        Orders { folders, handed_on }
    }

    /// Whether `there` stands in a file or folder that is declared behind the one beside it in which `here` stands.
    pub fn is_behind(&self, here: &[String], there: &[String]) -> bool {
        let there = self.handed_on.get(there).map_or(there, Vec::as_slice);
        let shared = here.iter().zip(there).take_while(|(a, b)| a == b).count();
        let Some(order) = self.folders.get(&here[..shared]) else { return false };
        let place = |path: &[String]| order.iter().position(|it| path.get(shared) == Some(it));
        place(here).zip(place(there)).is_some_and(|(here, there)| there > here)
    }
}
