//! Who runs what of a transaction: its requests, cut into groups that one node runs as a whole.
//!
//! Requests whose keys have different coordinators touch different keys, so it does not matter which of them come
//! first. All requests with keys of one coordinator therefore are one group, in their order, whatever stands between
//! them. A request about the whole keyspace, or with keys of several coordinators, stands alone: what comes before it
//! runs before, what comes behind it behind. One that may look at the store itself (CONFIG, CLIENT ...) is the last of
//! its group, since no slot may be locked while it runs, and what comes behind it begins new groups.
//!
//! A request without keys (PING, PUBLISH, SELECT ...) is for the node that the client talks to, and stands in the group
//! of that node. This group is the last: who hears of a message finds all that was written before it. SELECT also says
//! which database the keys behind it mean; so it stands in front of them in the groups of other nodes too.
//!
//! Watched keys bind all groups: theirs is the coordinator of every key, else nobody could say that a key is as it was
//! seen while another node changes what depends on it.
//!
//! Where there are several coordinators a group is cut when it grows long, since its slots are locked for as long as it
//! runs, and there may be many. Requests that have one coordinator are never cut, and so are atomic.
//!
//! Pure. Each request is looked at once to find its groups, so that a transaction of any number of groups costs what
//! its requests cost; with watched keys all that follow are looked at too, and those are over with the first group.

use std::collections::BTreeMap;

use crate::commands::CommandError;
use crate::server::transaction::runner::Runner;

const OTHER_COORDINATOR: &str =
    "ERR WATCH needs all keys of the transaction to have the same coordinator as the watched keys";

/// Weight from which on a group is cut. A group of so many runs for tens of milliseconds.
const WEIGHT_MAX: usize = 16 << 20;
/// What a request weighs beside its bytes.
const REQUEST_WEIGHT: usize = 1 << 10;

/// What decides about a request's group.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Who runs it.
    pub runner: Runner,
    /// It is the last of its group.
    pub is_last: bool,
    /// It says which database the keys behind it mean.
    pub selects: bool,
    /// Its bytes.
    pub bytes: usize,
}

/// Requests that one node runs as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group {
    /// Who runs them.
    pub at: u16,
    /// Their places in the transaction, in their order.
    pub places: Vec<usize>,
    /// Those of them that only say there which database is meant, in their order: they run at the client's node too.
    pub selects: Vec<usize>,
    /// Its bytes, and [`REQUEST_WEIGHT`] for each request.
    pub(super) weight: usize,
}

impl Group {
    /// The places of the requests that are answered by this group.
    pub fn answered(&self) -> impl Iterator<Item = usize> {
        self.places.iter().copied().filter(|place| self.answers(*place))
    }

    /// Whether the reply to one of its requests is the one that this group gives.
    pub fn answers(&self, place: usize) -> bool {
        self.selects.binary_search(&place).is_err()
    }

    /// The first place and the one behind the last, if all between them are its requests and answered by it.
    pub fn stretch(&self) -> Option<(usize, usize)> {
        let (first, last) = (*self.places.first()?, *self.places.last()?);
        (self.selects.is_empty() && last - first + 1 == self.places.len()).then_some((first, last + 1))
    }

    fn add(&mut self, place: usize, bytes: usize) {
        self.places.push(place);
        self.weight += bytes + REQUEST_WEIGHT;
    }
}

/// What is run next of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// These, one after the other.
    Groups(Vec<Group>),
    /// The request at this place, alone.
    Alone(usize),
    /// Nothing, before keys of the next requests have a coordinator. To run them alone meanwhile would not be atomic.
    Later,
}

/// The next groups of a transaction of which these requests are `left`, given with their places. `watched_at` is who
/// coordinates the watched keys, if there are any, and has the first group; who has no keys to run goes to `me`.
pub fn next_groups(
    left: impl Iterator<Item = (usize, Kind)> + Clone,
    watched_at: Option<u16>,
    me: u16,
) -> Result<Next, CommandError> {
    if let Some(at) = watched_at {
        let mut runners = left.clone().map(|(_, kind)| kind.runner);
        if runners.clone().any(|runner| runner == Runner::Nobody) {
            return Ok(Next::Later);
        }
        let is_elsewhere = |runner| runner == Runner::Several || matches!(runner, Runner::One(other) if other != at);
        if runners.any(is_elsewhere) {
            return Err(CommandError::text(OTHER_COORDINATOR));
        }
    }
    let mut sorted = Sorted::new(me, watched_at);
    for (place, kind) in left {
        match kind.runner {
            Runner::Nobody => return Ok(Next::Later),
            Runner::All | Runner::Several if sorted.is_empty() => return Ok(Next::Alone(place)),
            Runner::All | Runner::Several => break,
            Runner::Anyone | Runner::One(_) if !sorted.has_room_for(kind.runner) => break,
            Runner::Anyone => sorted.add_without_keys(place, &kind),
            Runner::One(at) => sorted.add(at, place, kind.bytes),
        }
        if kind.is_last {
            break;
        }
    }
    Ok(Next::Groups(sorted.groups()))
}

/// Requests by who runs them.
struct Sorted {
    me: u16,
    /// By member. This node's is there when it is to be asked: it has requests, with keys or without, or watched keys.
    groups: BTreeMap<u16, Group>,
    /// The members, in the order in which they came to have keys.
    members: Vec<u16>,
    /// The last request that selects a database, and its bytes.
    selected: Option<(usize, usize)>,
    weight_max: usize,
}

impl Sorted {
    fn new(me: u16, watched_at: Option<u16>) -> Sorted {
        let (groups, members) = (BTreeMap::new(), Vec::new());
        let mut sorted = Sorted { me, groups, members, selected: None, weight_max: 0 };
        // It is asked about the watched keys, whatever else it is to run.
        watched_at.into_iter().for_each(|at| _ = sorted.group(at));
        sorted
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether a request may join, now that there are these groups.
    fn has_room_for(&self, runner: Runner) -> bool {
        let is_new = matches!(runner, Runner::One(at) if !self.members.contains(&at));
        self.weight_max < WEIGHT_MAX || self.members.len() + usize::from(is_new) <= 1
    }

    fn add(&mut self, at: u16, place: usize, bytes: usize) {
        let selected = self.selected.filter(|_| at != self.me);
        if !self.members.contains(&at) {
            self.members.push(at);
        }
        let group = self.group(at);
        if let Some((select, bytes)) = selected
            && group.selects.last() != Some(&select)
        {
            group.selects.push(select);
            group.add(select, bytes);
        }
        group.add(place, bytes);
        let weight = group.weight;
        self.weight_max = self.weight_max.max(weight);
    }

    fn add_without_keys(&mut self, place: usize, kind: &Kind) {
        if kind.selects {
            self.selected = Some((place, kind.bytes));
        }
        self.group(self.me).add(place, kind.bytes);
    }

    fn group(&mut self, at: u16) -> &mut Group {
        self.groups.entry(at).or_insert_with(|| Group { at, ..Group::default() })
    }

    /// This node's group last.
    fn groups(mut self) -> Vec<Group> {
        let own = self.groups.remove(&self.me);
        let mut groups: Vec<Group> = self.members.iter().filter_map(|at| self.groups.remove(at)).collect();
        // That of watched keys alone.
        groups.extend(self.groups.into_values());
        groups.extend(own);
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const ME: u16 = 5;

    /// `0` to `9` have a coordinator, `-` has no keys, nor have `s` and `!`, which select a database and come last of
    /// their group; `*` has keys of several, `#` is about all, `?` has keys of nobody.
    fn kind_of(request: u8) -> Kind {
        let runner = match request {
            b'-' | b's' | b'!' => Runner::Anyone,
            b'*' => Runner::Several,
            b'#' => Runner::All,
            b'?' => Runner::Nobody,
            digit => Runner::One(u16::from(digit - b'0')),
        };
        Kind { runner, is_last: request == b'!', selects: request == b's', bytes: 10 }
    }

    /// The groups of a transaction, as [`ME`] finds them, the watched keys being with `watched_at`.
    fn groups(line: &str, mut watched_at: Option<u16>) -> Result<String, CommandError> {
        let (requests, mut text) = (line.as_bytes(), String::new());
        let mut left: Vec<usize> = (0..requests.len()).collect();
        while !left.is_empty() || watched_at.is_some() {
            let kinds = left.iter().map(|place| (*place, kind_of(requests[*place])));
            match next_groups(kinds, watched_at.take(), ME)? {
                Next::Groups(groups) => {
                    for group in groups {
                        let letters = group.places.iter().map(|place| char::from(requests[*place]));
                        text += &format!("{}:{} ", group.at, letters.collect::<String>());
                        left.retain(|place| !group.answered().any(|it| it == *place));
                    }
                }
                Next::Alone(place) => {
                    text += &format!("alone:{} ", char::from(requests[place]));
                    left.retain(|it| *it != place);
                }
                Next::Later => {
                    text += "later";
                    break;
                }
            }
        }
        Ok(text.trim_end().to_owned())
    }

    #[test]
    fn a_coordinator_has_one_group_and_what_is_about_several_nodes_stands_between_groups() {
        for (line, expected) in [
            ("1122", "1:11 2:22"),
            ("1212", "1:11 2:22"),
            ("5152", "1:1 2:2 5:55"),
            ("-1-2-1", "1:11 2:2 5:---"),
            ("--", "5:--"),
            ("12#21", "1:1 2:2 alone:# 2:2 1:1"),
            ("-*-", "5:- alone:* 5:-"),
            ("##", "alone:# alone:#"),
            ("-??", "later"),
            ("11?1", "later"),
            ("#?1", "alone:# later"),
            ("11!21", "1:11 5:! 2:2 1:1"),
            ("-!!2", "5:-! 5:! 2:2"),
            ("", ""),
        ] {
            assert_eq!(groups(line, None), Ok(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_selects_a_database_stands_before_keys_that_it_is_about() {
        for (line, expected) in [
            ("s11", "1:s11 5:s"),
            ("1s2s", "1:1 2:s2 5:ss"),
            ("ss1s12", "1:s1s1 2:s2 5:sss"),
            ("s1-s5", "1:s1 5:s-s5"),
            ("s1#1", "1:s1 5:s alone:# 1:1"),
        ] {
            assert_eq!(groups(line, None), Ok(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn watched_keys_go_with_the_first_group_and_want_all_keys_where_they_are() {
        for (line, expected) in [
            ("1-1", "1:11 5:-"),
            ("--", "1: 5:--"),
            ("", "1:"),
            ("#1", "1: alone:# 1:1"),
            ("1#1", "1:1 alone:# 1:1"),
            ("1?", "later"),
        ] {
            assert_eq!(groups(line, Some(1)), Ok(expected.to_owned()), "{line}");
        }
        for (line, expected) in [("5-5", "5:5-5"), ("", "5:"), ("#", "5: alone:#")] {
            assert_eq!(groups(line, Some(ME)), Ok(expected.to_owned()), "{line}");
        }
        for line in ["12", "-2", "1*", "#2"] {
            assert_eq!(groups(line, Some(1)), Err(CommandError::text(OTHER_COORDINATOR)), "{line}");
        }
    }

    #[test]
    fn long_groups_are_cut_where_there_are_several() {
        let most = WEIGHT_MAX.div_ceil(REQUEST_WEIGHT + 10);
        let lengths = |requests: &[u8]| -> Vec<(u16, usize)> {
            let kinds = requests.iter().map(|request| kind_of(*request)).enumerate();
            let Ok(Next::Groups(groups)) = next_groups(kinds, None, ME) else { panic!("there are some") };
            groups.iter().map(|group| (group.at, group.places.len())).collect()
        };
        assert_eq!(lengths(&b"12".repeat(most * 2)), [(1, most), (2, most - 1)]);
        assert_eq!(lengths(&b"1".repeat(most * 3)), [(1, most * 3)], "those of one are atomic");
        assert_eq!(lengths(&b"1-".repeat(most * 3)), [(1, most * 3), (ME, most * 3)]);
        assert_eq!(lengths(&[b"1".repeat(most * 3), vec![b'2']].concat()), [(1, most * 3)]);
    }

    #[test]
    fn finding_all_groups_takes_two_looks_at_a_request_at_most() {
        let (line, looks) = (b"1-2s1#".repeat(1_000), Cell::new(0));
        let mut left: &[u8] = &line;
        while !left.is_empty() {
            let kinds = left.iter().enumerate().map(|(place, request)| {
                looks.set(looks.get() + 1);
                (place, kind_of(*request))
            });
            let count = match next_groups(kinds, None, ME) {
                Ok(Next::Groups(groups)) => groups.iter().map(|group| group.answered().count()).sum(),
                _ => 1,
            };
            left = &left[count..];
        }
        assert!(looks.get() <= 2 * line.len(), "{} looks at {} requests", looks.get(), line.len());
    }

    /// What became of a request: when it ran, among all, and in which database.
    type Run = Option<(usize, usize)>;

    /// Runs a transaction whose databases are named by the places of what selected them. Whenever so many groups have
    /// run as `changes` say next, keys have other coordinators.
    fn run(requests: &[u8], changes: &[usize]) -> (Vec<Run>, usize) {
        let (mut runs, mut clock, mut session) = (vec![None; requests.len()], 0, usize::MAX);
        let mut changes = changes.iter();
        let mut shift = 0;
        while runs.contains(&None) {
            let left = (0..requests.len()).filter(|place| runs[*place].is_none());
            let moved = |kind: Kind| match kind.runner {
                Runner::One(at) => Kind { runner: Runner::One((at + shift) % 4 + 3), ..kind },
                _ => kind,
            };
            let kinds = left.map(|place| (place, moved(kind_of(requests[place]))));
            let groups = match next_groups(kinds, None, ME).expect("nothing is watched") {
                Next::Groups(groups) => groups,
                Next::Alone(place) => vec![Group { at: ME, places: vec![place], ..Group::default() }],
                Next::Later => panic!("all keys have a coordinator"),
            };
            assert!(groups.iter().all(|group| group.places.is_sorted()), "each is in order");
            for group in groups.iter().take(changes.next().copied().unwrap_or(usize::MAX)) {
                let mut database = session;
                for place in &group.places {
                    database = if requests[*place] == b's' { *place } else { database };
                    if group.answers(*place) {
                        assert_eq!(runs[*place], None, "each runs once");
                        runs[*place] = Some((clock, database));
                        clock += 1;
                    }
                }
                session = if group.at == ME { database } else { session };
            }
            shift += 1;
        }
        (runs, session)
    }

    proptest! {
        #[test]
        fn groups_in_whatever_order_do_what_the_requests_do_in_theirs(
            requests in prop::collection::vec(prop::sample::select(&b"00112233ss-!#*"[..]), 0..40),
            changes in prop::collection::vec(1usize..4, 0..10),
        ) {
            let (runs, database) = run(&requests, &changes);
            let mut selected = usize::MAX;
            for (place, request) in requests.iter().enumerate() {
                selected = if *request == b's' { place } else { selected };
                let Some((at, database)) = runs[place] else { panic!("all run") };
                prop_assert_eq!(database, selected, "the database of {}", place);
                for (before, other) in requests.iter().enumerate().take(place) {
                    // The same key; a key and a message that tells of it; whatever is about all keys.
                    let is_bound = other == request || b"s-!#*".contains(request) || b"!#*".contains(other);
                    let has_run_before = runs[before].is_some_and(|(when, _)| when < at);
                    prop_assert!(!is_bound || has_run_before, "{} before {}", before, place);
                }
            }
            prop_assert_eq!(database, selected);
        }
    }
}
