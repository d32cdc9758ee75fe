//! A command that may be cut by key (MGET, MSET, DEL ...) over several coordinators: one question for each coordinator,
//! with all of its keys, and the replies put together in the order of the keys.
//!
//! Each coordinator runs its part atomically; the parts are not atomic together. A coordinator of very many keys has
//! several parts, one after the other: a question that keeps a node busy for as long as a dead one is waited for would
//! be asked of the next, and be as much work there. A part whose keys have got several coordinators on the way is cut
//! again. When a part of a write fails and another does not, the reply says so: by the
//! failure's own error a client would take it that nothing was done.

use crate::base::ids::slot_of;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Gather, Keys, flag};
use crate::protocol::client::{Value, encode_command};
use crate::protocol::{Args, Proto, Reply};
use crate::replication::view::View;
use crate::server::batch::Batch;
use crate::server::error::RequestError;
use crate::server::job::Job;
use crate::server::job::values::{as_int, garbled, values_of};

/// Most keys of a part: some ten milliseconds of work.
const PART_KEYS_MAX: usize = 4_096;

/// Keys of one coordinator, by their positions among the arguments.
type Part = Vec<usize>;

impl Job {
    /// Runs `command` in parts and puts their replies together.
    pub(super) async fn fan_out(
        &mut self,
        command: &Command,
        gather: Gather,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let step = match command.keys {
            Keys::Range { step, .. } => usize::from(step),
            _ => 1,
        };
        if !(args.len() - 1).is_multiple_of(step) {
            return Err(CommandError::Arity(command.name.into()));
        }
        let rounds = rounds_of(keys_by_coordinator(&self.worker.shared.view.load(), command, args));
        let mut values = Vec::new();
        for parts in &rounds {
            let of_key = |at: &usize| (*at..*at + step).filter_map(|at| args.get(at));
            let words = |part: &Part| -> Vec<&[u8]> {
                std::iter::once(args.name()).chain(part.iter().flat_map(of_key)).collect()
            };
            let found = self.round(parts.iter().map(words)).await?;
            let has_failed = found.iter().any(|value| matches!(value, Value::Error(_)));
            values.extend(found);
            if has_failed {
                break;
            }
        }
        if let Some(error) = error_of(command.has(flag::WRITE), &values) {
            Reply::new(out, self.talk.session.proto).error(error);
            return Ok(());
        }
        let parts = rounds.iter().flatten();
        self.combine(command.key_positions(args), parts, values, gather, out)
    }

    /// Runs parts of a command, each given by its words, at the same time; gives their replies.
    async fn round<'w>(
        &mut self,
        parts: impl ExactSizeIterator<Item = Vec<&'w [u8]>>,
    ) -> Result<Vec<Value>, CommandError> {
        let (view, count) = (self.worker.shared.view.load_full(), parts.len());
        let proto = std::mem::replace(&mut self.talk.session.proto, Proto::Resp2);
        let mut batch = Batch::new(std::time::Instant::now());
        for words in parts {
            let mut request = Vec::new();
            encode_command(&mut request, &words);
            self.dispatch_part(&view, &request, &mut batch);
        }
        self.resolve(&mut batch).await;
        self.talk.session.proto = proto;
        let mut replies = Vec::new();
        batch.finish(&mut replies);
        let values = values_of(&replies)?;
        if values.len() == count { Ok(values) } else { Err(garbled()) }
    }

    fn combine<'p>(
        &self,
        positions: impl ExactSizeIterator<Item = usize>,
        parts: impl Iterator<Item = &'p Part>,
        values: Vec<Value>,
        gather: Gather,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let mut reply = Reply::new(out, self.talk.session.proto);
        match gather {
            Gather::Sum => reply.int(values.iter().map(as_int).sum()),
            Gather::Ok => reply.ok(),
            Gather::Concat => {
                let mut found = std::collections::BTreeMap::new();
                for (part, value) in parts.zip(values) {
                    let Value::Array(items) = value else { return Err(garbled()) };
                    found.extend(part.iter().copied().zip(items));
                }
                reply.array(positions.len());
                for at in positions {
                    match found.get(&at) {
                        Some(Value::Bulk(bytes)) => reply.bulk(bytes),
                        Some(Value::Null) => reply.null(),
                        _ => return Err(garbled()),
                    }
                }
            }
        }
        Ok(())
    }
}

/// What to answer if some parts have failed, given the replies to all: the first error, unless keys may have been
/// changed all the same.
fn error_of(writes: bool, values: &[Value]) -> Option<&[u8]> {
    let errors = values.iter().filter_map(|value| if let Value::Error(text) = value { Some(&text[..]) } else { None });
    let errors: Vec<&[u8]> = errors.collect();
    let first = errors.first()?;
    let of = |error: RequestError| errors.iter().find(|text| RequestError::of(text) == Some(error));
    let unknown = of(RequestError::UnknownOutcome).or_else(|| of(RequestError::PartlyDone));
    let is_partly_done = writes && errors.len() < values.len();
    let partly_done = is_partly_done.then_some(RequestError::PartlyDone.text().as_bytes());
    Some(unknown.copied().or(partly_done).unwrap_or(first))
}

/// The keys of a request by their coordinators, in the order in which these first appear.
fn keys_by_coordinator(view: &View, command: &Command, args: Args<'_>) -> Vec<Part> {
    let mut parts: Vec<(Option<u16>, Part)> = Vec::new();
    for position in command.key_positions(args) {
        let slot = slot_of(args.get(position).unwrap_or_default());
        let coordinator = view.coordinator_of(slot);
        match parts.iter_mut().find(|(at, _)| *at == coordinator) {
            Some((_, part)) => part.push(position),
            None => parts.push((coordinator, vec![position])),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// What is asked at the same time: of each coordinator no more than [`PART_KEYS_MAX`] keys.
fn rounds_of(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let mut rounds: Vec<Vec<Part>> = Vec::new();
    for part in &parts {
        for (round, keys) in part.chunks(PART_KEYS_MAX).enumerate() {
            match rounds.get_mut(round) {
                Some(round) => round.push(keys.to_vec()),
                None => rounds.push(vec![keys.to_vec()]),
            }
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_of_a_coordinator_are_asked_for_in_several_rounds() {
        let part = |keys: std::ops::Range<usize>| keys.collect::<Part>();
        let most = PART_KEYS_MAX;
        assert_eq!(rounds_of(vec![part(0..2), part(2..most)]), [[part(0..2), part(2..most)]]);
        let rounds = rounds_of(vec![part(0..2), part(2..2 * most + 3)]);
        let [first, second, third] = &rounds[..] else { panic!("three rounds: {}", rounds.len()) };
        assert_eq!(first[..], [part(0..2), part(2..most + 2)]);
        assert_eq!(
            (&second[..], &third[..]),
            (&[part(most + 2..2 * most + 2)][..], &[part(2 * most + 2..2 * most + 3)][..])
        );
    }

    #[test]
    fn an_error_does_not_hide_that_other_parts_were_done() {
        let error = |error: RequestError| Value::Error(error.text().into());
        let (full, down) = (error(RequestError::OutOfMemory), error(RequestError::NobodyInTime));
        let unknown = error(RequestError::UnknownOutcome);
        let ok = Value::Simple("OK".into());
        for (writes, values, expected) in [
            (true, vec![ok.clone(), ok.clone()], None),
            (true, vec![full.clone(), down.clone()], Some(RequestError::OutOfMemory)),
            (true, vec![ok.clone(), full.clone()], Some(RequestError::PartlyDone)),
            (true, vec![down.clone(), ok.clone()], Some(RequestError::PartlyDone)),
            (true, vec![ok.clone(), down.clone(), unknown.clone()], Some(RequestError::UnknownOutcome)),
            (true, vec![down.clone(), unknown.clone()], Some(RequestError::UnknownOutcome)),
            (false, vec![ok.clone(), down.clone()], Some(RequestError::NobodyInTime)),
        ] {
            assert_eq!(error_of(writes, &values).and_then(RequestError::of), expected, "{values:?}");
        }
    }
}
