//! Bytes: what a client's request looks like and how a reply is written. Knows no command and no key.
