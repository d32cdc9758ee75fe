//! Requests that are scanned ahead of the one that runs, so that their keys' memory is on its way when their turn
//! comes.
//!
//! Looking a key up costs three misses of the cache one after the other: the slot, its index, the entry. Those of
//! different requests do not depend on each other, so a [`Window`] of [`REQUESTS_MAX`] requests makes each step for all
//! of them before the next (`Store::prefetch_slot`, `prefetch_index`, `prefetch_entry`). On the way each request's row
//! and the place of its first key are found, once.
//!
//! Nothing is run here, and nothing that is found here depends on what a request before it will do: the database is
//! looked at when a request runs. Limits are those at the window's start; the caller scans anew when they change.

use crate::base::ids::Slot;
use crate::commands::spec::Command;
use crate::commands::table::{self, CommandIndex};
use crate::protocol::{Args, Limits, ProtocolError, Range, Scan, Scanner};
use crate::replication::routing::Roles;
use crate::store::{Spot, Store};

/// Most requests in a window: what they touch fits the innermost cache beside everything else.
pub const REQUESTS_MAX: usize = 32;
/// Memory kept for the next window; what a larger one needed is given back.
const RANGES_KEPT_MAX: usize = 4_096;

/// What requests go to: the data, and who does what for its slots.
pub type Targets<'p> = (&'p Store, &'p Roles);

/// A request that is about to run.
#[derive(Clone, Copy, Debug)]
pub struct Request<'w> {
    /// Its arguments.
    pub args: Args<'w>,
    /// Its bytes, as they came.
    pub bytes: &'w [u8],
    /// Its command's row and place in the table.
    pub row: Option<(CommandIndex, &'static Command)>,
    /// Where the key belongs, for a command that always has exactly one.
    pub spot: Option<Spot>,
}

impl<'w> Request<'w> {
    /// A request that was scanned alone.
    pub fn new(args: Args<'w>, bytes: &'w [u8]) -> Request<'w> {
        let (row, spot) = looked_up(args);
        Request { args, bytes, row, spot }
    }

    /// The only key, for a command that always has exactly one.
    #[inline]
    pub fn key(&self) -> &'w [u8] {
        self.row.and_then(|(_, command)| self.args.get(command.only_key()?)).unwrap_or_default()
    }

    /// The slot of the only key.
    #[inline]
    pub fn slot(&self) -> Option<Slot> {
        self.spot.map(|spot| spot.slot)
    }
}

/// Why a window has no more requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// There may be more.
    Full,
    /// What follows has not all arrived.
    Dry,
    /// What follows is no request.
    Malformed(ProtocolError),
}

/// See the head of the file. One a worker, used again for every batch.
#[derive(Debug, Default)]
pub struct Window {
    scanned: Vec<Scanned>,
    ranges: Vec<Range>,
    end: usize,
}

#[derive(Debug)]
struct Scanned {
    from: usize,
    to: usize,
    /// Where its ranges begin and end; none for an inline request, whose arguments the scanner keeps.
    ranges: Option<(usize, usize)>,
    row: Option<(CommandIndex, &'static Command)>,
    spot: Option<Spot>,
}

impl Window {
    /// Scans up to `most` requests at the start of `input`, and has the memory fetched that they will need.
    pub fn fill(
        &mut self,
        scanner: &mut Scanner,
        input: &[u8],
        limits: &Limits,
        most: usize,
        to: Targets<'_>,
    ) -> Ending {
        self.scanned.clear();
        self.ranges.clear();
        self.ranges.shrink_to(RANGES_KEPT_MAX);
        self.end = 0;
        let ending = self.scan(scanner, input, limits, most, to);
        if self.scanned.len() > 1 {
            let spots = || self.scanned.iter().filter_map(|scanned| scanned.spot);
            spots().for_each(|spot| to.0.prefetch_index(spot));
            spots().for_each(|spot| to.0.prefetch_entry(spot));
        }
        ending
    }

    fn scan(&mut self, scanner: &mut Scanner, input: &[u8], limits: &Limits, most: usize, to: Targets<'_>) -> Ending {
        let (store, roles) = to;
        while self.scanned.len() < most {
            let Some(rest) = input.get(self.end..).filter(|rest| !rest.is_empty()) else { return Ending::Dry };
            let from = self.end;
            match scanner.scan(rest, limits) {
                Ok(Scan::Incomplete) => return Ending::Dry,
                Ok(Scan::Empty { consumed }) => self.end += consumed,
                Ok(Scan::Request { consumed }) => {
                    self.end += consumed;
                    let args = scanner.args(rest);
                    let (row, spot) = looked_up(args);
                    if let Some(spot) = spot {
                        store.prefetch_slot(spot);
                        roles.prefetch(spot.slot);
                    }
                    let first = self.ranges.len();
                    let is_inline = scanner.is_inline();
                    if !is_inline {
                        self.ranges.extend_from_slice(args.ranges());
                    }
                    let ranges = (!is_inline).then_some((first, self.ranges.len()));
                    self.scanned.push(Scanned { from, to: self.end, ranges, row, spot });
                    if is_inline {
                        return Ending::Full;
                    }
                }
                Err(error) => return Ending::Malformed(error),
            }
        }
        Ending::Full
    }

    /// How many bytes of the input the window has understood.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The requests, each with the offset behind it; `input` and `scanner` are those of the last [`Window::fill`].
    pub fn requests<'w>(
        &'w self,
        scanner: &'w Scanner,
        input: &'w [u8],
    ) -> impl Iterator<Item = (Request<'w>, usize)> + 'w {
        self.scanned.iter().filter_map(move |scanned| {
            let bytes = input.get(scanned.from..scanned.to)?;
            let args = match scanned.ranges {
                Some((first, last)) => Args::at(bytes, self.ranges.get(first..last)?),
                None => scanner.args(bytes),
            };
            Some((Request { args, bytes, row: scanned.row, spot: scanned.spot }, scanned.to))
        })
    }
}

/// The row of a request, and where its key belongs if it always has exactly one.
#[inline]
fn looked_up(args: Args<'_>) -> (Option<(CommandIndex, &'static Command)>, Option<Spot>) {
    let row = table::find(args.name());
    let key = row.and_then(|(_, command)| command.only_key()).and_then(|at| args.get(at));
    (row, key.map(Spot::of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ActorId;

    fn fill(window: &mut Window, scanner: &mut Scanner, input: &[u8], most: usize) -> Ending {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        window.fill(scanner, input, &Limits::default(), most, (&store, &Roles::default()))
    }

    fn names(window: &Window, scanner: &Scanner, input: &[u8]) -> Vec<String> {
        let requests = window.requests(scanner, input);
        requests.map(|(request, _)| request.args.iter().map(|arg| arg.escape_ascii().to_string()).collect()).collect()
    }

    #[test]
    fn requests_come_in_order_until_one_has_not_all_arrived() {
        let (mut window, mut scanner) = (Window::default(), Scanner::new());
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGE";
        assert_eq!(fill(&mut window, &mut scanner, input, 9), Ending::Dry);
        assert_eq!(names(&window, &scanner, input), ["GETa", "PING"]);
        assert_eq!(window.end(), input.len() - 10);
        let spots: Vec<_> = window.requests(&scanner, input).map(|(request, _)| request.slot()).collect();
        assert_eq!(spots, [Some(crate::base::ids::slot_of(b"a")), None]);
        assert_eq!(fill(&mut window, &mut scanner, b"*2\r\n$3\r\nGET\r\n$1\r\nz\r\n", 9), Ending::Dry);
    }

    #[test]
    fn an_inline_request_ends_a_window_and_so_does_its_size() {
        let (mut window, mut scanner) = (Window::default(), Scanner::new());
        let input = b"*1\r\n$4\r\nPING\r\nGET 'a b'\r\nPING\r\n";
        assert_eq!(fill(&mut window, &mut scanner, input, 9), Ending::Full);
        assert_eq!(names(&window, &scanner, input), ["PING", "GETa b"]);
        assert_eq!(fill(&mut window, &mut scanner, input, 1), Ending::Full);
        assert_eq!(names(&window, &scanner, input), ["PING"]);
        assert!(matches!(fill(&mut window, &mut scanner, b"*1\r\nx\r\n", 9), Ending::Malformed(_)));
    }
}
