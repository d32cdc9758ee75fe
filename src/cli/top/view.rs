//! What `rondo top` draws: a pure function of what is known, tested on a screen of 80 by 24.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, Wrap};

use super::App;
use crate::cli::cluster::hints_for;
use crate::cli::units::{bytes, micros, number, percent};
use crate::server::admin::status::{ClusterStatus, Condition, Member, NodeFigures, Severity};

const GRAPH_LINES: u16 = 3;
const HEADER: [&str; 11] =
    ["NODE", "STATE", "SLOTS", "OPS/S", "HIT %", "R P99", "W P99", "MEMORY", "KEYS", "HINTS", "QFAIL"];
/// With a blank between them they leave 13 characters of 80 to the name; a wider screen gives it the rest, and a
/// narrower one shows only the first of them.
const WIDTHS: [u16; 11] = [13, 8, 5, 5, 5, 6, 6, 7, 5, 5, 5];
/// Columns that are always there: the name and the state.
const COLUMNS_MIN: usize = 2;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let Some(status) = &app.status else { return };
    let nodes = u16::try_from(status.nodes.len()).unwrap_or(u16::MAX);
    let [head, sums, graph, table, advice, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(GRAPH_LINES + 1),
        Constraint::Max(nodes.saturating_add(2)),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title(status), head);
    frame.render_widget(totals(status), sums);
    draw_graph(frame, app, graph);
    frame.render_widget(node_table(status, table.width), table);
    frame.render_widget(advice_lines(status), advice);
    frame.render_widget(footer(app), foot);
}

fn strong(color: Color) -> Style {
    Style::new().fg(color).add_modifier(Modifier::BOLD)
}

fn title(status: &ClusterStatus) -> Line<'static> {
    let ring = &status.ring;
    let verdict = match status.healthy {
        true => Span::styled("healthy", strong(Color::Green)),
        false => Span::styled("not healthy", strong(Color::Red)),
    };
    let agreed = if ring.agreed { "agreed" } else { "NOT AGREED" };
    let members = match ring.members {
        0 => "  not a member of a cluster yet".to_owned(),
        members => format!(
            "  {}/{members} up  ring {} {agreed}  N={} W={} R={} {}",
            ring.up,
            ring.digest.get(..6).unwrap_or_default(),
            ring.replicas,
            ring.write_quorum,
            ring.read_quorum,
            ring.quorum_mode
        ),
    };
    let cluster = Span::styled(format!("cluster {}  ", status.cluster), Style::new().add_modifier(Modifier::BOLD));
    Line::from(vec![cluster, verdict, Span::raw(members)])
}

fn totals(status: &ClusterStatus) -> Paragraph<'static> {
    let all: Vec<&NodeFigures> = status.nodes.iter().filter_map(|member| member.figures.as_ref()).collect();
    let rate = |of: fn(&NodeFigures) -> f64| number(all.iter().map(|it| of(it)).sum());
    let count = |of: fn(&NodeFigures) -> u64| all.iter().map(|it| of(it)).sum::<u64>();
    let slowest = |of: fn(&NodeFigures) -> u64| micros(all.iter().map(|it| of(it)).max().unwrap_or(0));
    let first = format!(
        "ops/s {}  reads {}  writes {}  errors {}  forwarded {}  in {}  out {}",
        rate(|it| it.rates.commands),
        rate(|it| it.rates.reads),
        rate(|it| it.rates.writes),
        rate(|it| it.rates.errors),
        rate(|it| it.rates.forwarded),
        bytes(all.iter().map(|it| it.rates.input_bytes).sum::<f64>() as u64),
        bytes(all.iter().map(|it| it.rates.output_bytes).sum::<f64>() as u64),
    );
    let second = format!(
        "p99 read {}  write {}  memory {}  clients {}  repairs {}  conflicts {}",
        slowest(|it| it.latency.read.p99_us),
        slowest(|it| it.latency.write.p99_us),
        bytes(count(|it| it.memory.used_bytes)),
        count(|it| it.clients),
        count(|it| it.totals.read_repairs + it.totals.anti_entropy_repairs),
        count(|it| it.totals.conflicts),
    );
    Paragraph::new(vec![Line::from(first), Line::from(second)])
}

fn draw_graph(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let [caption, graph] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let width = usize::from(graph.width);
    let shown: Vec<u64> = app.history.iter().rev().take(width).rev().copied().collect();
    let most = shown.iter().max().copied().unwrap_or(0);
    let text = format!("commands a second, the last {} s, at most {}", shown.len(), number(most as f64));
    frame.render_widget(Line::styled(text, Style::new().add_modifier(Modifier::DIM)), caption);
    frame.render_widget(Sparkline::default().data(&shown).style(Style::new().fg(Color::Cyan)), graph);
}

fn node_table(status: &ClusterStatus, width: u16) -> Table<'static> {
    let columns = columns_within(width);
    let rows = status.nodes.iter().map(|member| Row::new(node_cells(status, member).into_iter().take(columns)));
    let named = HEADER.iter().take(columns).enumerate().map(|(at, name)| match at {
        0 | 1 => Cell::from(*name),
        _ => right((*name).to_owned()),
    });
    let header = Row::new(named).style(Style::new().add_modifier(Modifier::REVERSED));
    let widths = WIDTHS.iter().take(columns).enumerate().map(|(at, width)| match at {
        0 => Constraint::Min(*width),
        _ => Constraint::Length(*width),
    });
    Table::new(rows, widths).header(header).column_spacing(1)
}

/// How many columns have room: whole ones only.
fn columns_within(width: u16) -> usize {
    let mut end = 0;
    let fitting = WIDTHS.iter().take_while(|column| {
        end += **column + u16::from(end > 0);
        end <= width
    });
    fitting.count().max(COLUMNS_MIN)
}

/// Figures end where their column does.
fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn node_cells(status: &ClusterStatus, member: &Member) -> [Cell<'static>; 11] {
    let color = match member.condition {
        Condition::Up => Color::Green,
        Condition::Down => Color::Red,
        _ => Color::Yellow,
    };
    let figures = member.figures.as_ref();
    let of = |show: fn(&NodeFigures) -> String| right(figures.map_or("-".into(), show));
    [
        Cell::from(member.name.clone()),
        Cell::from(member.condition.word()).style(strong(color)),
        right(member.slots_coordinated.to_string()),
        of(|it| number(it.rates.commands)),
        of(|it| percent(it.rates.hit_ratio)),
        of(|it| micros(it.latency.read.p99_us)),
        of(|it| micros(it.latency.write.p99_us)),
        of(|it| bytes(it.memory.used_bytes)),
        of(|it| number(it.keys as f64)),
        right(number(hints_for(status, member) as f64)),
        of(|it| number(it.totals.quorum_failures as f64)),
    ]
}

fn advice_lines(status: &ClusterStatus) -> Paragraph<'static> {
    let mut lines = Vec::new();
    for advice in &status.advice {
        let color = match advice.severity {
            Severity::Info => Color::Blue,
            Severity::Warning => Color::Yellow,
            Severity::Critical => Color::Red,
        };
        let about = advice.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        lines.push(Line::styled(format!("{about}{}", advice.problem), strong(color)));
        lines.push(Line::from(format!("  -> {}", advice.next_step)));
    }
    if lines.is_empty() {
        lines.push(Line::styled("Nothing to do.", Style::new().add_modifier(Modifier::DIM)));
    }
    Paragraph::new(lines).wrap(Wrap { trim: false })
}

fn footer(app: &App) -> Line<'static> {
    match &app.silent {
        Some((since, reason)) => {
            Line::styled(format!("no answer for {} s: {reason}", since.elapsed().as_secs()), strong(Color::Red))
        }
        None => Line::styled(
            format!("from {}   figures of the last 10 s, QFAIL since start   q leaves", app.from),
            Style::new().add_modifier(Modifier::DIM),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::News;
    use super::*;
    use crate::server::admin::status::{Advice, Link, RingStatus};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn member(name: &str, condition: Condition) -> Member {
        let mut figures = NodeFigures { keys: 1_234_567, ..NodeFigures::default() };
        figures.memory.used_bytes = 1_023 << 20;
        figures.rates.commands = 123_456.0;
        figures.rates.hit_ratio = Some(1.0);
        (figures.latency.read.p99_us, figures.latency.write.p99_us) = (131_072, 16_384);
        figures.links = vec![Link { peer: "node-2".into(), hints: 99_999, ..Link::default() }];
        Member::with_figures(name, condition, (condition != Condition::Down).then_some(figures))
    }

    fn screen(app: &App) -> Vec<String> {
        screen_of(80, app)
    }

    fn screen_of(width: u16, app: &App) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, 24)).unwrap();
        terminal.draw(|frame| draw(frame, app)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        buffer
            .content()
            .chunks(usize::from(width))
            .map(|line| line.iter().map(|cell| cell.symbol()).collect())
            .collect()
    }

    #[test]
    fn everything_is_on_a_screen_of_eighty_by_twenty_four() {
        let ring = RingStatus { digest: "abcdef0123".into(), agreed: true, members: 3, up: 2, ..RingStatus::default() };
        let advice = Advice {
            severity: Severity::Warning,
            node: Some("node-2".into()),
            problem: "It does not answer.".into(),
            next_step: "Start it again.".into(),
        };
        let status = ClusterStatus {
            cluster: "c".into(),
            seen_from: "node-1".into(),
            time_ms: 0,
            healthy: false,
            advice: vec![advice],
            ring,
            nodes: vec![member("node-1", Condition::Up), member("node-2", Condition::Down)],
        };
        let mut app = App::default();
        app.take(News { from: "h:3".into(), status: Ok(status) });
        let lines = screen(&app);
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        let expected =
            ["not healthy", "2/3 up", "123k", "100.0", "131ms", "16.4ms", "1023MiB", "1.2M", "100k", "q leaves"];
        for text in expected {
            assert!(has(text), "{text} in\n{}", lines.join("\n"));
        }
        for width in [20, 60, 79, 80, 200] {
            let lines = screen_of(width, &app);
            let header = lines.iter().find(|line| line.starts_with("NODE ")).unwrap();
            let shown = columns_within(width);
            let words = HEADER.iter().take(shown).flat_map(|name| name.split(' '));
            assert!(header.split_whitespace().eq(words), "{width}: {header}");
            assert_eq!(
                shown,
                match width {
                    20 => 2,
                    60 => 7,
                    79 => 10,
                    _ => 11,
                },
                "{width}: {header}"
            );
        }
        assert!(has("node-2: It does not answer.") && has("  -> Start it again."), "{}", lines.join("\n"));
        app.take(News { from: String::new(), status: Err("refused".into()) });
        assert!(screen(&app).iter().any(|line| line.contains("no answer for 0 s: refused")));
    }
}
