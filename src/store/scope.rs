//! What a clear of a slot is called, and whose keys it takes away (see `clear`).
//!
//! A clear stands in a table as an entry under a name that no key has: a number that no database has, and no key.

use crate::base::ids::DATABASES_MAX;
use crate::store::name::Name;

/// Databases that hold keys are numbered below this; higher numbers name clears.
const DATABASES: u8 = DATABASES_MAX;

/// Which databases are cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All of them.
    All,
    /// This one.
    Database(u8),
}

impl Scope {
    /// Each that there is.
    pub fn each() -> impl Iterator<Item = Scope> {
        (0..DATABASES).map(Scope::Database).chain([Scope::All])
    }

    /// The name under which a clear of this scope is kept.
    pub fn name(self) -> Name<'static> {
        let db = match self {
            Scope::All => DATABASES,
            Scope::Database(db) => DATABASES + 1 + db % DATABASES,
        };
        Name::of(db, b"")
    }

    /// The scope of the clear that is called so; `None` for the name of a key.
    pub fn of(name: Name<'_>) -> Option<Scope> {
        match name.db.checked_sub(DATABASES)? {
            _ if !name.key.is_empty() => None,
            0 => Some(Scope::All),
            number if number <= DATABASES => Some(Scope::Database(number - 1)),
            _ => None,
        }
    }

    /// Whether entries of this database are taken away. A clear of all databases makes those of single ones needless.
    pub fn includes(self, db: u8) -> bool {
        match self {
            Scope::All => db != DATABASES,
            Scope::Database(number) => db == number,
        }
    }
}

/// Whether this is the database number of a clear's name and not of a key's.
#[inline]
pub fn is_clear(db: u8) -> bool {
    db >= DATABASES
}

/// Whether a name that another node gave can be one, of a key or of a clear.
pub fn is_name(db: u8, key: &[u8]) -> bool {
    !is_clear(db) || Scope::of(Name { db, key, hash: 0 }).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clears_are_those_and_no_others() {
        for scope in Scope::each() {
            let name = scope.name();
            assert_eq!(Scope::of(name), Some(scope));
            assert!(is_name(name.db, name.key) && !is_name(name.db, b"key"));
            assert!((0..16).all(|db| scope.includes(db) == (scope == Scope::All || scope == Scope::Database(db))));
            assert!(!scope.includes(name.db));
        }
        assert!(is_name(15, b"") && is_name(0, b"key") && !is_name(33, b"") && !is_name(255, b""));
        assert!(Scope::All.includes(Scope::Database(4).name().db));
    }
}
