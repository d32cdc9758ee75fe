//! The options of a node as flags: made from the table, and read back as lines of a file.
//!
//! clap lists them in `--help` and splits the command line. It would stop at the first flag it does not know, and it
//! knows nothing of the other sources; so unknown flags are taken out first ([`take_unknown`]) and reported together
//! with everything else that is wrong.
//!
//! Redis's options that change nothing here are taken as well, unlisted, so that a command line made for redis-server
//! works.

use crate::base::config::{ALIASES, FIXED, Kind, OPTIONS, Opt, REFUSED, SKIPPED, nearest};
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;

/// A flag for every option but those in `without`, by section.
pub fn of_table(without: &[&str]) -> Vec<Arg> {
    let listed = OPTIONS.iter().filter(|opt| !without.contains(&opt.name)).map(listed);
    let old = ALIASES.iter().map(|(old, _)| *old);
    let unlisted = old.chain(FIXED.iter().chain(REFUSED).map(|fixed| fixed.name)).chain(SKIPPED.iter().copied());
    listed.chain(unlisted.map(|name| flag(name).num_args(1..).hide(true))).collect()
}

fn listed(opt: &Opt) -> Arg {
    let default = match opt.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let one_word = !opt.kind.takes_many() || matches!(opt.kind, Kind::Peers);
    flag(opt.name)
        .num_args(if one_word { 1..=1 } else { 1..=usize::MAX })
        .value_name(opt.kind.placeholder())
        .help(format!("{}{default}", opt.help))
        .help_heading(opt.section.title())
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::Append).allow_negative_numbers(true).value_parser(ValueParser::string())
}

/// The flags of the table that were given: name and words of each occurrence.
pub fn given(matches: &ArgMatches) -> Vec<(String, Vec<String>)> {
    let options = OPTIONS.iter().map(|opt| opt.name).chain(ALIASES.iter().map(|(old, _)| *old));
    let names = options.chain(FIXED.iter().chain(REFUSED).map(|fixed| fixed.name)).chain(SKIPPED.iter().copied());
    let mut given = Vec::new();
    for name in names {
        let occurrences = matches.try_get_occurrences::<String>(name).ok().flatten();
        for words in occurrences.into_iter().flatten() {
            given.push((name.to_owned(), words.cloned().collect()));
        }
    }
    given
}

/// Takes the flags that `command` does not have out of `args`, with the words behind them; a line of error for each.
pub fn take_unknown(command: &Command, args: Vec<OsString>) -> (Vec<OsString>, Vec<String>) {
    // Redis's leftovers are taken, but never suggested.
    let worth_it = |arg: &&Arg| !arg.is_hide_set() || OPTIONS.iter().any(|opt| opt.name == arg.get_id().as_str());
    let names = |arg: &Arg| arg.get_long().map(str::to_owned);
    let listed: Vec<String> = command.get_arguments().filter(worth_it).filter_map(names).collect();
    let mut known: Vec<String> = command.get_arguments().filter_map(names).collect();
    known.extend(["help".to_owned(), "version".to_owned()]);
    let (mut kept, mut errors, mut skipping) = (Vec::new(), Vec::new(), false);
    for arg in args {
        let flag = arg.to_str().and_then(|text| text.strip_prefix("--")).filter(|name| !name.is_empty());
        let Some(flag) = flag else {
            if !skipping {
                kept.push(arg);
            }
            continue;
        };
        let name = flag.split('=').next().unwrap_or(flag);
        skipping = !known.iter().any(|known| known == name);
        if skipping {
            let near = nearest(name, listed.iter().map(String::as_str));
            let hint = near.map(|near| format!(" (did you mean '--{near}'?)")).unwrap_or_default();
            errors.push(format!("command line: unknown option '--{name}'{hint}"));
        } else {
            kept.push(arg);
        }
    }
    (kept, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("server").arg(Arg::new("file")).args(of_table(&[]))
    }

    fn parse(line: &[&str]) -> Vec<(String, Vec<String>)> {
        given(&command().no_binary_name(true).try_get_matches_from(line).unwrap())
    }

    #[test]
    fn every_option_is_in_the_help_and_none_of_redis_leftovers() {
        let help = command().render_long_help().to_string();
        for opt in OPTIONS {
            assert!(help.contains(&format!("--{} <", opt.name)), "{}", opt.name);
            assert!(help.contains(&format!("{}:\n", opt.section.title())), "{}", opt.section.title());
        }
        assert!(!help.contains("io-threads") && !help.contains("appendonly"));
    }

    #[test]
    fn flags_read_as_lines_of_a_file() {
        let line = ["a.conf", "--port", "7000", "--bind", "127.0.0.1", "::1", "--slowlog-log-slower-than", "-1"];
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let expected = [
            ("port".to_owned(), words(&["7000"])),
            ("bind".to_owned(), words(&["127.0.0.1", "::1"])),
            ("slowlog-log-slower-than".to_owned(), words(&["-1"])),
        ];
        assert_eq!(parse(&line), expected);
        let redis = ["--save", "", "--appendonly", "no", "--client-output-buffer-limit", "normal", "0", "0", "0"];
        let given = parse(&redis);
        assert_eq!(
            given.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["client-output-buffer-limit", "appendonly", "save"]
        );
    }

    #[test]
    fn unknown_flags_are_taken_out_with_their_words() {
        let line = ["--prot", "1", "--maxmemroy=1gb", "--port", "2", "--colour"].map(OsString::from);
        let (kept, errors) = take_unknown(&command(), line.into());
        assert_eq!(kept, ["--port", "2"]);
        let expected = [
            "command line: unknown option '--prot' (did you mean '--port'?)",
            "command line: unknown option '--maxmemroy' (did you mean '--maxmemory'?)",
            "command line: unknown option '--colour'",
        ];
        assert_eq!(errors, expected);
    }
}
