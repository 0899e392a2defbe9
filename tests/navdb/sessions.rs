//! What a session, a role or a database has as its defaults changes nothing, and what one verb waits for
//! holds up no other.

use smsd::queue::{Age, Decision, Suspects};
use tokio_postgres::{Client, NoTls};

use super::*;
use crate::pgbouncer::PgBouncer;

// -- what each transaction says --------------------------------------------------------------------

/// Writes down on which terms a row was written.
const WITNESS: &str = "CREATE TABLE public.witness (terms text UNIQUE);
    CREATE FUNCTION public.bear_witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.witness SELECT pg_catalog.concat_ws('|', pg_catalog.current_setting('transaction_isolation'),
            pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('TimeZone'),
            pg_catalog.current_setting('search_path')) ON CONFLICT DO NOTHING;
        RETURN NULL; END $$";

#[tokio::test]
async fn every_write_says_its_isolation_durability_zone_and_names() {
    let database = Server::shared().database();
    ready(&database).await;
    database.sql(WITNESS);
    for table in ["smsq", "smsd.attempt", "smsd.instance", "smsd.note", "smsd.submission", "smsd.unresolved"]
    {
        database.sql(&format!(
            "CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION public.bear_witness()"
        ));
    }
    for default in [
        "default_transaction_isolation = 'serializable'",
        "synchronous_commit = off",
        "timezone = 'Asia/Tokyo'",
        "search_path = pg_temp, public, pg_catalog",
    ] {
        database.sql(&format!("ALTER DATABASE {} SET {default}", database.name));
    }
    let queue = in_new_york(&database).await;

    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    queue.renew(me.id, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(5)).await.unwrap();
    let attempts: Vec<NewAttempt> = (0..3).map(|i| attempt(i, ids[i])).collect();
    queue.begin(me.id, &attempts, &Known::default()).await.unwrap();
    queue
        .settle(me.id, &[accepted(&attempts[0], "1"), doubtful(&attempts[1]), doubtful(&attempts[2])])
        .await
        .unwrap();
    queue.doubts(me.id).await.unwrap();
    queue.resolve(&ids[1..2], Decision::Accept, "ann").await.unwrap();
    queue.resolve(&ids[2..3], Decision::Resend, "ann").await.unwrap();
    let suspects = Suspects { until: Timestamp::now(), after: AlertId(0), limit: 1 };
    queue.hold(me.id, &suspects, "why").await.unwrap();
    queue.cancel(&Which::Ids(vec![ids[3]]), "ann").await.unwrap();
    queue.requeue(&ids[..1], "ann").await.unwrap();
    queue.expire(&Age { text: "0".into(), duration: Duration::ZERO }).await.unwrap();
    queue.expire(&Age { text: "0".into(), duration: Duration::ZERO }).await.unwrap();
    queue.leave(me.id).await.unwrap();

    let terms = "read committed|on|America/New_York|pg_catalog, public, pg_temp";
    assert_eq!(database.sql("SELECT terms FROM witness"), terms);
}

/// B waits for A, who sends the same alert; when the lock is B's at last, B looks at what A has left.
async fn what_was_sent_meanwhile_is_begun_again_under(isolation: &str) -> bool {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    database
        .sql(&format!("ALTER DATABASE {} SET default_transaction_isolation = '{isolation}'", database.name));
    // New sessions only.
    drop(queue);
    let queue = navdb::open(&database.target(), false).await.unwrap();
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(1)).await.unwrap();
    // Its connection is there, and so nothing but the lock is waited for.
    queue.begin(me.id, &[attempt(7, AlertId(4711))], &Known::default()).await.unwrap();

    let other = other_session(&database, "").await;
    let held = format!("INSERT INTO smsd.unresolved VALUES ({}, gen_random_uuid())", ids[0]);
    other.batch_execute(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; {held}")).await.unwrap();
    let attempts = [attempt(0, ids[0])];
    let known = Known::default();
    let begin = queue.begin(me.id, &attempts, &known);
    let send = async {
        waits_for_a_lock(&database, 1).await;
        let sent = "UPDATE smsq SET sent = 'Y', timesent = now(); DELETE FROM smsd.unresolved; COMMIT";
        other.batch_execute(sent).await.unwrap();
    };
    let (begun, ()) = tokio::join!(begin, send);
    !begun.unwrap().is_empty()
}

#[tokio::test]
async fn an_alert_that_another_has_just_sent_is_not_begun_whatever_the_isolation_by_default() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        assert!(!what_was_sent_meanwhile_is_begun_again_under(isolation).await, "{isolation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_queues_race_for_the_same_1000_alerts_under_repeatable_read() {
    let database = Server::shared().database();
    database.sql(&format!(
        "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'",
        database.name
    ));
    each_of_1000_alerts_is_won_once(&database).await;
}

/// Where `BEGIN` leaves the isolation level to the database, what it sees is as old as the transaction.
#[cfg(feature = "seeded-bugs")]
#[tokio::test]
async fn seeded_snapshots_from_before_the_locks_are_found() {
    for bug in smsd::seeded::Bug::OF_THE_DATABASE {
        smsd::seeded::choose(Some(bug));
        let found = what_was_sent_meanwhile_is_begun_again_under("repeatable read").await;
        smsd::seeded::choose(None);
        assert!(found, "{bug:?} is not found");
    }
}

/// Behind a pooler each transaction may have a session in which others have left something.
#[tokio::test]
async fn what_others_leave_in_a_poolers_sessions_is_not_ours() {
    let server = Server::shared();
    let database = server.database();
    ready(&database).await;
    database.sql("CREATE SCHEMA elsewhere");
    let bouncer = PgBouncer::start(&server);
    let target = database.target_at("127.0.0.1", bouncer.port);
    let address = format!("host=127.0.0.1 port={} dbname={} user=postgres", bouncer.port, database.name);
    // All of its five at once, so that each of them has it.
    let mut others = Vec::new();
    for _ in 0..5 {
        let (other, driver) = tokio_postgres::connect(&address, NoTls).await.unwrap();
        tokio::spawn(driver);
        let left = "BEGIN; CREATE TEMP TABLE smsq (LIKE public.smsq INCLUDING DEFAULTS) ON COMMIT PRESERVE ROWS; \
                    SET search_path = elsewhere; SET timezone = 'Asia/Tokyo'; SET lock_timeout = '1ms'; \
                    SET synchronous_commit = off; SET default_transaction_isolation = 'serializable'";
        other.batch_execute(left).await.unwrap();
        others.push(other);
    }
    for other in &others {
        other.batch_execute("COMMIT").await.unwrap();
    }
    let queue = navdb::open(&target, true).await.unwrap();
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(1)).await.unwrap();
    assert_eq!(queue.newest().await.unwrap(), ids[0]);
    assert_eq!(queue.claim(Look::Full { after: None }, 9, None).await.unwrap().len(), 1);
    let sms = attempt(0, ids[0]);
    queue.begin(me.id, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
    assert_eq!(queue.settle(me.id, &[accepted(&sms, "1")]).await.unwrap(), Settled::default());
    let ago = "SELECT sent, now()::timestamp - timesent < interval '1 minute' FROM public.smsq";
    assert_eq!(database.sql(ago), "Y|t");
}

// -- NAV's times -------------------------------------------------------------------------------------

/// NAV in New York, its database in UTC.
async fn in_new_york(database: &Database) -> NavDbQueue {
    let target = PostgresTarget { time_zone: Some("America/New_York".into()), ..database.target() };
    navdb::open(&target, true).await.unwrap()
}

#[tokio::test]
async fn navs_local_times_are_read_and_written_in_navs_zone() {
    let database = Server::shared().database();
    database.sql(&format!("ALTER DATABASE {} SET timezone = 'UTC'", database.name));
    let queue = in_new_york(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    database.sql(
        "INSERT INTO smsq (accountid, time, phone, msg) VALUES \
         (1, now() AT TIME ZONE 'America/New_York', '+4790000000', 'fresh')",
    );
    let hour = Age { text: "1 hour".into(), duration: Duration::from_secs(3600) };
    queue.expire(&hour).await.unwrap();
    assert_eq!(queue.expire(&hour).await.unwrap(), [], "it is not five hours old");

    let claimed = queue.claim(Look::Full { after: None }, 9, None).await.unwrap();
    let [alert] = claimed.as_slice() else { panic!("{claimed:?}") };
    let just_now = |at: Timestamp| at.duration_until(Timestamp::now()).as_secs().abs() < 60;
    assert!(just_now(alert.queued_at), "{}", alert.queued_at);
    let shown = queue.show(alert.id).await.unwrap().unwrap().alert;
    assert!(just_now(shown.queued_at.unwrap()), "{shown:?}");
    assert!(just_now(queue.depth().await.unwrap().waiting[0].oldest.unwrap()));
    assert!(queue.stats().await.unwrap().oldest_waiting_seconds.unwrap() < 60);

    let sms = attempt(0, alert.id);
    queue.begin(me.id, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
    queue.settle(me.id, &[accepted(&sms, "1")]).await.unwrap();
    queue.submit(&alerts(1)).await.unwrap();
    assert_eq!(
        database.sql(
            "SELECT now() AT TIME ZONE 'America/New_York' - coalesce(timesent, time) < interval '1 minute' FROM smsq"
        ),
        "t\nt"
    );
}

#[tokio::test]
async fn a_zone_that_the_database_does_not_know_is_said_with_what_to_do() {
    let database = Server::shared().database();
    let target = PostgresTarget { time_zone: Some("Europe/Atlantis".into()), ..database.target() };
    let error = navdb::open(&target, true).await.unwrap().newest().await.unwrap_err();
    assert!(
        matches!(&error, QueueError::Refused(said) if said.contains("\"Europe/Atlantis\"")
        && said.contains("TIME_ZONE in nav.conf")),
        "{error:?}"
    );
}

// -- who waits for whom ------------------------------------------------------------------------------

#[tokio::test]
async fn a_row_that_somebody_holds_poisons_its_own_settlement_and_holds_up_no_other() {
    let database = Server::shared().database();
    let queue = Arc::new(ready(&database).await);
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(3)).await.unwrap();
    let attempts: Vec<NewAttempt> = (0..3).map(|i| attempt(i, ids[i])).collect();
    queue.begin(me.id, &attempts, &Known::default()).await.unwrap();
    // Both connections are there.
    let late = [doubtful(&attempts[2])];
    let (_, _) = tokio::join!(queue.settle(me.id, &late), queue.settle(me.id, &late));

    let other = other_session(&database, "").await;
    let held = format!("BEGIN; SELECT 1 FROM smsq WHERE id = {} FOR UPDATE", ids[0]);
    other.batch_execute(&held).await.unwrap();
    let look = queue.claim(Look::Full { after: None }, 9, None);
    assert!(tokio::time::timeout(Duration::from_secs(2), look).await.is_ok(), "a look waits for nobody");
    let begun = Instant::now();
    let (stuck, free) = ([accepted(&attempts[0], "1")], [accepted(&attempts[1], "1")]);
    let (stuck, (free, took)) = tokio::join!(queue.settle(me.id, &stuck), async {
        // It waits for 200 ms at most: too short to be looked for.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = Instant::now();
        (queue.settle(me.id, &free).await, begun.elapsed())
    });
    assert!(matches!(&stuck, Err(QueueError::Poisoned(_))), "{stuck:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(free.unwrap(), Settled::default());
    assert!(took < Duration::from_secs(1), "{took:?}");
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(queue.settle(me.id, &[accepted(&attempts[0], "1")]).await.unwrap(), Settled::default());
}

#[tokio::test]
async fn a_recipient_that_a_forgotten_session_holds_poisons_its_own_begin() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(1)).await.unwrap();
    let other = other_session(&database, "").await;
    let held = format!("BEGIN; INSERT INTO smsd.open VALUES ('{}', gen_random_uuid())", phone(0).as_str());
    other.batch_execute(&held).await.unwrap();
    let begun = queue.begin(me.id, &[attempt(0, ids[0])], &Known::default()).await;
    assert!(matches!(&begun, Err(QueueError::Poisoned(_))), "{begun:?}");
}

#[tokio::test]
async fn a_row_that_the_database_will_not_have_poisons_its_own_settlement() {
    for (refuse, said) in [
        ("RAISE 'not this one'", "P0001"),
        ("PERFORM 1 / (NEW.id - NEW.id)", "22012"),
        ("RAISE unique_violation", "23505"),
        ("RAISE check_violation", "23514"),
        ("RAISE program_limit_exceeded", "54000"),
    ] {
        let database = Server::shared().database();
        let queue = ready(&database).await;
        let me = instance();
        queue.join(&me, LONG, &Known::default()).await.unwrap();
        let ids = queue.submit(&alerts(1)).await.unwrap();
        let sms = attempt(0, ids[0]);
        queue.begin(me.id, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
        database.sql(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse}; RETURN NEW; END $$; \
             CREATE TRIGGER refuse BEFORE UPDATE ON smsq FOR EACH ROW EXECUTE FUNCTION refuse()"
        ));
        let settled = queue.settle(me.id, &[accepted(&sms, "1")]).await;
        assert!(
            matches!(&settled, Err(QueueError::Poisoned(why)) if why.contains(said)),
            "{said}: {settled:?}"
        );
    }
}

/// The gateway answers in letters that the database has none for; what was sent is settled all the same.
#[tokio::test]
async fn words_that_a_latin1_database_can_not_hold_keep_no_sms_from_being_settled() {
    let database = Server::shared().database_in("LATIN1");
    let queue = ready(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(2)).await.unwrap();
    let attempts: Vec<NewAttempt> =
        (0..2).map(|i| NewAttempt { text: "på linja …".into(), ..attempt(i, ids[i]) }).collect();
    let begun = queue.begin(me.id, &attempts, &Known::default()).await.unwrap();
    assert_eq!(begun.len(), 2);
    let said = |attempt: &NewAttempt| {
        let settlement = accepted(attempt, "№ 7");
        let closing = settlement
            .closing
            .map(|closing| Closing { detail: "отправлено: æ".into(), ..closing });
        Settlement { closing, ..settlement }
    };
    let settled = queue.settle(me.id, &[said(&attempts[0]), said(&attempts[1])]).await.unwrap();
    assert_eq!(settled, Settled::default());
    let story = queue.show(ids[0]).await.unwrap().unwrap();
    let record = &story.attempts[0];
    assert_eq!(record.state, AttemptState::Accepted);
    assert_eq!((record.text.as_str(), record.detail.as_deref()), ("på linja ?", Some("??????????: æ")));
    assert_eq!(record.references, ["? 7"]);
}

/// `VACUUM FULL`, `ALTER TABLE`, or a look through a table that is large and cold.
#[tokio::test]
async fn a_lease_is_renewed_while_a_look_waits_and_the_look_ends_before_a_lease_does() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    queue.newest().await.unwrap();
    let other = other_session(&database, "").await;
    other.batch_execute("BEGIN; LOCK TABLE smsq IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let begun = Instant::now();
    let renew = async {
        waits_for_a_lock(&database, 1).await;
        let begun = Instant::now();
        queue.renew(me.id, LONG, &Known::default()).await.unwrap();
        queue.leave(me.id).await.unwrap();
        begun.elapsed()
    };
    let (claimed, renewed) = tokio::join!(queue.claim(Look::Full { after: None }, 9, None), renew);
    assert!(matches!(&claimed, Err(QueueError::Unavailable(_))), "{claimed:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(renewed < Duration::from_secs(2), "{renewed:?}");
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_any_more_ends_in_the_server() {
    for tls in ["sslmode=disable", "sslmode=require"] {
        let database = Server::shared().database();
        ready(&database).await;
        let port = database.server.port;
        let queue = open(&format!("postgresql://postgres@127.0.0.1:{port}/{}?{tls}", database.name)).await;
        queue.newest().await.unwrap();
        queue.audit().await.unwrap();
        let other = other_session(&database, "").await;
        other.batch_execute("BEGIN; LOCK TABLE smsq IN ACCESS EXCLUSIVE MODE").await.unwrap();
        for _ in 0..3 {
            let short = Duration::from_millis(100);
            let look = queue.claim(Look::Full { after: None }, 9, None);
            let list = queue.audit();
            let (look, list) =
                tokio::join!(tokio::time::timeout(short, look), tokio::time::timeout(short, list));
            assert!(look.is_err() && list.is_err(), "both wait");
        }
        waits_for_a_lock(&database, 0).await;
    }
}

/// The notes are locked: what people look at waits for that, and what monitoring asks does not.
#[tokio::test]
async fn a_list_that_takes_long_holds_up_no_figures() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let other = other_session(&database, "").await;
    other.batch_execute("BEGIN; LOCK TABLE smsd.note IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let figures = async {
        waits_for_a_lock(&database, 2).await;
        let begun = Instant::now();
        queue.depth().await.unwrap();
        queue.recent(None, 5).await.unwrap();
        queue.undecided(5).await.unwrap();
        let took = begun.elapsed();
        other.batch_execute("ROLLBACK").await.unwrap();
        took
    };
    let (first, second, took) = tokio::join!(queue.audit(), queue.audit(), figures);
    first.unwrap();
    second.unwrap();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

// -- helpers -----------------------------------------------------------------------------------------

/// Returns when so many sessions wait for a lock in this database, and no other.
async fn waits_for_a_lock(database: &Database, sessions: usize) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(5);
    while database.sql(waiting) != sessions.to_string() {
        assert!(Instant::now() < deadline, "{} wait, expected {sessions}", database.sql(waiting));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Somebody else's session.
async fn other_session(database: &Database, options: &str) -> Client {
    let (port, name) = (database.server.port, &database.name);
    let address = format!("host=127.0.0.1 port={port} dbname={name} user=postgres {options}");
    let (client, driver) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

fn doubtful(attempt: &NewAttempt) -> Settlement {
    let settlement = accepted(attempt, "1");
    let closing = settlement.closing.map(|closing| Closing {
        state: AttemptState::InDoubt,
        class: "unknown",
        references: Vec::new(),
        ..closing
    });
    Settlement { closing, verdicts: Vec::new(), detail: String::new() }
}
