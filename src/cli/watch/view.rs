//! The picture: how it stands on top, the ways out, and the last SMS in what room is left.
//!
//! Words say it all; colour only repeats it. Whatever came from outside is escaped and cut.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::board::Board;
use super::feed::Look;
use crate::cli::ask::{Sms, Way};
use crate::cli::output::{Tint, age, between, count, shown};
use crate::queue::AttemptState;

const KEYS: &str = "q quits   arrows, PgUp, PgDn move the list";

/// Draws it all, as of `now`.
pub(super) fn draw(frame: &mut Frame<'_>, board: &mut Board, now: Timestamp, colour: bool) {
    let area = frame.area();
    let paint = Paint { colour };
    let head = head(board, now, paint);
    let ways = board.look.as_ref().map_or(&[][..], |look| &look.ways);
    let rows = u16::try_from(ways.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height / 3);
    let heights = [
        Constraint::Length(u16::try_from(head.height()).unwrap_or(u16::MAX)),
        Constraint::Length(rows),
        Constraint::Min(0),
        Constraint::Length(1),
    ];
    let [top, middle, rest, foot] = area.layout(&Layout::vertical(heights));
    frame.render_widget(Paragraph::new(head), top);
    frame.render_widget(dispatchers(ways, middle, now, paint), middle);
    board.fit(usize::from(rest.height.saturating_sub(2)));
    sms(frame, board, rest, paint);
    frame.render_widget(Paragraph::new(Line::styled(KEYS, paint.faint())), foot);
}

/// How it stands.
fn head(board: &Board, now: Timestamp, paint: Paint) -> Text<'static> {
    let Some(look) = &board.look else { return Text::raw("looking ...\n") };
    let mut lines = vec![daemon(look, now, paint)];
    let depth = &board.depth;
    if let Err(why) = &look.queue {
        lines.push(paint.line(format!("the queue does not answer: {}", shown(why, 300)), Tint::Bad));
    }
    let Some(said_at) = board.said_at else {
        lines.push(Line::raw(""));
        return Text::from(lines);
    };
    if look.queue.is_err() {
        lines.push(
            paint.line(format!("what follows is as it was {} ago", between(said_at, now)), Tint::Pending),
        );
    }
    let oldest =
        depth.oldest().map_or_else(String::new, |at| format!(", the oldest for {}", between(at, now)));
    let alerts = depth.alerts();
    let waiting = format!("{alerts} waiting{oldest}; {} being sent now", depth.open);
    lines.push(if alerts > 0 { paint.line(waiting, Tint::Pending) } else { Line::raw(waiting) });
    let layers = depth.waiting.iter().filter(|layer| layer.alerts > 0).map(|layer| {
        let severity = layer.severity.0.map_or_else(|| "none".to_owned(), |s| s.to_string());
        let oldest = layer.oldest.map_or_else(String::new, |at| format!(" ({})", age(at, now)));
        format!("{severity}: {}{oldest}", layer.alerts)
    });
    let layers: Vec<String> = layers.collect();
    let layers = if layers.is_empty() { "nothing waits".to_owned() } else { layers.join("   ") };
    lines.push(Line::raw(format!("by severity   {layers}")));
    let undecided = format!("{} in doubt, {} held for a person", depth.in_doubt, depth.held);
    let bad = depth.in_doubt + depth.held > 0;
    lines.push(if bad { paint.line(undecided, Tint::Bad) } else { Line::raw(undecided) });
    let ((sent, not), (sent_5, not_5)) = (board.per_minute(1), board.per_minute(5));
    lines.push(Line::raw(format!(
        "SMS a minute  {sent:.1} taken, {not:.1} not (last minute)   {sent_5:.1} taken, {not_5:.1} not (last 5)"
    )));
    let (twice, of) = (board.possible_duplicates(), board.sms.len());
    let twice_words = format!("{} among the last {of} SMS", count(twice, "possible duplicate"));
    lines.push(if twice > 0 { paint.line(twice_words, Tint::Bad) } else { Line::raw(twice_words) });
    lines.push(Line::raw(""));
    Text::from(lines)
}

fn daemon(look: &Look, now: Timestamp, paint: Paint) -> Line<'static> {
    let runs = match look.holder {
        None => {
            return paint
                .line("smsd does not run: nothing is sent until it is started".to_owned(), Tint::Bad);
        }
        Some(Some(pid)) => format!("smsd runs, pid {pid}"),
        Some(None) => "smsd runs".to_owned(),
    };
    let about = match &look.daemon {
        Ok(about) => about,
        Err(why) => return paint.line(format!("{runs}; {}", shown(why, 300)), Tint::Pending),
    };
    let mut words = runs;
    if let Some(version) = &about.version {
        words += &format!(", version {}", shown(version, 32));
    }
    if let Some(started) = about.started_at {
        words += &format!(", for {}", between(started, now));
    }
    if about.instances > 1 {
        words += &format!(", one of {}", about.instances);
    }
    match about.all_down_since {
        _ if about.stopping => paint.line(words + "; it is stopping", Tint::Pending),
        Some(since) => {
            paint.line(format!("{words}; no dispatcher works for {}", between(since, now)), Tint::Bad)
        }
        None => paint.line(words, Tint::Good),
    }
}

fn dispatchers(ways: &[Way], area: Rect, now: Timestamp, paint: Paint) -> Table<'static> {
    // The last line stays empty, or says that there are more.
    let room = usize::from(area.height.saturating_sub(2));
    let mut rows: Vec<Row<'static>> = ways.iter().take(room).map(|way| row_of(way, now, paint)).collect();
    if let more @ 1.. = ways.len().saturating_sub(room) {
        rows.push(Row::new([
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            format!("and {more} more"),
        ]));
    }
    let widths = [
        widest(ways.iter().map(|way| &*way.name), 10..=20),
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Length(13),
        Constraint::Fill(1),
    ];
    Table::new(rows, widths)
        .column_spacing(2)
        .header(Row::new(["DISPATCHER", "", "FOR", "LAST ACCEPTED", "REASON"]).style(paint.heading()))
}

fn row_of(way: &Way, now: Timestamp, paint: Paint) -> Row<'static> {
    let (word, tint) = match way.up {
        Some(true) => ("up", Some(Tint::Good)),
        Some(false) => ("down", Some(Tint::Bad)),
        None => ("?", None),
    };
    let since = way.since.map_or_else(|| "-".to_owned(), |at| age(at, now));
    let last = way.last_accepted_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)));
    Row::new([
        Cell::new(shown(&way.name, 64)),
        Cell::new(word).style(tint.map_or_else(Style::new, |tint| paint.style(tint))),
        Cell::new(since),
        Cell::new(last),
        Cell::new(shown(way.reason.as_deref().unwrap_or("-"), 300)),
    ])
}

fn sms(frame: &mut Frame<'_>, board: &Board, area: Rect, paint: Paint) {
    let here: Vec<&Sms> = board.sms.iter().skip(board.top).take(board.room).collect();
    let (from, to) = (board.top + 1, board.top + here.len());
    let title = match here.len() {
        0 => "LAST SMS: none".to_owned(),
        _ => format!("LAST SMS {from} to {to} of {}", board.sms.len()),
    };
    let [above, table] = area.layout(&Layout::vertical([Constraint::Length(1), Constraint::Min(0)]));
    frame.render_widget(Paragraph::new(Line::styled(title, paint.heading())), above);
    let rows = here.into_iter().map(|sms| {
        let word = sms.state.as_str().replace('_', " ");
        let word = if sms.possible_duplicate { word + ", twice?" } else { word };
        let tint = if sms.possible_duplicate { Tint::Bad } else { sms.state.into() };
        let at = sms.begun_at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
        Row::new([
            Cell::new(at),
            Cell::new(word).style(paint.style(tint)),
            Cell::new(shown(&sms.recipient, 32)),
            Cell::new(shown(&sms.dispatcher, 64)),
            Cell::new(shown(&sms.text, 300)),
        ])
    });
    let states = if board.sms.iter().any(|sms| sms.possible_duplicate) { 17 } else { state_width() };
    let widths = [
        Constraint::Length(8),
        Constraint::Length(states),
        Constraint::Length(13),
        widest(board.sms.iter().map(|sms| &*sms.dispatcher), 2..=12),
        Constraint::Fill(1),
    ];
    let table_of = Table::new(rows, widths)
        .column_spacing(1)
        .header(Row::new(["BEGUN", "STATE", "TO", "BY", "TEXT"]).style(paint.heading()));
    frame.render_widget(table_of, table);
}

/// As wide as the longest of these names, within bounds.
fn widest<'a>(names: impl Iterator<Item = &'a str>, bounds: RangeInclusive<u16>) -> Constraint {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    let longest = u16::try_from(longest).unwrap_or(u16::MAX);
    Constraint::Length(longest.clamp(*bounds.start(), *bounds.end()))
}

/// The longest word for a state.
fn state_width() -> u16 {
    let longest = AttemptState::ALL.into_iter().map(|state| state.as_str().len()).max();
    longest.and_then(|n| u16::try_from(n).ok()).unwrap_or(9)
}

/// Colours, where they are wanted.
#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn style(self, tint: Tint) -> Style {
        let colour = match tint {
            Tint::Good => Color::Green,
            Tint::Pending => Color::Yellow,
            Tint::Bad => Color::Red,
        };
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn line(self, words: String, tint: Tint) -> Line<'static> {
        Line::styled(words, self.style(tint))
    }

    fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::board::tests::{look, now, sms};
    use super::super::feed::About;
    use super::*;
    use crate::alert::Severity;
    use crate::queue::{Depth, Layer};

    fn way(name: &str, up: bool, reason: Option<&str>) -> Way {
        let ago = |seconds| Some(now() - SignedDuration::from_secs(seconds));
        Way {
            name: name.to_owned(),
            kind: "HttpDispatcher".to_owned(),
            up: Some(up),
            since: ago(125),
            cause: None,
            reason: reason.map(str::to_owned),
            last_accepted_at: ago(7_300),
        }
    }

    fn full() -> Board {
        let mut list: Vec<Sms> = (1..60).map(|n| sms(n, AttemptState::Accepted)).collect();
        list[0].state = AttemptState::InDoubt;
        list[1].text = format!("red \x1b[31m\u{202e} {}", "x".repeat(500));
        list[2].possible_duplicate = true;
        let mut look = look(list.clone());
        let layer = |severity, alerts, ago| Layer {
            severity: Severity(severity),
            alerts,
            oldest: Some(now() - SignedDuration::from_secs(ago)),
        };
        let waiting = vec![layer(Some(1), 2, 30), layer(None, 5, 200)];
        look.queue = Ok((Depth { waiting, open: 3, in_doubt: 1, held: 2 }, list));
        look.daemon = Ok(About {
            version: Some("1.2.3".to_owned()),
            started_at: Some(now() - SignedDuration::from_secs(7_300)),
            instances: 1,
            ..About::default()
        });
        look.ways =
            vec![way("gateway", false, Some("unavailable: no\x1b[2J route")), way("modem", true, None)];
        let mut board = Board::default();
        board.learn(Some(look));
        board
    }

    /// Lines as they are seen, and whether anything is coloured.
    fn picture(board: &mut Board, width: u16, height: u16, colour: bool) -> (Vec<String>, bool) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, board, now(), colour)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        let coloured = buffer.content().iter().any(|cell| cell.fg != Color::Reset);
        ((0..height).map(line).collect(), coloured)
    }

    #[test]
    fn all_of_it_fits_a_small_terminal_and_fills_a_large_one() {
        let (small, coloured) = picture(&mut full(), 80, 24, true);
        assert!(coloured);
        assert_eq!(
            small[..12],
            [
                "smsd runs, pid 7, version 1.2.3, for 2 h 1 min",
                "7 waiting, the oldest for 3 min 20 s; 3 being sent now",
                "by severity   1: 2 (30 s)   none: 5 (3 min)",
                "1 in doubt, 2 held for a person",
                "SMS a minute  58.0 taken, 1.0 not (last minute)   11.6 taken, 0.2 not (last 5)",
                "1 possible duplicate among the last 59 SMS",
                "",
                "DISPATCHER        FOR      LAST ACCEPTED  REASON",
                r"gateway     down  2 min    2 h ago        unavailable: no\u{1b}[2J route",
                "modem       up    2 min    2 h ago        -",
                "",
                "LAST SMS 1 to 10 of 59",
            ],
            "{small:#?}"
        );
        assert!(small[13].ends_with("in doubt          +4790123456   gw alert-1"), "{small:#?}");
        assert!(small[14].contains(r" red \u{1b}[31m\u{202e} xxx"), "{small:#?}");
        assert!(small[15].contains("accepted, twice?  +4790123456"), "{small:#?}");
        assert!(small[22].ends_with("alert-10"), "{small:#?}");
        assert_eq!(small[23], KEYS);

        let (large, _) = picture(&mut full(), 120, 40, true);
        assert_eq!(large[11], "LAST SMS 1 to 26 of 59", "{large:#?}");
        assert!(large[38].ends_with("alert-26"), "{large:#?}");
        assert_eq!(large[39], KEYS);
    }

    #[test]
    fn no_colour_is_no_colour_and_no_size_is_too_small() {
        assert!(!picture(&mut full(), 80, 24, false).1);
        for (width, height) in [(0, 0), (1, 1), (3, 2), (10, 5), (79, 7), (500, 9)] {
            picture(&mut full(), width, height, true);
            picture(&mut Board::default(), width, height, true);
        }
        let mut board = full();
        if let Some(look) = &mut board.look {
            look.ways = (0..500).map(|n| way(&format!("way-{n}"), true, None)).collect();
        }
        let (lines, _) = picture(&mut board, 80, 24, true);
        assert!(lines.iter().any(|line| line.ends_with(" and 494 more")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.ends_with("alert-1")), "there is room for SMS: {lines:#?}");
    }

    #[test]
    fn what_is_away_is_said_and_what_was_seen_stays() {
        let mut board = full();
        let mut away = look(vec![]);
        away.at = now();
        away.queue = Err("refused\x1b[2J".to_owned());
        away.holder = None;
        away.daemon = Err("nobody listens".to_owned());
        board.learn(Some(away));
        board.said_at = Some(now() - SignedDuration::from_secs(65));
        let (lines, _) = picture(&mut board, 80, 24, true);
        assert_eq!(
            lines[..4],
            [
                "smsd does not run: nothing is sent until it is started",
                r"the queue does not answer: refused\u{1b}[2J",
                "what follows is as it was 1 min 5 s ago",
                "7 waiting, the oldest for 3 min 20 s; 3 being sent now",
            ]
        );
        assert!(lines.iter().any(|line| line.ends_with("alert-1")), "{lines:#?}");
    }
}
