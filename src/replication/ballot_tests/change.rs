//! Rows of the model: how nodes come and go, and what that means for one slot.
//!
//! The preference list of the slot is that of the nodes' numbers, so that a node which comes may take the first place.
//! What a row says of its node is its life and, within it, how many steps it has made.

use std::collections::BTreeSet;

use super::world::{Node, World};
use crate::replication::ballot::Holder;
use crate::ring::steps::{is_enough, majority};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Row {
    pub life: u64,
    pub step: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Out,
    Coming,
    In,
    Going,
}

impl Row {
    pub fn stage(self) -> Stage {
        [Stage::Out, Stage::Coming, Stage::In, Stage::Going][self.step as usize % 4]
    }

    fn is_moving(self) -> bool {
        matches!(self.stage(), Stage::Coming | Stage::Going)
    }

    fn owns(self) -> bool {
        matches!(self.stage(), Stage::In | Stage::Going)
    }
}

/// Home replicas under every possible ring, today's first and those to come last.
pub fn possible(rows: &[Row], copies: usize) -> Vec<Vec<usize>> {
    let moving: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].is_moving()).collect();
    if moving.len() > crate::ring::steps::CHANGES_MAX {
        return Vec::new();
    }
    let homes = |taken: usize| -> Vec<usize> {
        let has_taken = |at: &usize| moving.iter().position(|it| it == at).is_some_and(|bit| taken >> bit & 1 == 1);
        let owns = |at: &usize| match rows[*at].stage() {
            Stage::Out => false,
            Stage::Coming => has_taken(at),
            Stage::In => true,
            Stage::Going => !has_taken(at),
        };
        // Later ones come first, so that who comes displaces somebody.
        (0..rows.len()).rev().filter(owns).take(copies).collect()
    };
    (0..1 << moving.len()).map(homes).collect()
}

pub fn today(rows: &[Row], copies: usize) -> Vec<usize> {
    (0..rows.len()).rev().filter(|at| rows[*at].owns()).take(copies).collect()
}

/// True when a node is a home replica under some ring that is possible.
fn may_hold(rows: &[Row], copies: usize, at: usize) -> bool {
    today(rows, copies).contains(&at) || possible(rows, copies).iter().any(|homes| homes.contains(&at))
}

/// As `Rows::configuration`.
pub fn configuration(rows: &[Row]) -> Vec<(u32, u64)> {
    let moving = rows.iter().any(|row| row.is_moving());
    let life = |row: &Row| if moving || row.stage() != Stage::In { row.life } else { 0 };
    rows.iter().map(|row| (row.step % 4, life(row))).collect()
}

/// As `steps::enough_stay`, for every ring that is possible.
fn enough_stay(rows: &[Row], copies: usize) -> bool {
    let old = today(rows, copies);
    let stay = |new: &[usize]| old.iter().filter(|at| new.contains(at)).count();
    possible(rows, copies).iter().all(|new| new.is_empty() || is_enough(old.len(), stay(new), new.len()))
}

impl World {
    /// Node `at` goes by these rows, too.
    pub fn adopt(&mut self, at: usize, rows: &[Row]) {
        let (copies, rules) = (self.cast.copies, self.rules);
        let before = self.nodes[at].rows.clone();
        let after: Vec<Row> = before.iter().zip(rows).map(|(one, other)| *one.max(other)).collect();
        if after == before {
            return;
        }
        let clock = self.clock(at);
        let node = &mut self.nodes[at];
        node.rows.clone_from(&after);
        node.adopters.clear();
        node.taken_by.clear();
        node.epoch += 1;
        let (old, new) = (possible(&before, copies), possible(&after, copies));
        let missed = before.iter().zip(&after).any(|(known, row)| {
            let was_seen = known.owns() || known.life == row.life && known.stage() != Stage::Coming;
            row.stage() == Stage::Out && row.step > 0 && !was_seen
        });
        let is_home = may_hold(&after, copies, at);
        if missed || !is_home {
            node.is_whole = false;
            node.fetched.clear();
        } else if !today(&after, copies).contains(&at) {
            node.fetched.clear();
        }
        let is_moving = before.iter().chain(&after).any(|row| row.is_moving());
        let lives_on =
            !is_moving || before.iter().zip(&after).all(|(a, b)| a.life == b.life || !a.owns() && !a.is_moving());
        if before.get(at) != after.get(at) || configuration(&before) != configuration(&after) {
            for peer in &mut node.peers {
                peer.has = false;
                peer.asking = false;
                peer.is_stale = true;
            }
        }
        if rules.withdraw && (old != new || !lives_on) && node.promise.holder != Holder::NOBODY {
            let holder = node.promise.holder;
            node.promise.give(Holder::WITHDRAWN, node.leases.get_mut(&holder), clock);
        }
    }

    /// Two nodes tell each other what they have heard.
    pub fn gossip(&mut self, a: usize, b: usize) {
        if self.nodes[a].is_paused || self.nodes[b].is_paused || self.is_cut(a, b) {
            return;
        }
        let (of_a, of_b) = (self.nodes[a].rows.clone(), self.nodes[b].rows.clone());
        self.adopt(a, &of_b);
        self.adopt(b, &of_a);
        // Each acts on the other's rows now, and says so.
        if self.nodes[a].rows == self.nodes[b].rows {
            self.nodes[a].adopters.insert(b);
            self.nodes[b].adopters.insert(a);
        }
    }

    /// True when those who have not confirmed that they act on this node's rows are too few to matter.
    fn is_adopted(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let is_unconfirmed = |other: &&usize| **other != at && !node.adopters.contains(other);
        let rings = possible(&node.rows, self.cast.copies);
        let has_no_majority = |homes: &Vec<usize>| {
            homes.iter().filter(is_unconfirmed).count() < majority(homes.len()) || homes.is_empty()
        };
        !self.rules.adopt || !rings.is_empty() && rings.iter().all(has_no_majority)
    }

    /// A node takes what another holds, as far as it has to.
    pub fn fetch(&mut self, at: usize, from: usize) {
        let copies = self.cast.copies;
        let (source, node) = (&self.nodes[from], &self.nodes[at]);
        let today = today(&node.rows, copies);
        let is_source = from != at && !source.is_paused && today.contains(&from) && !self.is_cut(at, from);
        if !is_source || node.is_paused || source.is_refilling {
            return;
        }
        let was_home = today.contains(&at);
        let is_moving = node.rows.iter().any(|row| row.is_moving());
        let must_take = !node.is_whole || was_home && !enough_stay(&node.rows, copies);
        let waits = (is_moving || !was_home) && !self.is_adopted(at);
        let counts = !self.rules.confirmed || node.adopters.contains(&from);
        if !must_take || waits || !counts || !may_hold(&node.rows, copies, at) {
            return;
        }
        let state = source.state;
        self.merge(at, state);
        let node = &mut self.nodes[at];
        node.fetched.insert(from);
        let others: BTreeSet<usize> = today.iter().copied().filter(|other| *other != at).collect();
        let have = others.iter().filter(|other| node.fetched.contains(other)).count();
        let gains = !was_home && !node.has_come_before;
        let needed = if gains { today.len() + 1 - majority(today.len()).min(today.len()) } else { others.len() };
        node.is_whole |= have >= needed;
        node.is_refilling &= have < others.len();
    }

    /// Node `at` takes its next step, if it may.
    pub fn take_step(&mut self, at: usize) {
        let (copies, draw) = (self.cast.copies, self.below(8));
        let node = &self.nodes[at];
        if node.is_paused || node.is_refilling {
            return;
        }
        let (row, rows) = (node.rows[at], node.rows.clone());
        // Seldom two at once, or hardly anybody is ever served.
        if !row.is_moving() && rows.iter().any(|row| row.is_moving()) && draw != 0 {
            return;
        }
        let others_in = (0..rows.len()).filter(|other| *other != at && rows[*other].stage() == Stage::In).count();
        match row.stage() {
            Stage::Out => {
                self.make(at, Row { life: row.life + 1, step: row.step + 1 });
                return;
            }
            Stage::In if others_in > 0 => return self.make(at, Row { step: row.step + 1, ..row }),
            Stage::In => return,
            Stage::Coming => {
                let is_mine = may_hold(&rows, copies, at);
                let may_come_later = node.has_come_before && enough_stay(&rows, copies);
                if !self.is_adopted(at) || is_mine && !node.is_whole && !may_come_later {
                    return;
                }
            }
            Stage::Going => {
                let has_taken = |other: &usize| node.taken_by.contains(other);
                let to_hold = possible(&rows, copies).into_iter().flatten().filter(|other| *other != at);
                if !self.is_adopted(at) || !to_hold.into_iter().all(|it| has_taken(&it)) {
                    return;
                }
            }
        }
        self.second_steps += 1;
        self.make(at, Row { step: row.step + 1, ..row });
    }

    fn make(&mut self, at: usize, row: Row) {
        let mut rows = self.nodes[at].rows.clone();
        rows[at] = row;
        self.adopt(at, &rows);
    }

    /// A node that is to hold the slot tells one that goes that it holds it.
    pub fn tell_taken(&mut self, by: usize, to: usize) {
        let (one, other) = (&self.nodes[by], &self.nodes[to]);
        let heard = !one.is_paused && !other.is_paused && !self.is_cut(by, to) && one.rows == other.rows;
        let copies = self.cast.copies;
        let today = today(&one.rows, copies);
        let must_take = !today.contains(&by) || !enough_stay(&one.rows, copies);
        let others = today.iter().filter(|at| **at != by);
        let has_taken = others.filter(|at| one.fetched.contains(at)).count()
            >= today.len() + 1 - majority(today.len()).min(today.len());
        if heard && may_hold(&one.rows, copies, by) && one.is_whole && (!must_take || has_taken || today.len() < 2) {
            self.nodes[to].taken_by.insert(by);
        }
    }

    /// The rows that a node begins a new life with, told by those that it can ask, and whether an earlier life may have
    /// come and done more than they know: when too few could be asked, or they know that one was coming.
    pub fn rows_of_a_new_life(&self, at: usize, heard: &BTreeSet<usize>) -> (Vec<Row>, bool) {
        let mut rows = vec![Row::default(); self.nodes.len()];
        for of in heard.iter().map(|other| &self.nodes[*other].rows) {
            rows.iter_mut().zip(of).for_each(|(row, other)| *row = (*row).max(*other));
        }
        let known = rows[at];
        let unheard = |homes: &Vec<usize>| homes.iter().filter(|other| **other != at && !heard.contains(other)).count();
        let heard_enough = possible(&rows, self.cast.copies).iter().all(|homes| unheard(homes) < majority(homes.len()));
        // A generation is never given twice, whatever is remembered of the earlier ones.
        let life = known.life.max(self.nodes[at].rows[at].life) + 1;
        let step = match known.stage() {
            Stage::Out => known.step + 1,
            // Who was going is back.
            Stage::Going => known.step - 1,
            Stage::Coming | Stage::In => known.step,
        };
        rows[at] = Row { life, step };
        (rows, known.stage() == Stage::Coming || !heard_enough)
    }
}

impl Node {
    /// True when this node may promise the slot.
    pub fn may_vote(&self, at: usize, copies: usize) -> bool {
        let is_home = today(&self.rows, copies).contains(&at);
        let is_voter = possible(&self.rows, copies).iter().any(|homes| homes.contains(&at));
        is_voter && (self.is_whole || !is_home && !self.has_come_before)
    }
}
