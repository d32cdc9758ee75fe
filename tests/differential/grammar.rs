//! Turns a line of `table.rs` into a command.

use crate::support::random::Random;
use crate::table::Family;
use crate::values;

/// A parsed form.
#[derive(Clone, Debug)]
pub enum Form {
    /// Sent as it is.
    Word(String),
    /// A random value of this kind.
    Value(String),
    Sequence(Vec<Form>),
    /// One of these; the flag says that none will do as well.
    Choice(Vec<Form>, bool),
    /// One to four times.
    Repeat(Box<Form>),
}

impl Form {
    /// Panics on a line that is no form: the table is part of this test.
    pub fn parse(line: &str) -> Form {
        let mut spaced = String::new();
        for c in line.chars() {
            match c {
                '[' | ']' | '(' | ')' | '{' | '}' | '|' => spaced.extend([' ', c, ' ']),
                _ => spaced.push(c),
            }
        }
        let tokens: Vec<&str> = spaced.split_whitespace().collect();
        let mut at = 0;
        let form = Form::alternatives(&tokens, &mut at, "");
        assert!(at == tokens.len(), "{line}: a closing sign too many");
        form.into_single(false)
    }

    /// Up to the closing sign `close`, which is taken.
    fn alternatives(tokens: &[&str], at: &mut usize, close: &str) -> Form {
        let mut choices = vec![Vec::new()];
        while let Some(token) = tokens.get(*at) {
            *at += 1;
            let form = match *token {
                "[" => Form::alternatives(tokens, at, "]").into_single(true),
                "(" => Form::alternatives(tokens, at, ")").into_single(false),
                "{" => Form::Repeat(Box::new(Form::alternatives(tokens, at, "}").into_single(false))),
                "|" => {
                    choices.push(Vec::new());
                    continue;
                }
                token if token == close => return Form::choice(choices),
                token => match token.strip_prefix('$') {
                    Some(name) => Form::Value(name.to_owned()),
                    None => Form::Word(token.to_owned()),
                },
            };
            choices.last_mut().unwrap().push(form);
        }
        assert!(close.is_empty(), "{close} is missing");
        Form::choice(choices)
    }

    fn choice(choices: Vec<Vec<Form>>) -> Form {
        Form::Choice(choices.into_iter().map(Form::Sequence).collect(), false)
    }

    fn into_single(self, may_be_none: bool) -> Form {
        match self {
            Form::Choice(choices, _) => Form::Choice(choices, may_be_none),
            other => other,
        }
    }

    /// Appends one command of this form to `args`.
    pub fn draw(&self, args: &mut Vec<Vec<u8>>, random: &mut Random, family: Family) {
        match self {
            Form::Word(word) => args.push(if random.chance(20) { word.to_lowercase() } else { word.clone() }.into()),
            Form::Value(name) => args.push(values::draw(name, random, family)),
            Form::Sequence(forms) => forms.iter().for_each(|form| form.draw(args, random, family)),
            Form::Choice(_, true) if random.chance(60) => {}
            Form::Choice(choices, _) => random.pick(choices).draw(args, random, family),
            Form::Repeat(form) => (0..1 + random.below(4)).for_each(|_| form.draw(args, random, family)),
        }
    }
}
