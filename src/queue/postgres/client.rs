//! What verbs speak through: statements in transactions that say on which terms they run.
//!
//! A database, a role or a pooler's session may have any default. The ledger is right under READ COMMITTED, a
//! commit counts once it is on stable storage, NAV's times are local times in NAV's zone, and names mean
//! PostgreSQL's own functions before anybody else's. So every transaction says all of that itself, and a
//! single statement is a transaction too. It is said with `SET LOCAL`, in the flight of the statements:
//! nothing stays behind in the session, and nothing costs another round trip.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, join4};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::link::Fault;
use super::scope::{Letters, Scope};
use crate::queue::QueueError;
use crate::seeded::{Bug, bug};

/// A parameter with its type, so that the statement needs no preparing.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement with its parameters.
pub(crate) type Statement<'a> = (&'a str, &'a [Parameter<'a>]);

/// What a transaction writes is durable when `COMMIT` returns, also where the database's default is
/// otherwise; `on` is not set over a stricter `remote_apply`.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";

/// A commit is not timed: ended while it waits for a synchronous standby, it would count without it. A
/// message of its own, since it fails in a transaction that has failed, and `COMMIT` is to end that one all
/// the same.
const UNTIMED: &str = "SET LOCAL statement_timeout = 0";

/// How long a link's verbs may take, and what it means when they can not be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The longest time for a verb. After that the server is taken for dead, so it is longer than
    /// `statement`.
    pub(crate) patience: Duration,
    /// The longest time for one statement; the server itself ends it then.
    pub(crate) statement: Duration,
    /// The longest wait for a lock that another session holds.
    pub(crate) lock: Duration,
    /// True where a row that is locked or refused says nothing of the verb's other rows
    /// ([`QueueError::Poisoned`]).
    pub(crate) by_rows: bool,
    /// True if the server is told when a verb is given up. Not for what is acted upon once it is durable: a
    /// commit that is told to stop waits no longer for a synchronous standby, and counts all the same.
    pub(crate) cancels: bool,
}

/// How a transaction begins, beside what is said in every one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    isolation: &'static str,
    also: &'static str,
}

impl Begin {
    /// Nothing more to say.
    pub(crate) const PLAIN: Begin = Begin::each_sees_commits("");

    /// Each statement sees what was committed before it began.
    pub(crate) const fn each_sees_commits(also: &'static str) -> Begin {
        Begin { isolation: "READ COMMITTED", also }
    }

    /// All statements see the same moment, and write nothing.
    pub(crate) const fn all_see_one_moment(also: &'static str) -> Begin {
        Begin { isolation: "REPEATABLE READ READ ONLY", also }
    }
}

/// A session, as the verbs of one link use it.
#[derive(Clone)]
pub(crate) struct Client {
    wire: Arc<tokio_postgres::Client>,
    scope: Arc<Scope>,
    terms: Terms,
}

impl Client {
    pub(super) fn new(wire: Arc<tokio_postgres::Client>, scope: Arc<Scope>, terms: Terms) -> Client {
        Client { wire, scope, terms }
    }

    /// One statement.
    pub(crate) async fn query_typed(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        let answers = in_transaction(self, Begin::PLAIN, &[(statement, parameters)]).await?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// One statement that answers with at most one row.
    pub(crate) async fn query_typed_opt(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Error> {
        Ok(self.query_typed(statement, parameters).await?.into_iter().next())
    }

    /// One statement that answers with one row.
    pub(crate) async fn query_typed_one(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, Fault> {
        let nothing = || QueueError::Unavailable("the database answered without a row".to_owned());
        Ok(self.query_typed(statement, parameters).await?.into_iter().next().ok_or_else(nothing)?)
    }

    /// Statements without parameters, in one transaction, without a limit of time.
    pub(crate) async fn run_script(&self, script: &str) -> Result<(), Error> {
        let terms = Terms { statement: Duration::ZERO, lock: Duration::ZERO, ..self.terms };
        let begin = Client { terms, ..self.clone() }.opening(Begin::PLAIN);
        let done = self.wire.batch_execute(&format!("{begin}; {script}; COMMIT")).await;
        if done.is_err() && !self.wire.is_closed() {
            // A script that failed has left its transaction open.
            self.wire.batch_execute("ROLLBACK").await?;
        }
        done
    }

    /// What the database can hold.
    pub(crate) fn letters(&self) -> Letters {
        self.scope.letters
    }

    /// The time zone that NAV's local times are read in, and the session's own.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The names come first, so that all that follows means what PostgreSQL means by it.
    fn opening(&self, begin: Begin) -> String {
        let isolation = match begin.isolation {
            "READ COMMITTED" if bug(Bug::SnapshotBegin) => String::new(),
            isolation => format!(" ISOLATION LEVEL {isolation}"),
        };
        let (statement, lock) = (self.terms.statement.as_millis(), self.terms.lock.as_millis());
        let mut opening = format!(
            "BEGIN{isolation}; {}; {DURABLE}; SET LOCAL statement_timeout = {statement}; \
             SET LOCAL lock_timeout = {lock}",
            self.scope.said
        );
        if !begin.also.is_empty() {
            opening.push_str("; ");
            opening.push_str(begin.also);
        }
        opening
    }
}

/// Does statements in one transaction and one round trip; each sees what the ones before it did. Returns
/// their rows.
pub(crate) async fn in_transaction(
    client: &Client,
    begin: Begin,
    statements: &[Statement<'_>],
) -> Result<Vec<Vec<Row>>, Error> {
    let (wire, begin) = (&client.wire, client.opening(begin));
    // Each of these sends when it is first polled, and they are polled in this order.
    let work = join_all(statements.iter().map(|(sql, parameters)| wire.query_typed(sql, parameters)));
    let (untimed, commit) = (wire.batch_execute(UNTIMED), wire.batch_execute("COMMIT"));
    let (begun, rows, untimed, ended) = join4(wire.batch_execute(&begin), work, untimed, commit).await;
    begun?;
    let rows = rows.into_iter().collect::<Result<Vec<_>, _>>()?;
    untimed.and(ended)?;
    Ok(rows)
}
