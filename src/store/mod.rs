//! Data: hash slots, entries, versions and merge. Knows no RESP and no socket.
