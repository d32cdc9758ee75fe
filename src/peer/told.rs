//! What a peer is told of its being fit to coordinate (`trust`), and when.
//!
//! That it is not, it is told at once. That it is, only behind all deltas that were sent by views in which it was
//! not: whoever stands in for it still does so in batches that began before the view changed. Batches do not wait
//! for anything, and each worker runs one at a time, so one that takes up other work (`passing`) has none of an
//! earlier view left. When all workers have, the word goes onto the lanes.
//!
//! Invariant: no worker puts a delta behind the word by a view in which the peer was not fit, because a view
//! older than the first of those in a row that take it for fit is with no worker any more.

use parking_lot::Mutex;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Told {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last word on the connections that stand.
    word: Option<bool>,
    /// The first of the views in a row, up to the latest, that take the peer for fit.
    fit_since: Option<u64>,
}

impl Told {
    /// View `view` says whether the peer is fit; has `say` tell it so if it is not and does not know. `say` is
    /// false when there is no connection to say it on.
    pub fn judge(&self, is_fit: bool, view: u64, say: impl FnOnce(bool) -> bool) {
        let mut state = self.state.lock();
        state.fit_since = is_fit.then(|| state.fit_since.unwrap_or(view));
        if !is_fit && state.word != Some(false) {
            state.word = say(false).then_some(false);
        }
    }

    /// No worker goes by a view before `view` any more: has `say` tell the peer that it is fit, if it is since
    /// then and does not know.
    pub fn pass(&self, view: u64, say: impl FnOnce(bool) -> bool) {
        let mut state = self.state.lock();
        if state.fit_since.is_some_and(|since| since <= view) && state.word != Some(true) {
            state.word = say(true).then_some(true);
        }
    }

    /// A connection is made anew: the peer has been told nothing on it, and may have missed something.
    pub fn forget(&self) {
        *self.state.lock() = State::default();
    }
}
