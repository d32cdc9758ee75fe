//! Requests that this node does not run now: another coordinates their slot, or nobody can at the moment.
//!
//! What another node coordinates is asked of it once, together with all else of the batch that it coordinates (`batch`,
//! `forward`); a smart client is told where to go instead. What nobody can run is left for a moment later (`retry`),
//! unless that has been so for long: then nobody is kept waiting for it. Of what another node coordinates that is
//! believed when that one has not run it either, because it may reach replicas that this one does not.
//! Whoever was asked by another node passes nothing on: that one looks again.

use crate::base::ids::Slot;
use crate::base::metrics::Count;
use crate::commands::repeat::{RetryPolicy, retry_policy};
use crate::commands::spec::{Command, KeysFunction, flag};
use crate::protocol::Args;
use crate::replication::routing::SlotRoles;
use crate::replication::view::Unserved;
use crate::server::batch::RETRY_FOR_MAX;
use crate::server::batch::ask::Ask;
use crate::server::batch::question::{RequestKind, Target};
use crate::server::batch::window::Request;
use crate::server::error::RequestError;
use crate::server::forward::wire::{Manner, QuestionKind};
use crate::server::request::run::{Origin, Run, Step};
use crate::server::session::settings::Consistency;
use crate::server::state::client::state;

/// A request of so many arguments may take long, whatever its command: who runs an MSET of 67,000 keys is silent for
/// longer than asking somebody else would wait.
const LONG_ARGS_MIN: usize = 10_000;

impl Run<'_> {
    /// Leaves a request that was not run, or only read, for a moment later, when the replicas may be there again.
    pub(super) fn put_off(&mut self, command: &Command, request: &Request<'_>, slots: &[Slot]) -> Step {
        if !self.origin.is_here() {
            return Step::NotRun;
        }
        if let Some(why) = self.long_unserved(command, slots) {
            return self.refuse(command, why);
        }
        self.leave_hole(None, command, request, slots);
        Step::Done
    }

    fn refuse(&mut self, command: &Command, why: Unserved) -> Step {
        self.worker.count_refusal(command.has(flag::WRITE));
        self.fail(why.text());
        Step::Done
    }

    /// Leaves a place for a reply that `target` will give, or, if there is none, that is to be asked for again.
    fn leave_hole(&mut self, target: Option<Target>, command: &Command, request: &Request<'_>, slots: &[Slot]) {
        let ask = Ask { fence: self.fence, ..self.batch.keep(request.bytes, self.session.db, self.session.proto) };
        let (retry_policy, writes) = (self.retry_policy(command, request.args), command.has(flag::WRITE));
        let is_long = command.has(flag::LONG) || request.args.len() >= LONG_ARGS_MIN;
        self.batch.leave_hole(target, ask, RequestKind { retry_policy, writes, is_long });
        self.batch.order.leave_open(slots, writes);
    }

    /// Why nobody can run a command on these slots, if that has been so for as long as it would be waited for. What may
    /// have run before cannot be refused so: its outcome is unknown.
    fn long_unserved(&self, command: &Command, slots: &[Slot]) -> Option<Unserved> {
        let now = self.batch.started;
        let why = || self.view.long_unserved(slots, self.quorum, command.has(flag::WRITE), now, RETRY_FOR_MAX);
        if self.fence.is_some() { None } else { why() }
    }

    /// When a request whose fate is unknown may be asked again. A strict write never.
    fn retry_policy(&self, command: &Command, args: Args<'_>) -> RetryPolicy {
        match self.quorum.strict && command.has(flag::WRITE) {
            true => RetryPolicy::Never,
            false => retry_policy(command, args),
        }
    }

    /// Asks the coordinator of a slot, or tells a smart client where it is.
    pub(super) fn send_on(
        &mut self,
        roles: &SlotRoles,
        slots: &[Slot],
        command: &'static Command,
        function: KeysFunction,
        request: &Request<'_>,
    ) -> Step {
        if !self.origin.is_here() {
            // One hop at most: whoever asked looks again.
            return Step::NotRun;
        }
        if self.session.cluster_face {
            let error = slots.first().map_or(RequestError::NotServed.refusal(), |slot| self.moved(*slot));
            self.fail_with(&error);
            return Step::Done;
        }
        let at = roles.coordinator;
        let peer = at.and_then(|at| self.view.peer(at));
        let wish = Consistency { no_touch: self.client.is_in(state::NO_TOUCH), ..self.wish };
        let manner = Manner { kind: QuestionKind::Each, proto: self.session.proto, db: self.session.db, wish };
        let target = at.filter(|_| peer.is_some()).map(|peer| Target { peer, manner, fence: self.fence });
        // Whoever was asked before may see more than this node, but could not run it either.
        if (target.is_none() || self.origin == Origin::Again)
            && let Some(why) = self.long_unserved(command, slots)
        {
            return self.refuse(command, why);
        }
        if target.is_some_and(|target| self.batch.goes_apart(target)) {
            self.batch.order.divide();
            if self.batch.order.blocks(slots, command.has(flag::WRITE)) {
                return Step::Behind;
            }
        }
        self.worker.metrics.count(Count::Forwarded, 1);
        match target.is_some_and(|target| self.read_own_copy(target, roles, command, function, request)) {
            true => self.batch.order.leave_open(slots, false),
            false => self.leave_hole(target, command, request, slots),
        }
        Step::Done
    }
}
