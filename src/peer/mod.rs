//! Frames and links between nodes.
//!
//! | file | what it is |
//! |---|---|
//! | `handshake` | the first words on a connection: who is there |
//! | `buffer` | bytes that came and are not understood yet, bytes to send |
//! | `frame`, `ballot` | the words of replica links; those of slot ballots among them |
//! | `lane`, `link` | numbered frames and their acknowledgements; the task that talks |
//! | `fate` | what becomes of a frame, and how a replica keeps up |
//! | `lag` | how far a replica is behind on a lane |
//! | `control` | the control link: rows, barriers and slot contents |
//! | `entries`, `compare` | whole keys between nodes; digests by which two nodes compare |
//! | `refusal` | why a node will not do what another asks |
//! | `registry` | the other nodes: lanes, whether they answer, what they have missed |
//! | `hints`, `lacks` | what a peer has missed; whether it may lack writes untold |
//! | `granted` | what a peer has promised to this node |
//! | `trust` | who takes this node for fit to coordinate |
//! | `told`, `passing` | what peers are told of their being fit; when all workers go by a view |
//!
//! Each node dials every other node; a connection carries one dialler's requests one way and their answers back, so
//! an answer never queues behind the other side's requests. There are four kinds of connection, told apart by the
//! handshake:
//!
//! | kind | requests | answers |
//! |---|---|---|
//! | replica | deltas, verifies, whole states: numbered frames | cumulative acknowledgements, mismatches |
//! | forward | clients' requests for keys coordinated over there | the replies, each when it is known |
//! | control | rows, slot contents, comparisons: rare and long-winded | one answer each |
//! | publish | what was published over there for listeners over here | how much of it was dealt with |
//!
//! A replica link is cut into [`lane`]s: a hash slot's traffic always takes the same lane, so a verify never
//! overtakes the delta it depends on, whichever worker made either.
//!
//! Readers never wait for writers, on either side: every reader applies what it reads and appends its answer to a
//! bounded buffer, and a link whose buffer reaches its bound is broken off, which is always safe, because what was not
//! acknowledged is known.

pub mod buffer;
pub mod fate;
pub mod handshake;
pub mod hints;
pub mod lacks;
pub mod lag;
pub mod refusal;
pub mod frame;
pub mod ballot;
pub mod entries;
pub mod compare;
pub mod control;
pub mod lane;
pub mod granted;
pub mod told;
pub mod trust;
pub mod registry;
pub mod link;
pub mod passing;
