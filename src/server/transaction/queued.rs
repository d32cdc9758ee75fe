//! The requests of a transaction, cut apart and looked up once: what everybody asks who decides about them.
//!
//! Their arguments are not kept, since the places of many small ones would take several times the bytes that are
//! queued: whoever locks a request's keys or runs it scans it.

use smallvec::SmallVec;

use crate::base::ids::Slot;
use crate::commands::spec::{Command, Handler, NodeCommand, flag, slots_of};
use crate::commands::{subcommands, table};
use crate::protocol::{Args, Limits, Scan, Scanner};

/// A request that was queued.
#[derive(Clone, Debug)]
pub struct Queued<'q> {
    /// Its bytes, as they came.
    pub bytes: &'q [u8],
    /// What it runs, a subcommand if it names one; `None` for what is no command.
    pub command: Option<&'static Command>,
    /// The slots of its keys, repeats included.
    pub slots: SmallVec<[Slot; 4]>,
}

impl<'q> Queued<'q> {
    fn new(bytes: &'q [u8], args: Args<'_>) -> Queued<'q> {
        let command = table::find(args.name()).map(|(_, command)| subcommands::running(command, args));
        let slots = command.map_or_else(SmallVec::new, |command| slots_of(command, args));
        Queued { bytes, command, slots }
    }

    /// Whether its command has any of these flags.
    pub fn has(&self, flags: u32) -> bool {
        self.command.is_some_and(|command| command.has(flags))
    }

    /// Whether it says which database those behind it mean.
    pub fn is_select(&self) -> bool {
        self.command.is_some_and(|command| matches!(command.handler, Handler::Node(NodeCommand::Select)))
    }

    /// Whether it does nothing but read keys.
    fn only_reads(&self) -> bool {
        let is_on_keys = |command: &Command| matches!(command.handler, Handler::Keys(_) | Handler::FanOut(..));
        self.command.is_some_and(is_on_keys) && !self.has(flag::WRITE)
    }
}

/// Cuts requests apart that stand one behind the other.
pub fn requests_of(queued: &[u8]) -> Vec<Queued<'_>> {
    let limits = Limits::judged();
    let (mut scanner, mut rest, mut requests) = (Scanner::new(), queued, Vec::new());
    while let Ok(Scan::Request { consumed }) = scanner.scan(rest, &limits) {
        let (request, behind) = rest.split_at(consumed.min(rest.len()));
        requests.push(Queued::new(request, scanner.args(request)));
        rest = behind;
    }
    requests
}

/// Whether requests do nothing but read keys, so that all of them may run once more.
pub fn only_read(requests: &[Queued<'_>]) -> bool {
    requests.iter().all(Queued::only_reads)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::ids::slot_of;

    #[test]
    fn a_request_is_known_by_what_it_runs_and_where_its_keys_are() {
        let queued = requests_of(b"MGET a b\r\nSELECT 3\r\nobject encoding a\r\nSET a 1\r\nnonsense a\r\n");
        let names: Vec<_> = queued.iter().map(|it| it.command.map(|command| command.name)).collect();
        assert_eq!(names, [Some("mget"), Some("select"), Some("object|encoding"), Some("set"), None]);
        let (a, b) = (slot_of(b"a"), slot_of(b"b"));
        let slots: Vec<&[Slot]> = queued.iter().map(|it| it.slots.as_slice()).collect();
        assert_eq!(slots, [&[a, b][..], &[], &[a], &[a], &[]]);
        assert_eq!(queued.iter().map(Queued::is_select).collect::<Vec<_>>(), [false, true, false, false, false]);
        assert_eq!(queued.iter().map(|it| it.has(flag::WRITE)).collect::<Vec<_>>(), [false, false, false, true, false]);
        let reads: Vec<_> = queued.iter().map(|it| only_read(std::slice::from_ref(it))).collect();
        assert_eq!(reads, [true, false, true, false, false]);
    }

    fn cut_apart(queued: &[u8]) -> Vec<&[u8]> {
        requests_of(queued).iter().map(|request| request.bytes).collect()
    }

    #[test]
    fn requests_are_cut_apart() {
        let queued = b"*1\r\n$4\r\nPING\r\nGET a\r\n*1\r\n$4\r\nTIME\r\n";
        assert_eq!(cut_apart(queued), [&b"*1\r\n$4\r\nPING\r\n"[..], b"GET a\r\n", b"*1\r\n$4\r\nTIME\r\n"]);
    }

    /// A value longer than `proto-max-bulk-len` is by default, 512 MB, between these bytes, and the length of all but
    /// what is behind it.
    pub fn with_long_value(before: &str, behind: &[u8]) -> (Vec<u8>, usize) {
        let value_bytes = (512 << 20) + 1;
        let head = format!("{before}${value_bytes}\r\n");
        let len = head.len() + value_bytes + 2;
        // Its zeros are neither written nor read, so that they take no memory.
        let mut bytes = vec![0; len + behind.len()];
        bytes[..head.len()].copy_from_slice(head.as_bytes());
        bytes[len - 2..len].copy_from_slice(b"\r\n");
        bytes[len..].copy_from_slice(behind);
        (bytes, len)
    }

    /// `proto-max-bulk-len` may let a client send values above its default.
    #[test]
    fn values_of_any_length_are_cut_apart() {
        let behind = b"*1\r\n$4\r\nPING\r\n";
        let (queued, len) = with_long_value("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n", behind);
        let lengths: Vec<usize> = cut_apart(&queued).iter().map(|request| request.len()).collect();
        assert_eq!(lengths, [len, behind.len()]);
    }
}
