//! The words for what becomes of a frame, and for how a replica keeps up with its lane.
//!
//! Plain values: `lane` says them, `link` judges the pace.

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Not acknowledged yet.
    Open,
    /// The replica has done it.
    Held,
    /// Not known to be done: the connection broke before it was acknowledged, or the replica declined it.
    Lost,
    /// Too long ago: nobody remembers whether it was done, declined or contradicted.
    Forgotten,
}

/// How a replica keeps up with what it is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Pace {
    /// It acknowledges in time.
    Prompt = 0,
    /// It takes long: ask somebody else if there is somebody.
    Slow = 1,
    /// It says nothing: it may be stopped.
    Stalled = 2,
}
