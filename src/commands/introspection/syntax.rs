//! Reads the arguments of a command out of its row's syntax, for COMMAND DOCS.
//!
//! The notation is the manual's: lower-case words are values, others are tokens; a token and the value behind it are
//! one argument; `[...]` is optional, `<...>` groups, `|` separates alternatives; a group that repeats what stands
//! before it and ends with `...` says that it may be given several times.
//!
//! The rows are ours, so a text that is not in this notation gives fewer arguments, never an error.

/// One argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    /// Its name, in lower case.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The fixed word before its value, or alone.
    pub token: Option<String>,
    /// It may be left out.
    pub optional: bool,
    /// It may be given several times.
    pub multiple: bool,
    /// Its token is repeated with it.
    pub multiple_token: bool,
}

/// What an argument is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A value, with COMMAND DOCS's name for its type.
    Value(&'static str),
    /// A token alone.
    PureToken,
    /// One of these.
    OneOf(Vec<Argument>),
    /// These in order.
    Block(Vec<Argument>),
}

impl Kind {
    /// The name of the kind in COMMAND DOCS.
    pub fn type_name(&self) -> &'static str {
        match self {
            Kind::Value(name) => name,
            Kind::PureToken => "pure-token",
            Kind::OneOf(_) => "oneof",
            Kind::Block(_) => "block",
        }
    }
}

/// The arguments that a syntax names.
pub fn parse(syntax: &str) -> Vec<Argument> {
    let words = words(syntax);
    let mut reader = Reader { words: &words };
    let mut alternatives = reader.group();
    if alternatives.len() == 1 { alternatives.pop().unwrap_or_default() } else { Vec::from_iter(one_of(alternatives)) }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Word<'a> {
    /// `[`, or `<`, which groups without making optional.
    Open {
        optional: bool,
    },
    Close,
    Bar,
    Dots,
    Token(&'a str),
    Value(&'a str),
}

fn words(syntax: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = syntax;
    while !rest.is_empty() {
        let end = rest.find(['[', ']', '<', '>', '|', ' ']).unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        match text {
            "" => {}
            "..." => words.push(Word::Dots),
            token if !token.contains(|letter: char| letter.is_ascii_lowercase()) => words.push(Word::Token(token)),
            value => words.push(Word::Value(value)),
        }
        let mut after = after.chars();
        match after.next() {
            Some('[') => words.push(Word::Open { optional: true }),
            Some('<') => words.push(Word::Open { optional: false }),
            Some(']' | '>') => words.push(Word::Close),
            Some('|') => words.push(Word::Bar),
            _ => {}
        }
        rest = after.as_str();
    }
    words
}

struct Reader<'a> {
    words: &'a [Word<'a>],
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a Word<'a>> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// The alternatives up to the end of the group, each a sequence of arguments.
    fn group(&mut self) -> Vec<Vec<Argument>> {
        let (mut alternatives, mut sequence) = (Vec::new(), Vec::<Argument>::new());
        while let Some(word) = self.next() {
            match word {
                Word::Close => break,
                Word::Bar => alternatives.push(std::mem::take(&mut sequence)),
                Word::Dots => {
                    if let Some(last) = sequence.last_mut() {
                        last.multiple = true;
                    }
                }
                Word::Value(name) => sequence.push(Argument::new(name, Kind::Value(value_type(name)))),
                Word::Token(token) => sequence.push(self.token(token)),
                Word::Open { optional } => self.open(*optional, &mut sequence),
            }
        }
        alternatives.push(sequence);
        alternatives
    }

    /// What begins with a token: the token alone, or with the value or group behind it.
    fn token(&mut self, token: &str) -> Argument {
        let behind = match self.words.first() {
            Some(Word::Value(name)) => {
                self.next();
                Some(Argument::new(name, Kind::Value(value_type(name))))
            }
            Some(Word::Open { optional: false }) => {
                self.next();
                one_of(self.group())
            }
            _ => None,
        };
        let alone = || Argument::new(&token.to_ascii_lowercase(), Kind::PureToken);
        Argument { token: Some(token.to_owned()), ..behind.unwrap_or_else(alone) }
    }

    /// A group: an optional argument, or a repetition of those before it.
    fn open(&mut self, optional: bool, sequence: &mut Vec<Argument>) {
        let alternatives = self.group();
        if let [repeated] = alternatives.as_slice()
            && repeated.last().is_some_and(|last| last.multiple)
            && ends_with(sequence, repeated)
        {
            repeat_last(sequence, repeated);
            return;
        }
        sequence.extend(one_of(alternatives).map(|it| Argument { optional: it.optional || optional, ..it }));
    }
}

/// Whether a sequence ends with these arguments, apart from being repeated, with or without their tokens.
fn ends_with(sequence: &[Argument], repeated: &[Argument]) -> bool {
    let tail = sequence.len().checked_sub(repeated.len()).and_then(|from| sequence.get(from..)).unwrap_or_default();
    let same = |(one, other): (&Argument, &Argument)| {
        one.name == other.name && (other.token.is_none() || one.token == other.token)
    };
    tail.len() == repeated.len() && tail.iter().zip(repeated).all(same)
}

/// Makes the arguments at the end one that may be given several times.
fn repeat_last(sequence: &mut Vec<Argument>, repeated: &[Argument]) {
    let tail = sequence.split_off(sequence.len().saturating_sub(repeated.len()));
    let multiple_token = matches!(repeated, [Argument { token: Some(_), .. }]);
    sequence.extend(one_of(vec![tail]).map(|it| Argument { multiple: true, multiple_token, ..it }));
}

/// Alternatives, or a sequence, as one argument; `None` when there is nothing.
fn one_of(mut alternatives: Vec<Vec<Argument>>) -> Option<Argument> {
    if alternatives.len() == 1 {
        let mut sequence = alternatives.pop()?;
        return if sequence.len() < 2 {
            sequence.pop()
        } else {
            Some(Argument::new(&joined(&sequence), Kind::Block(sequence)))
        };
    }
    // `TYPE NORMAL|MASTER`: the first word belongs to all.
    let mut token = None;
    let pure = |sequence: &Vec<Argument>| matches!(sequence[..], [Argument { kind: Kind::PureToken, .. }]);
    if let Some((first, others)) = alternatives.split_first_mut()
        && matches!(first[..], [Argument { kind: Kind::PureToken, .. }, Argument { kind: Kind::PureToken, .. }])
        && others.iter().all(pure)
    {
        token = first.remove(0).token;
    }
    let choices: Vec<Argument> = alternatives.into_iter().filter_map(|sequence| one_of(vec![sequence])).collect();
    let choices = choices.into_iter().map(|choice| Argument { optional: false, ..choice }).collect::<Vec<_>>();
    Some(Argument { token, ..Argument::new(&joined(&choices), Kind::OneOf(choices)) })
}

fn joined(arguments: &[Argument]) -> String {
    arguments.iter().map(|argument| argument.name.as_str()).collect::<Vec<_>>().join("_")
}

impl Argument {
    fn new(name: &str, kind: Kind) -> Argument {
        let name = name.to_owned();
        Argument { name, kind, token: None, optional: false, multiple: false, multiple_token: false }
    }
}

/// The type of the values of this name: the manual uses one name for one type.
fn value_type(name: &str) -> &'static str {
    match name {
        "key" | "key1" | "key2" | "newkey" | "source" | "destination" | "destkey" => "key",
        "pattern" => "pattern",
        name if name.starts_with("unix-time") => "unix-time",
        "bit" | "client-id" | "count" | "cursor" | "db" | "decrement" | "destination-db" | "end" | "increment"
        | "index" | "index1" | "index2" | "len" | "limit" | "milliseconds" | "numkeys" | "numreplicas" | "offset"
        | "protover" | "replicas" | "seconds" | "slot" | "start" | "timeout" => "integer",
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::{Argument, Kind, parse};

    /// The arguments in a notation of their own: token=, name:type, ? optional, * multiple, *T with its token.
    fn shown(arguments: &[Argument]) -> String {
        let one = |argument: &Argument| {
            let token = argument.token.iter().map(|token| format!("{token}=")).collect::<String>();
            let body = match &argument.kind {
                Kind::Value(name) => format!("{}:{name}", argument.name),
                Kind::PureToken => String::new(),
                Kind::OneOf(choices) => format!(
                    "({})",
                    choices.iter().map(|it| shown(std::slice::from_ref(it))).collect::<Vec<_>>().join("|")
                ),
                Kind::Block(parts) => format!("{{{}}}", shown(parts)),
            };
            let marks = [(argument.optional, "?"), (argument.multiple, "*"), (argument.multiple_token, "T")];
            let marks = marks.iter().filter(|mark| mark.0).map(|mark| mark.1).collect::<String>();
            format!("{token}{body}{marks}")
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_notation_of_the_manual_is_read() {
        let cases = [
            ("", ""),
            ("key", "key:key"),
            ("key field value [field value ...]", "key:key {field:string value:string}*"),
            ("key [count [WITHVALUES]]", "key:key {count:integer WITHVALUES=?}?"),
            (
                "key cursor [MATCH pattern] [COUNT count]",
                "key:key cursor:integer MATCH=pattern:pattern? COUNT=count:integer?",
            ),
            ("key [NX|XX] [GET] [EX seconds|KEEPTTL]", "key:key (NX=|XX=)? GET=? (EX=seconds:integer|KEEPTTL=)?"),
            ("[section [section ...]]", "section:string?*"),
            ("subcommand [argument ...]", "subcommand:string argument:string?*"),
            ("<ON|OFF> [PREFIX prefix [PREFIX prefix ...]]", "(ON=|OFF=) PREFIX=prefix:string?*T"),
            ("[TYPE NORMAL|MASTER] [ID client-id [client-id ...]]", "TYPE=(NORMAL=|MASTER=)? ID=client-id:integer?*"),
            ("[FILTERBY <MODULE module|PATTERN pattern>]", "FILTERBY=(MODULE=module:string|PATTERN=pattern:pattern)?"),
        ];
        for (syntax, wanted) in cases {
            assert_eq!(shown(&parse(syntax)), wanted, "{syntax}");
        }
    }

    #[test]
    fn any_text_gives_something() {
        for text in ["]", "[", "...", "|", "[[", "a|b", "<>", "] a [", "[...]", "é [è ...]"] {
            let _ = parse(text);
        }
    }
}
