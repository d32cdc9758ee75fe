//! A node that was cut off, or stopped, for so long that others may have left it out asks them whether they have
//! (`absence`). If so it gives up what it held before and fetches it: others may have forgotten deletions meanwhile
//! that it never heard of, and what it still holds of those keys would bring them back.
//!
//! Only slots are given up that somebody who left it out is a home replica of; what it took in since is kept: those are
//! writes that somebody was told are safe.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::base::clock::Clock;
use crate::base::ids::{NodeId, Slot};
use crate::base::wire::WireError;
use crate::cluster::Cluster;
use crate::cluster::absence::{Life, Member, Moment, Patience, Verdict};
use crate::cluster::gossip::ROWS_TIMEOUT;
use crate::cluster::shed::drop_before;
use crate::cluster::topology::Topology;
use crate::membership::Liveness;
use crate::peer::compare::{Compare, CompareAnswer};
use crate::peer::control::{ControlError, ControlLink, Request, Response};
use crate::ring::{Row, RowState};

/// Before a node that did not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked.
const ASKS_MAX: usize = 100;
/// Between two looks at who is there.
const PRESENCE_INTERVAL: Duration = Duration::from_millis(500);

impl Cluster {
    /// True when this node, as its row says, holds what it should, and may give it to `peer`: not if it was away for so
    /// long that what it holds may be deleted over there. Who is filling up holds nothing that could be deleted, and
    /// takes over the doubt with the data ([`Cluster::inherit_absences`]); this may be the last node that has it.
    pub fn is_warm_for(&self, peer: &NodeId) -> bool {
        let is_filling_up = || self.topology().rows.get(peer).is_some_and(|row| !row.warm);
        self.is_warm() && (self.is_in_step_with(peer) || is_filling_up())
    }

    /// False while this node was away for so long that what it holds may be deleted at `peer`, who has not said that it
    /// is not.
    pub fn is_in_step_with(&self, peer: &NodeId) -> bool {
        !self.is_outdated.load(Ordering::Acquire) || self.absence.lock().is_in_step_with(peer, Instant::now())
    }

    fn moment(&self) -> Moment {
        moment_of(&self.store.clock)
    }

    /// How long others are waited for, as things are.
    fn patience(&self) -> Patience {
        let bytes_max = self.config.settings().tombstone_bytes_max;
        let is_short_of_room = bytes_max > 0 && self.store.tombstone_bytes() > bytes_max;
        Patience { horizon: self.tombstone_horizon(), is_short_of_room }
    }

    /// Notes whether this node was away for too long. Whoever lets others in, or goes on after a pause, asks for it at
    /// once.
    pub fn look_at_absence(&self) {
        let is_outdated = self.absence.lock().is_outdated(self.patience(), Instant::now());
        self.is_outdated.store(is_outdated, Ordering::Release);
    }

    /// Notes for ever who is there, and asks them when this node was away for too long.
    pub(super) async fn watch_absence(self: &Arc<Self>) {
        loop {
            self.look_at_absence();
            let topology = self.topology();
            let left_out = self.absence.lock().look(&members_of(&topology), self.patience(), self.moment());
            for row in left_out.iter().filter_map(|id| topology.rows.get(id)) {
                let name = row.shown_name();
                info!(name, node = %row.id, "away for so long that deletions are forgotten without it from now on");
            }
            drop(topology);
            if self.is_outdated.load(Ordering::Acquire) {
                self.ask_the_present().await;
            }
            sleep(PRESENCE_INTERVAL).await;
        }
    }

    /// Asks every member that may be there whether it has left this node out.
    async fn ask_the_present(self: &Arc<Self>) {
        let topology = self.topology();
        let rows: Vec<Row> = topology.others().cloned().collect();
        drop(topology);
        let in_step = || -> Vec<NodeId> {
            let (absence, now) = (self.absence.lock(), Instant::now());
            rows.iter().map(|row| row.id).filter(|id| absence.is_in_step_with(id, now)).collect()
        };
        let (before, me) = (in_step(), (self.identity.id, self.own_generation()));
        let mut asked = JoinSet::new();
        for row in rows.iter().cloned() {
            let cluster = self.clone();
            asked.spawn(async move { (row.id, ask_absences(&cluster.links.kept_to(&row)).await) });
        }
        for (id, answer) in asked.join_all().await {
            match answer {
                Ok(said) => {
                    self.absence.lock().hear(id, said.is_warm, said.left_out.contains(&me), Instant::now());
                }
                Err(error) => debug!(peer = %id, %error, "does not say whether it has left this node out"),
            }
        }
        if in_step() != before {
            // Who coordinates what hangs on it.
            self.update(|_| true);
        }
    }

    /// What this node answers when it is asked whom it has left out.
    pub(super) fn absences(&self) -> CompareAnswer {
        let (is_warm, absence) = (self.is_warm(), self.absence.lock());
        let away_ms = absence.away(Instant::now()).as_millis() as u64;
        CompareAnswer::Absences {
            is_warm,
            away_ms,
            away_since: absence.began(),
            left_out: absence.left_out().collect(),
        }
    }

    /// Takes over what those say that this node has filled up from: what they have forgotten, it does not know either.
    pub(super) async fn inherit_absences(&self, sources: &BTreeSet<NodeId>) {
        let topology = self.topology();
        let rows: Vec<Row> = sources.iter().filter_map(|id| topology.rows.get(id).cloned()).collect();
        drop(topology);
        for row in rows {
            // Again while it is there: not to hear of it would bring back what is deleted, should somebody return whom
            // it left out.
            for _ in 0..ASKS_MAX {
                match ask_absences(&self.links.kept_to(&row)).await {
                    Ok(said) => self.absence.lock().inherit(said.left_out, said.majority),
                    Err(error) if self.topology().liveness(&row.id) != Liveness::Down => {
                        debug!(peer = %row.id, %error, "does not say whom it has left out");
                        sleep(ASK_PAUSE).await;
                        continue;
                    }
                    Err(_) => {}
                }
                break;
            }
        }
    }

    /// Those for whose sake this node, back from an absence that was too long, has to start over.
    pub(super) fn must_start_over(&self) -> Option<BTreeSet<NodeId>> {
        if !self.is_outdated.load(Ordering::Acquire) {
            return None;
        }
        let topology = self.topology();
        let holds_something = topology.own_row().is_some_and(|row| row.state == RowState::Normal && row.warm);
        let verdict = match holds_something {
            true => self.absence.lock().verdict(&members_of(&topology), Instant::now()),
            // Nothing is here that others could have deleted meanwhile.
            false => Verdict::GoOn,
        };
        drop(topology);
        match verdict {
            Verdict::Wait => None,
            Verdict::GoOn => {
                if holds_something {
                    info!("was away for long, and nobody has forgotten deletions meanwhile");
                }
                self.absence.lock().go_on(self.moment());
                self.look_at_absence();
                self.update(|_| holds_something);
                None
            }
            Verdict::StartOver(by) => Some(by),
        }
    }

    /// Declares this node cold and forgets what it held, before it went away, of slots of those who left it out; it
    /// then fills up as after a restart.
    pub(super) async fn start_over(self: &Arc<Self>, by: &BTreeSet<NodeId>) {
        let (away, before) = {
            let absence = self.absence.lock();
            (absence.away(Instant::now()), absence.began())
        };
        warn!(away_s = away.as_secs(), "others have forgotten deletions while it was away: fetching everything anew");
        // As in a new life: others forget that they have left this one out.
        self.update(|book| {
            book.generation += 1;
            let row = self.next_own_row(book, book.rows.get(&self.identity.id), RowState::Normal, false);
            book.rows.merge(row)
        });
        self.outlive();
        let topology = self.topology();
        let slots: Vec<Slot> = Slot::all().filter(|slot| topology.homes(*slot).any(|id| by.contains(&id))).collect();
        drop(topology);
        let mut dropped = 0;
        for slot in slots {
            dropped += drop_before(&mut self.store.table(slot), before);
            yield_now().await;
        }
        self.absence.lock().go_on(self.moment());
        self.look_at_absence();
        warn!(keys = dropped, "forgot what was written before that");
    }
}

/// This moment at a node with this clock.
pub(super) fn moment_of(clock: &Clock) -> Moment {
    Moment { at: Instant::now(), stamp: clock.tick(clock.now_ms()) }
}

/// The other members, as they look.
fn members_of(topology: &Topology) -> Vec<Member> {
    let of = |row: &Row| Member {
        life: (row.id, row.generation),
        is_down: topology.liveness(&row.id) == Liveness::Down,
        is_warm: row.warm,
    };
    topology.others().map(of).collect()
}

/// What a node says of itself.
pub(super) struct Said {
    pub is_warm: bool,
    /// When it last saw a majority.
    pub majority: Moment,
    /// Whom it has left out.
    left_out: Vec<Life>,
}

pub(super) async fn ask_absences(link: &ControlLink) -> Result<Said, ControlError> {
    match link.ask(&Request::Compare(Compare::Absences), ROWS_TIMEOUT).await? {
        Response::Compared(CompareAnswer::Absences { is_warm, away_ms, away_since, left_out }) => {
            let now = Instant::now();
            let at = now.checked_sub(Duration::from_millis(away_ms)).unwrap_or(now);
            Ok(Said { is_warm, majority: Moment { at, stamp: away_since }, left_out })
        }
        _ => Err(WireError.into()),
    }
}
