//! NAV's flags on bare `smsd`: what they override, and the three that do something else than run the daemon.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::output::{count, print, shown};
use super::{FAILED, Globals, Session, Stop, block_on, daemon, dispatcher, exit, login, shape};
use crate::alert::{Phone, Severity};
use crate::config::{LimitAction, Main, QueueKind};
use crate::dispatch::Sms;
use crate::queue::{NewAlert, Opened, Which};

/// What `-t` and `-T` say without `--message`.
const TEST_MESSAGE: &str = "This is a test message from NAV smsd.";

/// NAV's flags.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Daemon and NAV's options (without a command)")]
pub(crate) struct Flags {
    /// Mark all unsent alerts ignored, print how many, and exit
    #[arg(short, long, conflicts_with_all = ["test", "queue_test"])]
    cancel: bool,
    /// Delay between full looks at the queue
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    delay: Option<Duration>,
    /// Growth of the delay per failed attempt
    #[arg(short = 'D', long, value_name = "FACTOR", value_parser = factor)]
    delayfactor: Option<f64>,
    /// Longest delay
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    maxdelay: Option<Duration>,
    /// Failed attempts before the action; 0 = never
    #[arg(short, long, value_name = "N")]
    limit: Option<u32>,
    /// What happens at the limit: 0 or ignore, 1 or shutdown
    #[arg(short, long, value_name = "ACTION", value_parser = action)]
    action: Option<LimitAction>,
    /// Send a test message straight through the dispatchers, say which took it, and exit
    #[arg(short, long, value_name = "PHONENO", conflicts_with = "queue_test", group = "tests")]
    test: Option<Phone>,
    /// Put a test message into the queue, and exit
    #[arg(short = 'T', long = "TEST", value_name = "PHONENO", group = "tests")]
    queue_test: Option<Phone>,
    /// Text of the test message
    #[arg(long, value_name = "TEXT", requires = "tests")]
    message: Option<String>,
    /// Account to queue the test message to (needed with NAV's queue)
    #[arg(short, long = "uid", value_name = "ACCOUNT")]
    uid: Option<i32>,
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
}

impl Flags {
    /// Does what they ask for; without one that asks for something else, that is to run the daemon.
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let text = self.message.clone().unwrap_or_else(|| TEST_MESSAGE.to_owned());
        if self.cancel {
            cancel(globals)
        } else if let Some(phone) = &self.test {
            test(globals, phone, &text)
        } else if let Some(phone) = &self.queue_test {
            queue_test(globals, phone, text, self.uid)
        } else {
            daemon::start(globals, self.foreground, self.overrides(globals))
        }
    }

    /// The first flag that was given, if any: none goes with a command.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            (self.cancel, "--cancel"),
            (self.delay.is_some(), "--delay"),
            (self.delayfactor.is_some(), "--delayfactor"),
            (self.maxdelay.is_some(), "--maxdelay"),
            (self.limit.is_some(), "--limit"),
            (self.action.is_some(), "--action"),
            (self.test.is_some(), "--test"),
            (self.queue_test.is_some(), "--TEST"),
            (self.message.is_some(), "--message"),
            (self.uid.is_some(), "--uid"),
            (self.foreground, "--foreground"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }

    /// What they say instead of `[main]`, at the start and at each reload.
    fn overrides(&self, globals: &Globals) -> Overrides {
        Overrides { flags: self.clone(), log_level: globals.log_level() }
    }
}

/// What the command line says instead of `[main]`.
#[derive(Clone, Debug)]
pub(crate) struct Overrides {
    flags: Flags,
    log_level: Option<crate::config::LogLevel>,
}

impl Overrides {
    /// Puts it there.
    pub(crate) fn apply(&self, main: &mut Main) {
        let f = &self.flags;
        main.delay = f.delay.unwrap_or(main.delay);
        main.delayfactor = f.delayfactor.unwrap_or(main.delayfactor);
        main.maxdelay = f.maxdelay.unwrap_or(main.maxdelay);
        main.retrylimit = f.limit.unwrap_or(main.retrylimit);
        main.retrylimitaction = f.action.unwrap_or(main.retrylimitaction);
        main.log_level = self.log_level.unwrap_or(main.log_level);
    }
}

/// `-c`.
fn cancel(globals: &Globals) -> anyhow::Result<ExitCode> {
    let session = Session::load(globals)?;
    let done = block_on(async {
        let Opened { queue, mirror, .. } = session.open().await?;
        let Some(mut mirror) = mirror else { return Ok(queue.cancel(&Which::All, &login()).await?) };
        // What waits elsewhere is cancelled there as well, each alert on record here.
        mirror.pass().await?;
        let done = queue.cancel(&Which::All, &login()).await?;
        mirror.pass().await?;
        Ok(done)
    })?;
    let all = |named: usize, more: u64| named.saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
    print(&format!("{} cancelled\n", count(all(done.cancelled.len(), done.more_cancelled), "alert")))?;
    if !done.in_flight.is_empty() {
        let left = count(all(done.in_flight.len(), done.more_in_flight), "alert");
        session.say(format_args!("{left} left alone, being sent right now; run it again to be sure"));
    }
    Ok(ExitCode::SUCCESS)
}

/// `-t`: the first dispatcher that accepts wins, as in the daemon.
fn test(globals: &Globals, phone: &Phone, text: &str) -> anyhow::Result<ExitCode> {
    let session = Session::load(globals)?;
    dispatcher::permitted(&session.config.main, phone)?;
    if session.config.dispatchers.is_empty() {
        anyhow::bail!("no dispatcher is configured; name one under [dispatcher] in smsd.conf");
    }
    session.drop_root()?;
    block_on(async {
        for configured in &session.config.dispatchers {
            let main = &session.config.main;
            let timeout = configured.timeout.unwrap_or(main.submit_timeout);
            let sms = Sms::new(phone.clone(), shape::composed(main, text), timeout);
            match dispatcher::submit_once(configured, &session.config.main, &sms).await {
                Ok(taken) => {
                    print(&format!("{taken}\n"))?;
                    return Ok(ExitCode::SUCCESS);
                }
                Err(why) => super::eprintln_quietly(format_args!("smsd: {}: {why}", configured.name)),
            }
        }
        super::eprintln_quietly(format_args!(
            "smsd: no dispatcher took the test message; see the reasons above, then `smsd dispatcher probe`"
        ));
        Ok(exit(FAILED))
    })
}

/// `-T`.
fn queue_test(globals: &Globals, phone: &Phone, text: String, uid: Option<i32>) -> anyhow::Result<ExitCode> {
    let session = Session::load(globals)?;
    if uid.is_none() && matches!(session.config.queue.kind, QueueKind::NavDb(_)) {
        let message = "-T needs -u ACCOUNT with NAV's queue: each of its alerts belongs to an account";
        return Err(Stop::Usage(message.to_owned()).into());
    }
    if let QueueKind::Python { class, .. } = &session.config.queue.kind {
        return queue_test_elsewhere(&session, &class.name(), phone, &text, uid);
    }
    let alert =
        NewAlert { to: phone.clone(), text: text.into(), severity: Severity::default(), account: uid };
    let ids = block_on(async { Ok(session.queue().await?.submit(&[alert]).await?) })?;
    for id in ids {
        print(&format!("{id}\n"))?;
        let text = shown(phone.as_str(), 32);
        session.say(format_args!("test message to {text} queued; follow it with `smsd why {id}`"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The same with a queue class of NAV's interface: it puts the message where it takes messages from.
fn queue_test_elsewhere(
    session: &Session,
    class: &str,
    phone: &Phone,
    text: &str,
    uid: Option<i32>,
) -> anyhow::Result<ExitCode> {
    let done = block_on(async {
        match session.open().await?.mirror {
            Some(mut mirror) => Ok(mirror.queue_test(uid.unwrap_or(0), phone.as_str(), text).await?),
            None => Ok(None),
        }
    })?;
    let to = shown(phone.as_str(), 32);
    match done {
        Some(0) => anyhow::bail!("{class} put no test message to {to} into its queue"),
        _ => {
            session.say(format_args!("test message to {to} queued by {class}; smsd takes it over from there"))
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds, whole or decimal.
fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?} is no number of seconds; expected one such as 30 or 0.5");
    let n: f64 = text.parse().map_err(|_| wanted())?;
    Duration::try_from_secs_f64(n).map_err(|_| wanted())
}

/// A factor that does not shrink.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(f) if f.is_finite() && f >= 1.0 => Ok(f),
        _ => Err(format!("{text:?} is no factor; expected a number of at least 1, such as 1.5")),
    }
}

/// NAV's numbers, or the words that they stand for.
fn action(text: &str) -> Result<LimitAction, String> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "ignore" => Ok(LimitAction::Ignore),
        "1" | "shutdown" => Ok(LimitAction::Shutdown),
        _ => Err(format!("{text:?} is no action; expected 0 or ignore, 1 or shutdown")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::config::LogLevel;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["smsd"], args].concat())
    }

    #[test]
    fn flags_win_over_the_file_and_leave_the_rest() {
        let cli = parse(&["-d", "5", "-D", "1.5", "-m", "60.5", "-l", "0", "-a", "1", "-vv"]).unwrap();
        let mut main = Main { urgent_severity: 3, ..Main::default() };
        cli.nav.overrides(&cli.globals).apply(&mut main);
        assert_eq!((main.delay, main.maxdelay), (Duration::from_secs(5), Duration::from_millis(60_500)));
        assert_eq!((main.delayfactor, main.retrylimit), (1.5, 0));
        assert_eq!(main.retrylimitaction, LimitAction::Shutdown);
        assert_eq!((main.log_level, main.urgent_severity), (LogLevel::Trace, 3));

        let mut untouched = Main { delay: Duration::from_secs(7), ..Main::default() };
        let cli = parse(&[]).unwrap();
        cli.nav.overrides(&cli.globals).apply(&mut untouched);
        assert_eq!(untouched.delay, Duration::from_secs(7));
        assert_eq!(untouched.log_level, LogLevel::Info);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in [
            &["-t", "+4799999999", "-T", "+4799999999"][..],
            &["--message", "x"],
            &["-c", "-t", "112"],
            &["-d", "-1"],
            &["-d", "1e400"],
            &["-d", "nan"],
            &["-D", "0.5"],
            &["-D", "inf"],
            &["-l", "-1"],
            &["-a", "2"],
            &["-t", "+47 abc"],
            &["-T", "12"],
            &["-u", "x"],
            &["-q", "-v"],
            &["--nonsense"],
            &["nonsense"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn every_flag_is_noticed_before_a_command() {
        for args in [
            &["-c"][..],
            &["-d1"],
            &["-D1"],
            &["-m1"],
            &["-l1"],
            &["-a0"],
            &["-t112"],
            &["-T112"],
            &["-u1"],
            &["-f"],
        ] {
            assert!(parse(args).unwrap().nav.given().is_some(), "{args:?}");
        }
        assert_eq!(parse(&["-v", "-C", "x"]).unwrap().nav.given(), None);
    }
}
