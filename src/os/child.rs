//! Other programs as children: started with a clean environment in a group of their own, fed, listened to within
//! bounds, and killed with all that they started when their time is up.
//!
//! A child can hang, crash, flood us or leave children of its own behind; none of that may cost more than one submit.
//! It inherits no variable that is not on a short list, since configuration may have put secrets into ours.
//! Deliberately absent: a shell, and what the child's words mean.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, geteuid};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

/// Of each stream so many bytes are kept; what comes after is read and dropped.
pub const OUTPUT_MAX: usize = 64 * 1024;

/// When a program has ended, its output may still be held open by what it has started: so long it is waited for.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(500);

/// What a child may know of our environment.
const KEPT: [&str; 9] =
    ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV"];

/// A command that runs in a group of its own, with the variables of a short list, and as the user whom we are now:
/// `HOME` and `USER` are that user's even if we were started as another. It works in `/`: the folder that somebody has
/// typed our command in may be another's, and programs look there for what they load.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").process_group(0).kill_on_drop(true);
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if let Ok(Some(user)) = User::from_uid(geteuid()) {
        command.env("HOME", user.dir).env("USER", &user.name).env("LOGNAME", &user.name);
    }
    command
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Exit(i32),
    /// By this signal, which was not ours.
    Signal(i32),
    /// By us, when its time was up.
    Late,
}

/// One run of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub ended: Ended,
    /// The beginning of its standard output, at most [`OUTPUT_MAX`] bytes.
    pub stdout: Vec<u8>,
    /// The same of its standard error.
    pub stderr: Vec<u8>,
    /// That is all that it ever wrote: both streams were heard to their end, which is its death if its time was up,
    /// and neither was cut.
    pub whole: bool,
}

/// Runs a command to its end, or until the deadline, when it is killed with its whole group and what it has said
/// until then is heard. The same end comes when nobody waits for it any more.
///
/// # Errors
/// It could not be started: certainly nothing was done.
pub async fn run(command: &mut Command, input: &[u8], deadline: Instant) -> io::Result<Run> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group::spawn(command)?;
    let (stdin, stdout, stderr) =
        (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not care for its input is no fault of ours.
            drop(stdin.write_all(input).await);
        }
    };
    let (ended, whole) = {
        let mut listen = std::pin::pin!(async {
            let ((), out, err) = tokio::join!(feed, keep(stdout, &mut out), keep(stderr, &mut err));
            out && err
        });
        let mut heard = None;
        let status = timeout_at(deadline, async {
            tokio::select! {
                status = group.child.wait() => return status,
                all = &mut listen => heard = Some(all),
            }
            group.child.wait().await
        })
        .await;
        if status.is_err() {
            group.kill();
        }
        let whole = match heard {
            Some(all) => all && status.is_ok(),
            None => timeout(OUTPUT_PATIENCE, listen).await.unwrap_or(false),
        };
        (status, whole)
    };
    let ended = ended.map_or(Ok(Ended::Late), |status| status.map(ended_by))?;
    Ok(Run { ended, stdout: out, stderr: err, whole })
}

/// A child with all that it has started. Dropped, it is killed.
#[derive(Debug)]
pub struct Group {
    /// The child itself.
    pub child: Child,
    leader: Option<Pid>,
}

impl Group {
    /// Starts a [`command`].
    ///
    /// # Errors
    /// It could not be started.
    pub fn spawn(command: &mut Command) -> io::Result<Group> {
        let child = command.spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Group { child, leader })
    }

    /// A group keeps its number for as long as one of it lives. Where nobody is left the number is that of no group;
    /// the system would have to go once through all its numbers, in the moment since the child was waited for, to give
    /// it to another.
    fn kill(&self) {
        if let Some(leader) = self.leader {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a child that is dead has ended.
pub(crate) fn ended_by(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exit(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// Reads to the end and keeps the beginning. Is that all?
async fn keep(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> bool {
    let Some(mut stream) = stream else { return false };
    let mut piece = [0; 4096];
    let mut all = true;
    loop {
        let n = match stream.read(&mut piece).await {
            Ok(0) => return all,
            Ok(n) => n,
            Err(_) => return false,
        };
        let read = piece.get(..n).unwrap_or_default();
        let room = OUTPUT_MAX - kept.len();
        all &= n <= room;
        kept.extend_from_slice(read.get(..room).unwrap_or(read));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, input: &[u8], time: Duration) -> Run {
        run(command("sh").args(["-c", script]), input, Instant::now() + time).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn it_is_fed_and_heard() {
        let run = sh("cat; echo words >&2; exit 75", b"hei \xff\n", LONG).await;
        let (stdout, stderr) = (b"hei \xff\n".into(), b"words\n".into());
        assert_eq!(run, Run { ended: Ended::Exit(75), stdout, stderr, whole: true });
        assert_eq!(sh("kill -SEGV $$", b"", LONG).await.ended, Ended::Signal(11));
        // Its input is larger than a pipe, and it reads none of it.
        assert_eq!(sh("exit 0", &vec![b'x'; 1 << 20], LONG).await.ended, Ended::Exit(0));
        // Both ways at once, more than pipes hold.
        let run = sh("cat", &vec![b'x'; 1 << 20], LONG).await;
        assert_eq!((run.ended, run.stdout.len(), run.whole), (Ended::Exit(0), OUTPUT_MAX, false));
        let nobody = run_missing().await;
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
    }

    async fn run_missing() -> io::Error {
        run(&mut command("/no/such/program"), b"", Instant::now() + LONG).await.unwrap_err()
    }

    #[tokio::test]
    async fn when_its_time_is_up_nothing_of_it_is_left() {
        let run = sh("echo $$; sleep 987654 & sleep 987654", b"", Duration::from_millis(300)).await;
        assert_eq!((run.ended, run.whole), (Ended::Late, true));
        let group: i32 = String::from_utf8(run.stdout).unwrap().trim().parse().unwrap();
        gone(group).await;
    }

    #[tokio::test]
    async fn what_it_does_behind_closed_streams_is_not_known() {
        let run = sh("exec >&- 2>&-; sleep 987654", b"", Duration::from_millis(300)).await;
        assert_eq!((run.ended, run.whole), (Ended::Late, false));
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_not_waited_for_and_is_killed() {
        let begun = Instant::now();
        let run = sh("echo $$; sleep 987654 &", b"", LONG).await;
        assert_eq!((run.ended, run.whole), (Ended::Exit(0), false), "whoever is left could still speak");
        assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
        gone(String::from_utf8(run.stdout).unwrap().trim().parse().unwrap()).await;
    }

    #[tokio::test]
    async fn it_ends_with_whoever_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("group");
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 987654", file.display());
        let waits = tokio::spawn(async move { sh(&script, b"", LONG).await });
        let group = loop {
            if let Ok(group) = std::fs::read_to_string(&file) {
                break group.trim().parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        waits.abort();
        gone(group).await;
    }

    #[tokio::test]
    async fn it_does_not_work_where_we_do() {
        assert_ne!(std::env::current_dir().unwrap(), std::path::Path::new("/"), "where tests run");
        assert_eq!(sh("pwd", b"", LONG).await.stdout, b"/\n");
    }

    #[tokio::test]
    async fn it_knows_little_of_our_environment() {
        let run = run(&mut command("env"), b"", Instant::now() + LONG).await.unwrap();
        let said = String::from_utf8(run.stdout).unwrap();
        let names: Vec<&str> = said.lines().filter_map(|line| line.split('=').next()).collect();
        assert!(names.contains(&"PATH") && names.contains(&"HOME"), "{names:?}");
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "a variable that must not be handed on");
        assert!(!said.contains("CARGO"), "{said}");
    }

    /// Nobody is left in the group. One who is dead and not yet buried by the system's first process counts as gone.
    async fn gone(group: i32) {
        let begun = Instant::now();
        let alive = || {
            std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
                let mut fields = after.split(' ');
                let (state, of) = (fields.next(), fields.nth(1));
                state.is_some_and(|s| s != "Z") && of == Some(&group.to_string())
            })
        };
        while alive() {
            assert!(begun.elapsed() < LONG, "{group} is still there");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
