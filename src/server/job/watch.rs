//! WATCH of keys that another node coordinates: it is asked what it holds of them (`copies`).

use crate::base::clock::Hlc;
use crate::base::ids::slot_of;
use crate::base::wire::Reader;
use crate::commands::CommandError;
use crate::protocol::{Args, Reply};
use crate::server::forward::call::Outcome;
use crate::server::forward::wire::QuestionKind;
use crate::server::job::Job;
use crate::server::job::values::garbled;
use crate::server::session::watched::{SEVERAL_COORDINATORS, TOO_MANY_WATCHED, Watched};
use crate::server::share::copies::KeyCopy;

impl Job {
    /// WATCH of keys that another node coordinates, all of them the same one.
    pub(super) async fn watch(
        &mut self,
        args: Args<'_>,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let worker = self.worker.clone();
        let view = worker.shared.view.load_full();
        let at = |key| view.coordinator_of(slot_of(key));
        let first = args.get(1).and_then(at);
        let down = CommandError::text("TRYAGAIN the coordinator of the watched keys does not answer");
        let peer = first.and_then(|at| view.peer(at));
        if args.iter().skip(1).any(|key| at(key) != first) {
            return Err(CommandError::text(SEVERAL_COORDINATORS));
        }
        let peer = peer.ok_or(down.clone())?;
        if !self.talk.transaction.watched.is_at(Some(peer.id)) {
            return Err(CommandError::text(SEVERAL_COORDINATORS));
        }
        if !self.talk.transaction.watched.has_room_for(args.iter().skip(1)) {
            return Err(CommandError::text(TOO_MANY_WATCHED));
        }
        let db = self.talk.session.db;
        let call = worker.ask(peer, self.manner(QuestionKind::Copies), request);
        let Outcome::Replied(answer) = call.answer().await else { return Err(down) };
        let mut reader = Reader::new(&answer);
        let since = Hlc(reader.u64().map_err(|_| garbled())?);
        for key in args.iter().skip(1) {
            let copy = KeyCopy::read(&mut reader, &worker.shared.node.store.actors).map_err(|_| garbled())?;
            let (seen, was_live) = (copy.version.unwrap_or_default(), copy.is_live);
            self.talk.transaction.watched.add(Watched {
                db,
                key: key.to_vec(),
                seen,
                was_live,
                since,
                missing: None,
                at: Some(peer.id),
            });
        }
        Reply::new(out, self.talk.session.proto).ok();
        Ok(())
    }
}
