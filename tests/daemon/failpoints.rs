//! The plug is pulled at each point of an attempt's life in turn: what stands in the tables then, and what comes of
//! it, is exactly what ARCHITECTURE says that a crash costs ("What a crash costs, by when it happens").

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use smsd::demo::gateway::{Answer, Behaviour};

use super::bench::{Daemon, Gateway, Site, gateway, gateway_at, runtime, until, ways};
use crate::postgres::Server;
use crate::proxy::{Cut, Proxy};

const PHONE: &str = "+4790000001";
/// Stands in no transaction but that which begins, or settles.
const BEGIN: &str = "INSERT INTO smsd.open";
const SETTLE: &str = "UPDATE smsd.attempt a SET state = g.state";

/// A site of NAV's whose database is reached through a proxy, with one alert that waits.
struct Scene {
    site: Site,
    proxy: Proxy,
}

impl Scene {
    fn with(gateway: SocketAddr) -> Scene {
        let db = Arc::new(Server::shared().database());
        let site = Site::on(db.clone(), "delay: 1", &ways(&[gateway], "grace: 0.2s"));
        assert_eq!(site.run(&["db", "init"]).code, 0);
        let proxy = runtime().block_on(Proxy::start(db.server.port));
        let direct = format!("dbport={}", db.server.port);
        let conf = site.read("db.conf").replace(&direct, &format!("dbport={}", proxy.port));
        site.write("db.conf", &conf);
        site.insert(PHONE, "down", Some(1));
        Scene { site, proxy }
    }

    fn start(&self) -> Daemon {
        let mut command = self.site.command(&["-f"]);
        // The proxy reads what passes.
        command.env("PGSSLMODE", "disable");
        self.site.spawn(command)
    }

    fn is_cut(&self) {
        until("the connection is cut", || self.proxy.has_cut().then_some(()));
    }

    /// `N` or `Y`, then the states of the attempts, oldest first, each with `!` if it is marked.
    fn ledger(&self) -> String {
        self.site.sql(
            "SELECT concat_ws(' ', (SELECT sent FROM smsq), (SELECT string_agg(state || \
             CASE WHEN possible_duplicate THEN '!' ELSE '' END, ' ' ORDER BY begun_at) FROM smsd.attempt))",
        )
    }

    fn comes_to(&self, ledger: &str) {
        until(&format!("the ledger comes to {ledger:?}"), || (self.ledger() == ledger).then_some(()));
    }

    /// The plug is pulled: this is what stands. Then the daemon is started again, and this is what comes of it.
    fn crash(&self, daemon: Daemon, stands: &str, becomes: &str) {
        daemon.kill();
        assert_eq!(self.ledger(), stands);
        self.site.audit();
        let daemon = self.start();
        self.comes_to(becomes);
        daemon.stop();
        self.site.audit();
    }
}

/// Takes connections and reads nothing, or reads the first byte: nothing has been asked of it.
struct Silent(TcpListener);

impl Silent {
    fn listen() -> Silent {
        Silent(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Ends, and makes room for a good one.
    fn replaced(self) -> Gateway {
        let addr = self.addr();
        drop(self);
        gateway_at(addr)
    }
}

fn taken(gateway: &Gateway) -> usize {
    gateway.accepted_count()
}

#[test]
fn before_the_begin_is_committed_it_costs_nothing() {
    let gateway = gateway();
    let scene = Scene::with(gateway.addr);
    scene.proxy.hang_next(Cut::BeforeCommit, BEGIN);
    let daemon = scene.start();
    scene.is_cut();
    assert_eq!(taken(&gateway), 0, "nothing is submitted before it is written");
    scene.crash(daemon, "N", "Y accepted");
    assert_eq!(taken(&gateway), 1);
}

#[test]
fn after_the_begin_and_before_the_first_byte_it_costs_a_mark() {
    let gateway = gateway();
    let scene = Scene::with(gateway.addr);
    scene.proxy.hang_next(Cut::AfterCommit, BEGIN);
    let daemon = scene.start();
    scene.is_cut();
    assert_eq!(taken(&gateway), 0, "nothing is submitted before it is known to be written");
    scene.crash(daemon, "N open", "Y resent accepted!");
    assert_eq!(taken(&gateway), 1);
}

#[test]
fn while_the_request_is_on_its_way_it_costs_a_mark() {
    for reads_the_first_byte in [false, true] {
        let silent = Silent::listen();
        let scene = Scene::with(silent.addr());
        let daemon = scene.start();
        let stream = until("it connects", || silent.0.accept().ok()).0;
        if reads_the_first_byte {
            std::io::Read::read_exact(&mut &stream, &mut [0]).unwrap();
        }
        daemon.kill();
        assert_eq!(scene.ledger(), "N open");
        drop(stream);
        let good = silent.replaced();
        let daemon = scene.start();
        scene.comes_to("Y resent accepted!");
        assert_eq!(taken(&good), 1);
        daemon.stop();
        scene.site.audit();
    }
}

#[test]
fn after_the_last_byte_it_costs_a_mark_and_perhaps_a_copy() {
    let half_an_answer = Answer::Endless(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), Vec::new());
    for answer in [Answer::Hang, half_an_answer] {
        let gateway = gateway();
        gateway.set(Behaviour::answering(answer).taking());
        let scene = Scene::with(gateway.addr);
        let daemon = scene.start();
        until("it is taken", || (taken(&gateway) == 1).then_some(()));
        gateway.set(Behaviour::ok());
        scene.crash(daemon, "N open", "Y resent accepted!");
        assert_eq!(taken(&gateway), 2);
    }
}

#[test]
fn after_the_answer_and_before_the_settlement_is_committed_it_costs_a_mark_and_a_copy() {
    let gateway = gateway();
    let scene = Scene::with(gateway.addr);
    scene.proxy.hang_next(Cut::BeforeCommit, SETTLE);
    let daemon = scene.start();
    scene.is_cut();
    scene.crash(daemon, "N open", "Y resent accepted!");
    assert_eq!(taken(&gateway), 2);
}

#[test]
fn after_the_settlement_is_committed_it_costs_nothing() {
    let gateway = gateway();
    let scene = Scene::with(gateway.addr);
    scene.proxy.hang_next(Cut::AfterCommit, SETTLE);
    let daemon = scene.start();
    scene.is_cut();
    scene.crash(daemon, "Y accepted", "Y accepted");
    assert_eq!(taken(&gateway), 1);
}

/// The same points with the embedded queue, as far as another writer can stop it at them.
#[test]
fn the_embedded_queue_is_stopped_at_its_commits_by_another_writer() {
    let gateway = gateway();
    let site = Site::embedded("delay: 1", &ways(&[gateway.addr], "grace: 0.2s"));
    assert_eq!(site.run(&["db", "init"]).code, 0);
    let open = || {
        let file = rusqlite::Connection::open(site.path("queue.db")).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        file
    };
    let ledger = || -> String {
        let sql = "SELECT (SELECT state FROM alert) || coalesce((SELECT ' ' || group_concat(state || \
                   CASE WHEN possible_duplicate THEN '!' ELSE '' END, ' ') FROM attempt ORDER BY begun_at), '')";
        open().query_row(sql, (), |row| row.get(0)).unwrap()
    };
    assert_eq!(site.run(&["send", "-q", "--to", PHONE, "down"]).code, 0);

    // Before the settlement: the gateway takes its time, and somebody else writes meanwhile.
    gateway.set(Behaviour::ok().delay(std::time::Duration::from_millis(500)));
    let daemon = site.start();
    until("it is taken", || (taken(&gateway) == 1).then_some(()));
    let writer = open();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert_eq!(ledger(), "waiting open");
    daemon.kill();
    drop(writer);
    gateway.set(Behaviour::ok());
    let daemon = site.start();
    until("it is resent", || (ledger() == "sent resent accepted!").then_some(()));
    daemon.stop();
    assert_eq!(taken(&gateway), 2);
    site.audit();
}
