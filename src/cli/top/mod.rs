//! `rondo top`: a live view of a cluster in a terminal, from 80 by 24 characters on.
//!
//! | file | what it is |
//! |---|---|
//! | `view` | what is drawn: a pure function of what is known |
//!
//! A thread asks once a second and sends what it learns; this thread draws and listens to keys, so a node that does not
//! answer never holds up the screen. When the node that was asked dies, the next one is. What is drawn is a function of
//! [`App`], in `view`.

mod view;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::Failure;
use super::ask::{ADDRESS, Address, Asker, argument};
use crate::server::admin::status::ClusterStatus;
use clap::{ArgMatches, Command};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a key may wait to be heard.
const KEY_INTERVAL: Duration = Duration::from_millis(100);
/// Seconds of history in the graph.
const HISTORY: usize = 120;

/// The command.
pub fn command() -> Command {
    Command::new("top")
        .about("Watch a running cluster live")
        .arg(argument())
        .after_help("Keys: q or Ctrl-C leaves. When the node that is asked dies, another one is asked.")
}

/// Runs until it is left. `mistakes` were found in the command line before.
pub fn run(matches: &ArgMatches, mistakes: Vec<String>) -> Result<(), Failure> {
    if !mistakes.is_empty() {
        return Err(Failure::Usage(mistakes));
    }
    let Some(address) = matches.get_one::<Address>(ADDRESS) else {
        return Err(Failure::Usage(vec!["an address is missing".into()]));
    };
    if !std::io::stdout().is_terminal() {
        return Err(Failure::Failed("rondo top needs a terminal; `rondo cluster status` does not".into()));
    }
    let mut asker = Asker::new(address.clone()).map_err(|error| Failure::Failed(error.to_string()))?;
    // Whoever types a wrong address should read so on an ordinary screen.
    let first = asker.status().map_err(Failure::Failed)?;
    let mut app = App::default();
    app.take(News { from: asker.address(), status: Ok(first) });
    let (sender, receiver) = channel();
    std::thread::spawn(move || keep_asking(asker, &sender));
    let mut terminal = ratatui::try_init().map_err(|error| Failure::Failed(error.to_string()))?;
    let ended = show(&mut terminal, &mut app, &receiver);
    ratatui::restore();
    ended.map_err(|error| Failure::Failed(format!("the terminal failed: {error}")))
}

/// What one question brought.
struct News {
    from: String,
    status: Result<ClusterStatus, String>,
}

/// Asks until nobody listens.
fn keep_asking(mut asker: Asker, sender: &Sender<News>) {
    loop {
        std::thread::sleep(ASK_INTERVAL);
        let status = asker.status();
        if sender.send(News { from: asker.address(), status }).is_err() {
            return;
        }
    }
}

fn show(terminal: &mut DefaultTerminal, app: &mut App, news: &Receiver<News>) -> std::io::Result<()> {
    loop {
        news.try_iter().for_each(|news| app.take(news));
        terminal.draw(|frame| view::draw(frame, app))?;
        if event::poll(KEY_INTERVAL)? && is_farewell(&event::read()?) {
            return Ok(());
        }
    }
}

fn is_farewell(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (control_c || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc))
}

/// What is known.
#[derive(Default)]
struct App {
    /// Who answered last.
    from: String,
    status: Option<ClusterStatus>,
    /// Since when nobody answers, and why.
    silent: Option<(Instant, String)>,
    /// Commands a second, of all nodes, oldest first.
    history: VecDeque<u64>,
}

impl App {
    fn take(&mut self, news: News) {
        match news.status {
            Ok(status) => {
                let nodes = status.nodes.iter().filter_map(|member| member.figures.as_ref());
                let commands: f64 = nodes.map(|figures| figures.rates.commands).sum();
                if self.history.len() == HISTORY {
                    self.history.pop_front();
                }
                self.history.push_back(commands as u64);
                (self.from, self.status, self.silent) = (news.from, Some(status), None);
            }
            Err(reason) => {
                let since = self.silent.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                self.silent = Some((since, reason));
            }
        }
    }
}
