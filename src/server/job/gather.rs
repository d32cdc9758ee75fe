//! A command that may be cut by key (MGET, MSET, DEL ...) over several coordinators: one question for each coordinator,
//! with all of its keys, and the replies put together in the order of the keys.
//!
//! Each coordinator runs its part atomically; the parts are not atomic together. A part whose keys have got several
//! coordinators on the way is cut again. When a part of a write fails and another does not, the reply says so: by the
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

/// The keys of one coordinator, by their positions among the arguments.
struct KeysAt {
    at: Option<u16>,
    positions: Vec<usize>,
}

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
        let view = self.worker.shared.view.load_full();
        let parts = keys_by_coordinator(&view, command, args);
        let proto = std::mem::replace(&mut self.talk.session.proto, Proto::Resp2);
        let mut batch = Batch::new(std::time::Instant::now());
        for part in &parts {
            let of_key = |at: &usize| (*at..*at + step).filter_map(|at| args.get(at));
            let words: Vec<&[u8]> =
                std::iter::once(args.name()).chain(part.positions.iter().flat_map(of_key)).collect();
            let mut request = Vec::new();
            encode_command(&mut request, &words);
            self.dispatch_part(&view, &request, &mut batch);
        }
        self.resolve(&mut batch).await;
        self.talk.session.proto = proto;
        let mut replies = Vec::new();
        batch.finish(&mut replies);
        let values = values_of(&replies)?;
        if values.len() != parts.len() {
            return Err(garbled());
        }
        if let Some(error) = error_of(command.has(flag::WRITE), &values) {
            Reply::new(out, self.talk.session.proto).error(error);
            return Ok(());
        }
        self.combine(command.key_positions(args), &parts, values, gather, out)
    }

    fn combine(
        &self,
        positions: impl ExactSizeIterator<Item = usize>,
        parts: &[KeysAt],
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
                for (part, value) in parts.iter().zip(values) {
                    let Value::Array(items) = value else { return Err(garbled()) };
                    found.extend(part.positions.iter().copied().zip(items));
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
fn keys_by_coordinator(view: &View, command: &Command, args: Args<'_>) -> Vec<KeysAt> {
    let mut parts: Vec<KeysAt> = Vec::new();
    for position in command.key_positions(args) {
        let slot = slot_of(args.get(position).unwrap_or_default());
        let at = view.coordinator_of(slot);
        match parts.iter_mut().find(|part| part.at == at) {
            Some(part) => part.positions.push(position),
            None => parts.push(KeysAt { at, positions: vec![position] }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

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
