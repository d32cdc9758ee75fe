//! Publish and subscribe over the whole cluster, and the keyspace events that are published by the nodes themselves.
//!
//! A [`Hub`] knows who listens: the connections of this node by their [`Mailbox`]es, and of every other node how many
//! listen to what ([`interest`]). A message is put into the mailboxes here, and sent once to each node that has
//! listeners ([`mod@link`]), which puts it into its own. So a listener gets a message once, whichever node it was
//! published on; when a link between two nodes breaks, what was on it is lost, as on Redis's cluster bus, and never
//! sent twice.
//!
//! | file | what it is |
//! |---|---|
//! | `topic` | what belongs to each kind of name that one can listen to, and messages as clients read them |
//! | `mailbox`, `excess` | what waits for one connection, and the limit on it |
//! | `hub` | who listens to what, and the delivering |
//! | `interest` | what the listeners of another node listen to |
//! | `remote`, `wire`, `link` | another node, what nodes tell each other, and the connection it goes over |
//! | `events` | which keyspace events are wanted, and what they are called |
//!
//! Knows no client connection: the connection empties its mailbox itself when replies may go out.

pub mod excess;
pub mod topic;
pub mod events;
pub mod interest;
pub mod wire;
pub mod remote;
pub mod mailbox;
pub mod hub;
pub mod link;

pub use hub::Hub;
pub use mailbox::Mailbox;
