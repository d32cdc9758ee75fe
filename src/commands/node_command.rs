//! Commands that work on no keys of their own: of the node, of a connection, or of the whole keyspace.
//!
//! A row of such a command has a [`NodeCommand`] where others have a function; the server runs it. What its way through
//! the server depends on is said here, next to the list, so that who adds one decides it in one place.

/// What a name stands for that one can listen to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TopicKind {
    /// A channel (SUBSCRIBE).
    Channel = 0,
    /// All channels that match a glob pattern (PSUBSCRIBE).
    Pattern = 1,
    /// A shard channel (SSUBSCRIBE): a namespace of its own.
    Shard = 2,
}

/// Commands that the server runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeCommand {
    /// ASKING, READONLY, READWRITE: accepted for smart clients.
    ClusterHint,
    /// AUTH.
    Auth,
    /// CLIENT.
    Client,
    /// CLUSTER.
    Cluster,
    /// COMMAND.
    Command,
    /// CONFIG.
    Config,
    /// DBSIZE.
    DbSize,
    /// DEBUG: refused whatever it is asked for.
    Debug,
    /// DISCARD.
    Discard,
    /// ECHO.
    Echo,
    /// EXEC.
    Exec,
    /// FLUSHALL.
    FlushAll,
    /// FLUSHDB.
    FlushDb,
    /// HELLO.
    Hello,
    /// INFO.
    Info,
    /// KEYS.
    Keys,
    /// RONDO.KEYS.
    KeysOfStretch,
    /// LASTSAVE, SAVE, BGSAVE and others that need a disk: refused.
    Unsupported,
    /// LATENCY.
    Latency,
    /// MEMORY.
    Memory,
    /// MONITOR.
    Monitor,
    /// MULTI.
    Multi,
    /// PING.
    Ping,
    /// PSUBSCRIBE, SUBSCRIBE, SSUBSCRIBE.
    Subscribe(TopicKind),
    /// PUNSUBSCRIBE, UNSUBSCRIBE, SUNSUBSCRIBE.
    Unsubscribe(TopicKind),
    /// PUBLISH, SPUBLISH.
    Publish,
    /// PUBSUB.
    PubSub,
    /// QUIT.
    Quit,
    /// RANDOMKEY.
    RandomKey,
    /// RESET.
    Reset,
    /// ROLE.
    Role,
    /// RONDO.CONSISTENCY.
    Consistency,
    /// RONDO.FORGET.
    Forget,
    /// RONDO.FOUND.
    Found,
    /// RONDO.META.
    Meta,
    /// SCAN.
    Scan,
    /// SELECT.
    Select,
    /// SENTINEL.
    Sentinel,
    /// SHUTDOWN.
    Shutdown,
    /// SLOWLOG.
    SlowLog,
    /// SWAPDB.
    SwapDb,
    /// TIME.
    Time,
    /// UNWATCH.
    Unwatch,
    /// WAIT.
    Wait,
    /// WATCH.
    Watch,
}

impl NodeCommand {
    /// It is about the whole keyspace: each node answers for its share.
    pub fn is_of_all_keys(self) -> bool {
        use NodeCommand::{DbSize, FlushAll, FlushDb, Keys, KeysOfStretch, RandomKey, Scan};
        matches!(self, DbSize | Keys | KeysOfStretch | RandomKey | Scan | FlushAll | FlushDb)
    }

    /// It empties databases, and so goes in two rounds.
    pub fn is_flush(self) -> bool {
        matches!(self, NodeCommand::FlushAll | NodeCommand::FlushDb)
    }

    /// It begins or ends subscriptions.
    pub fn is_subscription(self) -> bool {
        matches!(self, NodeCommand::Subscribe(_) | NodeCommand::Unsubscribe(_))
    }

    /// It looks at no key, so that locked slots need not be given up for it within a transaction.
    pub fn leaves_store_alone(self) -> bool {
        use NodeCommand::{ClusterHint, Echo, Ping, Publish, Role, Select, Time, Unwatch, Wait};
        matches!(self, ClusterHint | Echo | Ping | Publish | Role | Select | Time | Unwatch | Wait)
    }

    /// It is run at once between MULTI and EXEC, where others are queued.
    pub fn is_never_queued(self) -> bool {
        use NodeCommand::{Discard, Exec, Multi, Quit, Reset, Watch};
        matches!(self, Multi | Exec | Discard | Watch | Quit | Reset)
    }
}
