//! The endless sequence of commands, the same for the same seed.

use crate::grammar::Form;
use crate::support::random::Random;
use crate::table::{AFTER_MULTI, BEFORE_MULTI, COMMON, Family, RARE, Row};
use crate::values;

/// One step on one of the connections; each connection to rondo has its twin to redis-server.
#[derive(Clone, Debug)]
pub struct Step {
    pub connection: usize,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    Command(Vec<Vec<u8>>),
    /// A SCAN, SSCAN or HSCAN, followed to the end on both sides: cursors may differ, what is found may not.
    ScanAll(Vec<Vec<u8>>),
    /// Waits until deadlines a few milliseconds ahead have passed on both sides.
    Pause,
}

impl Step {
    pub fn args(&self) -> &[Vec<u8>] {
        match &self.action {
            Action::Command(args) | Action::ScanAll(args) => args,
            Action::Pause => &[],
        }
    }
}

struct Rule {
    family: Family,
    not_in_multi: bool,
    only_as_it_stands: bool,
    form: Form,
}

impl Rule {
    fn new((family, marks, form): &Row) -> Rule {
        Rule {
            family: *family,
            not_in_multi: marks.contains('m'),
            only_as_it_stands: marks.contains('x'),
            form: Form::parse(form),
        }
    }
}

pub struct Generator {
    random: Random,
    connections: usize,
    in_cluster: bool,
    common: Vec<Rule>,
    rare: Vec<Rule>,
    before_multi: Vec<Form>,
    after_multi: Vec<Form>,
    /// Per connection: commands since MULTI, 0 when none is open.
    open: Vec<usize>,
}

impl Generator {
    pub fn new(seed: u64, connections: usize, in_cluster: bool) -> Generator {
        Generator {
            random: Random::new(seed),
            connections,
            in_cluster,
            common: COMMON.iter().map(Rule::new).collect(),
            rare: RARE.iter().map(Rule::new).collect(),
            before_multi: BEFORE_MULTI.iter().map(|form| Form::parse(form)).collect(),
            after_multi: AFTER_MULTI.iter().map(|form| Form::parse(form)).collect(),
            open: vec![0; connections],
        }
    }

    /// Some steps for one connection, to be sent in one go where none of them pauses or scans.
    pub fn batch(&mut self) -> Vec<Step> {
        let connection = self.random.below(self.connections);
        let mut steps = Vec::new();
        for _ in 0..1 + self.random.below(60) {
            self.step(connection, &mut steps);
        }
        if self.open[connection] == 0 && self.random.chance(3) {
            self.short_lifetime(connection, &mut steps);
        }
        steps
    }

    fn step(&mut self, connection: usize, steps: &mut Vec<Step>) {
        let open = self.open[connection];
        let transaction_percent = if open == 0 { 1 } else { (open * 5).min(30) };
        let action = if self.random.chance(transaction_percent) {
            self.transaction_command(connection)
        } else {
            if open > 0 {
                self.open[connection] += 1;
            }
            self.command(open > 0)
        };
        let args = match &action {
            Action::Command(args) | Action::ScanAll(args) => args.clone(),
            Action::Pause => Vec::new(),
        };
        if args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"RESET")) {
            self.open[connection] = 0;
        }
        steps.push(Step { connection, action });
        // Both servers chose members of their own: make them agree again.
        if args.len() > 1 && args[0].eq_ignore_ascii_case(b"SPOP") {
            let del = vec![b"DEL".to_vec(), args[1].clone()];
            steps.push(Step { connection, action: Action::Command(del) });
        }
    }

    fn transaction_command(&mut self, connection: usize) -> Action {
        let mut args = Vec::new();
        let forms = if self.open[connection] == 0 { &self.before_multi } else { &self.after_multi };
        let form = self.random.pick(forms);
        form.draw(&mut args, &mut self.random, Family::Any);
        if self.in_cluster && args[0].eq_ignore_ascii_case(b"WATCH") {
            // Refused for keys that another node coordinates.
            args = vec![b"UNWATCH".to_vec()];
        }
        let open = &mut self.open[connection];
        match (args[0].to_ascii_uppercase().as_slice(), args.len()) {
            (b"MULTI", 1) => *open = (*open).max(1),
            (b"EXEC" | b"DISCARD", 1) => *open = 0,
            _ => {}
        }
        Action::Command(args)
    }

    fn command(&mut self, in_multi: bool) -> Action {
        loop {
            let rules = if self.random.chance(5) { &self.rare } else { &self.common };
            let rule = self.random.pick(rules);
            if in_multi && rule.not_in_multi {
                continue;
            }
            // What clears everything leaves nothing to disagree about: only one in ten of them is sent.
            let mut args = Vec::new();
            rule.form.draw(&mut args, &mut self.random, rule.family);
            if args[0].to_ascii_uppercase().starts_with(b"FLUSH") && !self.random.chance(10) {
                continue;
            }
            if !rule.only_as_it_stands && self.random.chance(if in_multi { 1 } else { 6 }) {
                self.disturb(&mut args);
            }
            values::keep_lifetimes_far(&mut args);
            return if is_whole_scan(&args) { Action::ScanAll(args) } else { Action::Command(args) };
        }
    }

    /// Makes the command wrong, or right in an unusual way.
    fn disturb(&mut self, args: &mut Vec<Vec<u8>>) {
        let last = args.len() - 1;
        match self.random.below(6) {
            0 if last > 0 => drop(args.pop()),
            1 if last > 0 => drop(args.remove(1 + self.random.below(last))),
            2 => args.push(values::odd(&mut self.random)),
            3 if last > 0 => args[1 + self.random.below(last)] = values::odd(&mut self.random),
            4 => args.push(args[self.random.below(last + 1)].clone()),
            5 if last > 0 => {
                let (a, b) = (1 + self.random.below(last), 1 + self.random.below(last));
                args.swap(a, b);
            }
            _ => {}
        }
    }

    /// A key that expires at once: it must be gone on both sides after a pause.
    fn short_lifetime(&mut self, connection: usize, steps: &mut Vec<Step>) {
        let key = values::draw("k", &mut self.random, Family::String);
        let forms = ["SET $k v PX 3", "PEXPIRE $k 3", "PSETEX $k 2 v", "GETEX $k PX 2", "GET $k", "TTL $k"];
        let words = self.random.pick(&forms[..4]).split(' ');
        let short = words.map(|word| if word == "$k" { key.clone() } else { word.into() }).collect();
        let read = self.random.pick(&forms[4..]).split(' ');
        let read = read.map(|word| if word == "$k" { key.clone() } else { word.into() }).collect();
        let exists = vec![b"EXISTS".to_vec(), key.clone()];
        // DBSIZE may count what has expired until it is removed: no later command may see that.
        let del = vec![b"DEL".to_vec(), key];
        let commands = [exists, read, del].map(Action::Command);
        for action in [Action::Command(short), Action::Pause].into_iter().chain(commands) {
            steps.push(Step { connection, action });
        }
    }
}

/// A scan from the start that the servers will not refuse for its arguments' number.
fn is_whole_scan(args: &[Vec<u8>]) -> bool {
    match args[0].to_ascii_uppercase().as_slice() {
        b"SCAN" => args.get(1).is_some_and(|cursor| cursor == b"0"),
        b"HSCAN" | b"SSCAN" => args.get(2).is_some_and(|cursor| cursor == b"0"),
        _ => false,
    }
}
