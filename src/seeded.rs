//! Known faults, to prove that the tests would find them: a check that can not fail is a defect.
//!
//! Without the cargo feature `seeded-bugs` none of them exists: `bug` is a constant `false`. With it, one of them
//! is switched on for a thread (`choose`), or for the whole process by the environment variable `SMSD_SEEDED_BUG`.

/// A fault that somebody could have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is told by its name and by the place where it is asked for")]
pub enum Bug {
    SubmitBeforeBegin,
    SentBeforeSubmit,
    NoLeaseCheck,
    ResendUnmarked,
    ResendForEver,
    BegunBeforeDurable,
    SqueezedLeftWaiting,
    SettleErrorIgnored,
    SettleErrorSendsAgain,
    DoubtForgotten,
    SilenceIsRefusal,
    UnownedSubmitted,
    RefusedIsAccepted,
    DispatchersFaultCounts,
    BreakerNeverCloses,
    TrialForTheMostUrgent,
    FailoverLosesRecipient,
    StaleClaimUnmarked,
    NoRecipientLock,
    NoAlertLock,
    RefusedByOneIsFinal,
    OldOwnerMaySettle,
    ReloadMixesDispatchers,
    VanishedUntold,
    UnownedTriedAgain,
    LeaseStandsStill,
    ReleasedUnmarked,
    RefusalsNeverLearnt,
    BackOffForAll,
    StallWaitedFor,
    BreakerNeverOpens,
    NoStormGuard,
    GuardHoldsNothing,
    GuardLooksFirst,
    KeptAfterSubmit,
    PanicDoubles,
    PoisonStopsAll,
    WalkStartsOver,
    GuardCriesWolf,
    WitnessOfItsOwnOnly,
    CommitsNotSynced,
    AcceptedBeforeDurable,
    RefusalIsFinal,
    CopiesWithoutBound,
    CopiesForgotten,
    NewcomersWait,
    LoopHangs,
    LoopSpins,
    SnapshotBegin,
}

impl Bug {
    /// Those that the simulation finds.
    pub const ALL: [Bug; 44] = [
        Bug::SubmitBeforeBegin,
        Bug::SentBeforeSubmit,
        Bug::NoLeaseCheck,
        Bug::ResendUnmarked,
        Bug::ResendForEver,
        Bug::BegunBeforeDurable,
        Bug::SqueezedLeftWaiting,
        Bug::SettleErrorIgnored,
        Bug::SettleErrorSendsAgain,
        Bug::DoubtForgotten,
        Bug::SilenceIsRefusal,
        Bug::UnownedSubmitted,
        Bug::RefusedIsAccepted,
        Bug::DispatchersFaultCounts,
        Bug::BreakerNeverCloses,
        Bug::TrialForTheMostUrgent,
        Bug::FailoverLosesRecipient,
        Bug::StaleClaimUnmarked,
        Bug::NoRecipientLock,
        Bug::NoAlertLock,
        Bug::RefusedByOneIsFinal,
        Bug::OldOwnerMaySettle,
        Bug::ReloadMixesDispatchers,
        Bug::VanishedUntold,
        Bug::UnownedTriedAgain,
        Bug::LeaseStandsStill,
        Bug::ReleasedUnmarked,
        Bug::RefusalsNeverLearnt,
        Bug::BackOffForAll,
        Bug::StallWaitedFor,
        Bug::BreakerNeverOpens,
        Bug::NoStormGuard,
        Bug::GuardHoldsNothing,
        Bug::GuardLooksFirst,
        Bug::KeptAfterSubmit,
        Bug::RefusalIsFinal,
        Bug::CopiesWithoutBound,
        Bug::CopiesForgotten,
        Bug::NewcomersWait,
        Bug::PanicDoubles,
        Bug::PoisonStopsAll,
        Bug::WalkStartsOver,
        Bug::GuardCriesWolf,
        Bug::WitnessOfItsOwnOnly,
    ];
    /// Those that the real program with a real file must show.
    pub const OF_THE_FILE: [Bug; 2] = [Bug::CommitsNotSynced, Bug::AcceptedBeforeDurable];
    /// Those that the watchdog must notice.
    pub const OF_THE_LOOP: [Bug; 2] = [Bug::LoopHangs, Bug::LoopSpins];
    /// Those that PostgreSQL with another default shows.
    pub const OF_THE_DATABASE: [Bug; 1] = [Bug::SnapshotBegin];
}

#[cfg(feature = "seeded-bugs")]
mod chosen {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Bug;

    thread_local! {
        static HERE: Cell<Option<Bug>> = const { Cell::new(None) };
    }
    static EVERYWHERE: OnceLock<Option<Bug>> = OnceLock::new();

    /// Switches one on, or all off, for this thread.
    pub fn choose(bug: Option<Bug>) {
        HERE.set(bug);
    }

    pub(crate) fn bug(bug: Bug) -> bool {
        let named = || {
            let name = std::env::var("SMSD_SEEDED_BUG").ok()?;
            Bug::ALL
                .into_iter()
                .chain(Bug::OF_THE_FILE)
                .chain(Bug::OF_THE_LOOP)
                .chain(Bug::OF_THE_DATABASE)
                .find(|bug| format!("{bug:?}") == name)
        };
        HERE.get() == Some(bug) || *EVERYWHERE.get_or_init(named) == Some(bug)
    }
}

#[cfg(feature = "seeded-bugs")]
pub(crate) use chosen::bug;
#[cfg(feature = "seeded-bugs")]
pub use chosen::choose;

/// Is this fault switched on? Never, in what is shipped.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn bug(_: Bug) -> bool {
    false
}
