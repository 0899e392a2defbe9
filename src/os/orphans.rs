//! As the first process of a container, smsd inherits whoever is left behind by the programs that it starts, and must bury
//! them: the dead that nobody buries count until the container may start no more processes.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::time::sleep;

/// Between two looks. Whoever is dead at two of them is nobody's: our own children are buried at once.
const LOOK: Duration = Duration::from_secs(2);

/// Buries them for ever, if this is the first process.
pub async fn bury() {
    if std::process::id() != 1 {
        return std::future::pending().await;
    }
    let mut before = HashSet::new();
    loop {
        let dead: HashSet<i32> = tokio::task::spawn_blocking(dead).await.unwrap_or_default();
        for pid in dead.intersection(&before) {
            // Somebody else may have done so since.
            let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
        }
        before = dead;
        sleep(LOOK).await;
    }
}

/// Children of the first process that are dead and not buried.
fn dead() -> HashSet<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return HashSet::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        is_dead_child_of_the_first(&String::from_utf8_lossy(&stat))
    })
    .collect()
}

/// By what `/proc/PID/stat` says: the state and the parent come after the name, which may hold anything (proc(5)).
fn is_dead_child_of_the_first(stat: &str) -> bool {
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    (fields.next(), fields.next()) == (Some("Z"), Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_children_of_the_first_process_are_buried() {
        assert!(is_dead_child_of_the_first("17 (sh) Z 1 17 17 0 -1"));
        assert!(is_dead_child_of_the_first("17 (a) S 2 (b) Z 1 17 17 0"));
        for other in ["17 (sh) S 1 17", "17 (sh) Z 12 17", "17 (sh) Z 1", ") Z 1 1", ""] {
            let want = other == "17 (sh) Z 1" || other == ") Z 1 1";
            assert_eq!(is_dead_child_of_the_first(other), want, "{other}");
        }
    }
}
