//! What a manual page says that no command line knows: files, variables, exit codes, examples.

/// A term and what is said about it.
pub(super) type Term = (&'static str, &'static str);

/// What the numbers mean with which every command ends.
pub(super) const EXIT_STATUS: [Term; 5] = [
    ("0", "done"),
    ("1", "failed, and said why on standard error"),
    ("2", "what was asked makes no sense"),
    ("3", "another smsd is running"),
    ("4", "the configuration can not be used"),
];

/// What is read and written.
pub(super) const FILES: [Term; 8] = [
    (
        "/etc/smsd/smsd.conf",
        "the configuration, see smsd.conf(5); looked for in several folders, and the first counts",
    ),
    ("db.conf, nav.conf", "NAV's own files, read where they stand beside smsd.conf"),
    (
        "queue.db",
        "the embedded queue, in the state directory; a backup needs queue.db-wal with it, or sqlite3's .backup",
    ),
    (
        "guard",
        "in the state directory: the record by which a database that comes back from the past is noticed",
    ),
    (
        "/var/lib/smsd",
        "the state directory; state_dir and the variables below name another, ~/.local/state/smsd is that of users",
    ),
    ("/run/smsd/smsd.pid", "the pid file; PID_DIR of nav.conf names another folder"),
    ("/run/smsd/smsd.sock", "beside the pid file: where commands ask the running daemon"),
    (
        "/var/log/smsd.log",
        "the log of the daemon in the background, if log_file or LOG_DIR of nav.conf says so",
    ),
];

/// What the environment says.
pub(super) const ENVIRONMENT: [Term; 9] = [
    ("SMSD_CONFIG", "the configuration file; --config counts for more"),
    ("NAV_CONFIG_DIR", "the first folder in which smsd.conf and NAV's files are looked for"),
    ("SMSD_STATE_DIR", "the state directory, if state_dir is not set"),
    ("STATE_DIRECTORY", "the same, as systemd gives it"),
    ("RUNTIME_DIRECTORY", "the folder of the pid file, as systemd gives it, if PID_DIR is not set"),
    (
        "PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGPASSFILE, PGSSLMODE, …",
        "where NAV's database is, if neither url nor db.conf says so",
    ),
    ("HOME", "where ~ is"),
    ("NO_COLOR", "if it is set, nothing is coloured"),
    ("SUDO_USER", "who decided of an alert, for the record"),
];

/// What people type first.
pub(super) const EXAMPLES: [Term; 6] = [
    ("smsd demo", "the whole program at work, in a temporary folder"),
    ("smsd check --probe", "is the configuration sound, and does what it names answer?"),
    (
        "smsd send --to +4799999999 --severity 1 --wait \"core-gw1 is down\"",
        "queue an alert, and wait until it is sent",
    ),
    ("smsd why 4711", "what happened to an alert"),
    ("smsd queue list --state in-doubt", "of which SMS nobody knows whether they came"),
    ("smsd queue audit", "prove that every alert is accounted for"),
];
