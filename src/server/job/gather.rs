//! A command that may be cut by key (MGET, MSET, DEL ...) over several coordinators: one question for each coordinator,
//! with all of its keys, and the replies put together in the order of the keys.
//!
//! Each coordinator runs its part atomically; the parts are not atomic together. A part whose keys have got several
//! coordinators on the way is cut again.

use crate::base::ids::slot_of;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Gather, Keys};
use crate::protocol::client::{Value, encode_command};
use crate::protocol::{Args, Proto, Reply};
use crate::replication::view::View;
use crate::server::batch::Batch;
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
        let parts = parts_of(&view, command, args);
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
        self.put_together(command.key_positions(args), &parts, values, gather, out)
    }

    fn put_together(
        &self,
        positions: impl ExactSizeIterator<Item = usize>,
        parts: &[KeysAt],
        values: Vec<Value>,
        gather: Gather,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let mut reply = Reply::new(out, self.talk.session.proto);
        if let Some(Value::Error(text)) = values.iter().find(|value| matches!(value, Value::Error(_))) {
            reply.error(text);
            return Ok(());
        }
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

/// The keys of a request by their coordinators, in the order in which these first appear.
fn parts_of(view: &View, command: &Command, args: Args<'_>) -> Vec<KeysAt> {
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
