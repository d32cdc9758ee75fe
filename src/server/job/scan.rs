//! SCAN over the whole cluster.
//!
//! Slots are walked in their order. Each step asks every coordinator to walk its own slots from the cursor on; the step
//! ends where the first of them has stopped, and what the others have found behind that is dropped, to be found again
//! by the next step. Each share says which slots it has walked: should nodes differ on who coordinates a slot, so that
//! nobody walks it, the step is made again. So it is while its first slot may lack keys where it is coordinated. Keys
//! that were looked up for their type are counted by who puts the shares together, for what is dropped is looked up
//! again. So a key that stays is returned at least once, also while slots change hands and tables grow; some keys may
//! be returned twice.
//!
//! On the cluster face a node walks its own slots alone, and clients walk all nodes.

use std::time::Duration;

use crate::base::ids::{SLOT_COUNT, slot_of};
use crate::commands::CommandError;
use crate::commands::scan::{ScanOptions, cursor};
use crate::protocol::client::{Value, encode_command};
use crate::protocol::{Args, Reply, parse_i64};
use crate::server::error::RequestError;
use crate::server::job::Job;
use crate::server::job::tries::Tries;
use crate::server::job::values::{as_bulks, decoded, garbled, refused};
use crate::server::request::run::Origin;
use crate::server::share::lookups::SlotLookups;
use crate::server::share::{has_slot, is_inside_slot, slot_number_of};

/// What each node may find beyond its share of COUNT: few keys are not spread evenly, and they are to come in one step,
/// as they do from Redis.
const COUNT_SLACK: usize = 4;

/// How long a step waits for a slot that is not settled, to go on with those behind it: who has few keys gets them in
/// one step also when a node has just come or gone.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// What one node has found: its share of a step.
#[derive(Debug)]
struct ScanShare {
    keys: Vec<Vec<u8>>,
    /// Where it stopped; 0 at its end.
    next: u64,
    /// One bit a slot that it has walked, from the cursor's slot on.
    slots: Vec<u8>,
    /// Keys that it has looked up for their type.
    lookups: Vec<SlotLookups>,
    /// It stopped before a slot that is not settled, and would have gone on.
    ends_unsettled: bool,
}

/// One step of all nodes.
#[derive(PartialEq, Eq, Debug)]
struct WholeStep {
    keys: Vec<Vec<u8>>,
    next: u64,
    lookups: Vec<SlotLookups>,
    /// As in [`ScanShare`], of those that stopped first.
    ends_unsettled: bool,
}

impl Job {
    pub(super) async fn scan(&mut self, args: Args<'_>, request: &[u8], out: &mut Vec<u8>) -> Result<(), CommandError> {
        let tries = Tries::begin();
        if self.talk.session.cluster_face {
            let mut reply = self.own_share(request, Origin::Share).await;
            while is_not_confirmed(&reply) && tries.again().await {
                reply = self.own_share(request, Origin::Share).await;
            }
            out.extend_from_slice(&reply);
            return Ok(());
        }
        let from = cursor(args.get(1).unwrap_or_default())?;
        let options = ScanOptions::parse(args, 2, true)?;
        let settling = Tries::begin_for(SETTLE_PATIENCE);
        let step = loop {
            match self.scan_step(from, &options).await? {
                Ok(step) if !step.ends_unsettled || !settling.again().await => break step,
                Err(error) if !tries.again().await => return Err(error.refusal()),
                _ => {}
            }
        };
        step.lookups.iter().for_each(|it| it.count(&self.worker.metrics));
        let mut reply = Reply::new(out, self.talk.session.proto);
        reply.array(2);
        reply.bulk(step.next.to_string().as_bytes());
        reply.array(step.keys.len());
        step.keys.iter().for_each(|key| reply.bulk(key));
        Ok(())
    }

    /// What is to be tried again is no [`CommandError`].
    async fn scan_step(
        &mut self,
        from: u64,
        options: &ScanOptions<'_>,
    ) -> Result<Result<WholeStep, RequestError>, CommandError> {
        let view = self.worker.shared.view.load_full();
        let count = (options.count.div_ceil(view.coordinators().len().max(1)) + COUNT_SLACK).to_string();
        let from_text = from.to_string();
        let mut words: Vec<&[u8]> = vec![b"SCAN", from_text.as_bytes(), b"COUNT", count.as_bytes()];
        if let Some(pattern) = options.pattern {
            words.extend([b"MATCH", pattern]);
        }
        if let Some(name) = options.type_name {
            words.extend([b"TYPE", name]);
        }
        let mut request = Vec::new();
        encode_command(&mut request, &words);
        let Some(replies) = self.shares_by(&view, &request, Origin::Share).await else {
            return Ok(Err(RequestError::NodeSilent));
        };
        let values: Vec<Value> = replies.iter().map(|reply| decoded(reply)).collect::<Result<_, _>>()?;
        let passing = |value: &Value| match value {
            Value::Error(text) => RequestError::of(text).filter(|error| error.may_retry()),
            _ => None,
        };
        if let Some(error) = values.iter().find_map(passing) {
            return Ok(Err(error));
        }
        let found: Result<Vec<ScanShare>, CommandError> = values.into_iter().map(found).collect();
        Ok(put_together(from, found?).ok_or(RequestError::NodeSilent))
    }
}

/// Whether a share's reply says that it may lack keys.
fn is_not_confirmed(reply: &[u8]) -> bool {
    let text = reply.strip_prefix(b"-").and_then(|line| line.strip_suffix(b"\r\n"));
    text.and_then(RequestError::of) == Some(RequestError::NotConfirmed)
}

fn found(reply: Value) -> Result<ScanShare, CommandError> {
    let parts = match reply {
        Value::Array(parts) => parts,
        Value::Error(text) => return Err(refused(&text)),
        _ => return Err(garbled()),
    };
    // A node that is alone in its view of the cluster does not say what it has walked: it is not one of ours.
    let [Value::Bulk(next), keys, Value::Bulk(slots), Value::Bulk(lookups), Value::Int(ends)] = parts.as_slice() else {
        return Err(garbled());
    };
    let next = parse_i64(next).and_then(|next| u64::try_from(next).ok()).ok_or_else(garbled)?;
    let lookups = SlotLookups::read_all(lookups).map_err(|_| garbled())?;
    let keys = as_bulks(keys).into_iter().map(<[u8]>::to_vec).collect();
    Ok(ScanShare { keys, next, slots: slots.to_vec(), lookups, ends_unsettled: *ends != 0 })
}

/// Puts the shares of a step together; `None` when a slot in between was walked by nobody.
fn put_together(from: u64, shares: Vec<ScanShare>) -> Option<WholeStep> {
    let first = usize::from(slot_number_of(from));
    let end = |found: &ScanShare| if found.next == 0 { SLOT_COUNT } else { usize::from(slot_number_of(found.next)) };
    let to = shares.iter().map(end).min()?;
    // In the middle of that slot only if nobody stands at its start.
    let next = shares.iter().filter(|it| end(it) == to).map(|it| it.next).min_by_key(|next| is_inside_slot(*next))?;
    let is_walked = |slot: usize| {
        let at = slot - first;
        shares.iter().any(|it| has_slot(&it.slots, at))
    };
    if !(first..to).all(is_walked) {
        return None;
    }
    let ends_unsettled = shares.iter().any(|it| end(it) == to && it.ends_unsettled);
    let mut step = WholeStep { keys: Vec::new(), next, lookups: Vec::new(), ends_unsettled };
    for share in shares {
        let stopped_here = share.next == next && is_inside_slot(next);
        let is_kept = |slot: usize| slot < to || stopped_here && slot == to;
        step.keys.extend(share.keys.into_iter().filter(|key| is_kept(slot_of(key).index())));
        step.lookups.extend(share.lookups.into_iter().filter(|it| is_kept(usize::from(it.slot))));
    }
    Some(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scan::CURSOR_BITS;

    fn share(keys: &[&str], next: u64, slots: &[usize]) -> ScanShare {
        let mut bits = vec![0; 2_048];
        slots.iter().for_each(|slot| bits[slot / 8] |= 1 << (slot % 8));
        let lookup = |key: &&str| SlotLookups { slot: slot_of(key.as_bytes()).number(), hits: 1, misses: 0 };
        let lookups = keys.iter().map(lookup).collect();
        let keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        ScanShare { keys, next, slots: bits, lookups, ends_unsettled: false }
    }

    /// A step with these keys, each of which was looked up once for its type.
    fn step_of(keys: &[&str], next: u64) -> Option<WholeStep> {
        let ScanShare { keys, next, lookups, .. } = share(keys, next, &[]);
        Some(WholeStep { keys, next, lookups, ends_unsettled: false })
    }

    fn at(slot: u64) -> u64 {
        slot << CURSOR_BITS
    }

    #[test]
    fn a_step_ends_where_the_first_share_does() {
        // Slots: {a} 15495, {b} 3300, {c} 7365.
        let (b, c, a): (u64, u64, u64) = (3_300, 7_365, 15_495);
        assert_eq!([b, c, a].map(|it| it as usize), ["b", "c", "a"].map(|key| slot_of(key.as_bytes()).index()));
        let all: Vec<usize> = (0..SLOT_COUNT).collect();
        let (low, high) = all.split_at(8_000);
        let step = put_together(0, vec![share(&["b"], at(8_000), low), share(&["a"], 0, high)]);
        assert_eq!(step, step_of(&["b"], at(8_000)));
        let step = put_together(0, vec![share(&["b", "c"], 0, low), share(&["a"], 0, high)]);
        assert_eq!(step, step_of(&["b", "c", "a"], 0));
    }

    #[test]
    fn what_was_found_in_a_slot_that_is_not_done_counts() {
        let inside = at(3_300) | 7;
        let all: Vec<usize> = (0..SLOT_COUNT).filter(|slot| *slot != 3_300).collect();
        let step = put_together(0, vec![share(&["b"], inside, &[]), share(&["c"], 0, &all)]);
        assert_eq!(step, step_of(&["b"], inside));
        let step =
            put_together(inside, vec![share(&["b"], 0, &[0]), share(&["c"], 0, &(1..SLOT_COUNT).collect::<Vec<_>>())]);
        assert_eq!(step.map(|step| (step.keys.len(), step.next)), Some((2, 0)));
    }

    #[test]
    fn a_step_waits_for_a_slot_only_where_it_ends_there() {
        let all: Vec<usize> = (0..SLOT_COUNT).collect();
        let (low, high) = all.split_at(8_000);
        for (stopped, waits) in [(8_000, true), (9_000, false)] {
            let waiting = ScanShare { ends_unsettled: true, ..share(&[], at(stopped), low) };
            let step = put_together(0, vec![waiting, share(&[], at(8_000), high)]).expect("all are walked");
            assert_eq!((step.next, step.ends_unsettled), (at(8_000), waits));
        }
    }

    #[test]
    fn a_slot_that_nobody_walked_spoils_the_step() {
        let all: Vec<usize> = (0..SLOT_COUNT).filter(|slot| *slot != 9).collect();
        assert_eq!(put_together(0, vec![share(&[], 0, &all)]), None);
        assert_eq!(put_together(at(9), vec![share(&[], 0, &[])]), None);
        assert!(put_together(at(10), vec![share(&[], 0, &(0..SLOT_COUNT).collect::<Vec<_>>())]).is_some());
    }
}
