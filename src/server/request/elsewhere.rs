//! Requests that this node does not run now: another coordinates their slot, or nobody can at the moment.
//!
//! What another node coordinates is asked of it once, together with all else of the batch that it coordinates (`batch`,
//! `forward`); a smart client is told where to go instead. What nobody can run is left for a moment later (`again`),
//! unless that has been so for long: then nobody is kept waiting for it.
//! Whoever was asked by another node passes nothing on: that one looks again.

use crate::base::ids::Slot;
use crate::base::metrics::Count;
use crate::commands::repeat::{AskAgain, ask_again};
use crate::commands::spec::{Command, flag};
use crate::protocol::Args;
use crate::replication::coordinator::Unserved;
use crate::replication::routing::SlotRoles;
use crate::server::batch::AGAIN_MAX;
use crate::server::batch::ask::Ask;
use crate::server::batch::question::Target;
use crate::server::batch::window::Request;
use crate::server::forward::wire::{Manner, manner};
use crate::server::request::run::{KeysFunction, Run, Step};
use crate::server::session::settings::Consistency;
use crate::server::state::client::state;

impl Run<'_> {
    /// Leaves a request that was not run, or only read, for a moment later, when the replicas may be there again.
    pub(super) fn put_off(&mut self, command: &Command, request: &Request<'_>, slots: &[Slot]) -> Step {
        if !self.origin.is_here() {
            return Step::NotRun;
        }
        self.leave_hole(None, command, request, slots);
        Step::Done
    }

    /// Leaves a place for a reply that `target` will give, or, if there is none, that is to be asked for again.
    fn leave_hole(&mut self, target: Option<Target>, command: &Command, request: &Request<'_>, slots: &[Slot]) {
        if target.is_none()
            && let Some(why) = self.long_unserved(command, slots)
        {
            self.worker.count_refusal(command.has(flag::WRITE));
            return self.fail(why.to_string());
        }
        let ask = Ask { since: self.since, ..self.batch.keep(request.bytes, self.session.db, self.session.proto) };
        let (ask_again, writes) = (self.ask_again(command, request.args), command.has(flag::WRITE));
        self.batch.leave_hole(target, ask, ask_again, writes);
        self.batch.order.leave_open(slots, writes);
    }

    /// Why nobody can run a command on these slots, if that has been so for as long as it would be waited for. What may
    /// have run before cannot be refused so: its outcome is unknown.
    fn long_unserved(&self, command: &Command, slots: &[Slot]) -> Option<Unserved> {
        let is_old = |since| self.batch.started.saturating_duration_since(since) > AGAIN_MAX;
        if self.since.is_some() || !self.view.since.is_some_and(is_old) {
            return None;
        }
        let writes = command.has(flag::WRITE);
        let groups = slots.iter().filter_map(|slot| self.view.roles.of(*slot));
        groups.map(|group| self.view.check_served(group, self.quorum, writes)).find_map(Result::err)
    }

    /// When a request whose fate is unknown may be asked again. A strict write never.
    fn ask_again(&self, command: &Command, args: Args<'_>) -> AskAgain {
        match self.quorum.strict && command.has(flag::WRITE) {
            true => AskAgain::Never,
            false => ask_again(command, args),
        }
    }

    /// Asks the coordinator of a slot, or tells a smart client where it is.
    pub(super) fn send_on(
        &mut self,
        group: &SlotRoles,
        slots: &[Slot],
        command: &'static Command,
        run: KeysFunction,
        request: &Request<'_>,
    ) -> Step {
        if !self.origin.is_here() {
            // One hop at most: whoever asked looks again.
            return Step::NotRun;
        }
        let at = group.coordinator;
        let peer = at.and_then(|at| self.view.peer(at));
        if self.session.cluster_face {
            let addr = peer.and_then(|peer| self.worker.cluster_addr(&peer.id));
            match (addr, slots) {
                (Some(addr), [slot, ..]) => self.fail(format!("MOVED {slot} {addr}")),
                _ => self.fail("CLUSTERDOWN Hash slot not served"),
            }
            return Step::Done;
        }
        let wish = Consistency { no_touch: self.client.is_in(state::NO_TOUCH), ..self.wish };
        let (manner, since) =
            (Manner { flags: manner::replies_in(self.session.proto), db: self.session.db, wish }, self.since);
        let target = at.filter(|_| peer.is_some()).map(|peer| Target { peer, manner, since });
        self.worker.metrics.count(Count::Forwarded, 1);
        match target.is_some_and(|target| self.read_own_copy(target, group, command, run, request)) {
            true => self.batch.order.leave_open(slots, false),
            false => self.leave_hole(target, command, request, slots),
        }
        Step::Done
    }
}
