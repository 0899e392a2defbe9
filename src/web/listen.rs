//! Where we listen, and each connection that comes.
//!
//! We accept ourselves, since a server out of the box waits for ever for whoever connects and says nothing. A connection
//! has a place among so many ([`limits`]); one that has asked nothing whole has to make way for the next,
//! so that those who only connect keep nobody out. What can not be opened is said once and tried again: SMS go out
//! meanwhile.
//!
//! Our own user's commands have a socket of their own, with places of its own.

mod bind;
mod connection;
mod lines;
mod patient;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use futures_util::future::join_all;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::bind::{Accepted, Bound};
use super::access::{Came, From};
use super::limits::{self, Places};
use super::{Closing, Site, router, tls};
use crate::config::{HttpConfig, Listen, TlsFiles};
use crate::intake::{Intake, Refusal, Shares, Tally};
use crate::os::{Inherited, descriptors};

/// Between two tries to listen where we can not, and to read a certificate that can not be read.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two tries to accept when the system has no descriptor for us.
const SHORT_PAUSE: Duration = Duration::from_millis(100);
/// How long a stop waits for answers that are being given.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Connections of our own user's commands at once.
const OUR_COMMANDS: usize = 32;

/// Serves until `over` is cancelled.
pub async fn serve(site: Site, over: CancellationToken) {
    let mut standing = site.standing.clone();
    let (socket, inherited) = (site.socket.clone(), Arc::clone(&site.inherited));
    tell_of_unheard(&standing.borrow().config.http, &inherited);
    let tally = site.desk.tally().clone();
    let answers = limits::answers(&site.standing().config.main);
    let app = router(site).layer(Extension(Closing(over.clone())));
    let tasks = TaskTracker::new();
    if let Some(path) = socket {
        let desk = Desk {
            app: app.clone(),
            answers: Arc::clone(&answers),
            places: Arc::new(Places::new(OUR_COMMANDS)),
            tally: tally.clone(),
            over: over.clone(),
            tls: None,
        };
        tasks.spawn(listen_to_our_user(path.into(), desk, tasks.clone()));
    }
    let descriptors = descriptors::allowed().unwrap_or(1_024);
    let (keys, tls) = watch::channel(Tls::Off);
    let mut open: HashMap<Listen, CancellationToken> = HashMap::new();
    let mut lacked = None;
    let mut places = Arc::new(Places::new(0));
    loop {
        let http = standing.borrow_and_update().config.http.clone();
        let again = renew(&keys, &http);
        let lacks = http.lacks();
        let judged_anew = std::mem::replace(&mut lacked, lacks) != lacks;
        open.retain(|address, listening| {
            let named = http.listen.contains(address);
            if !named {
                tracing::info!("HTTP listens on {address} no more");
            }
            // Of a socket that was opened for us, only now is known who reaches it.
            let stays = named && !(judged_anew && matches!(address, Listen::Systemd(_)));
            if !stays {
                listening.cancel();
            }
            stays
        });
        if open.is_empty() {
            places = Arc::new(Places::new(limits::connections(&http, descriptors)));
        }
        for address in &http.listen {
            if !open.contains_key(address) {
                let until = over.child_token();
                open.insert(address.clone(), until.clone());
                let tls = Some(tls.clone());
                let (app, places, tally) = (app.clone(), Arc::clone(&places), tally.clone());
                let answers = Arc::clone(&answers);
                let desk = Desk { app, answers, places, tally, over: over.clone(), tls };
                let opened = (Arc::clone(&inherited), lacks);
                tasks.spawn(listen(address.clone(), opened, until, desk, tasks.clone()));
            }
        }
        tokio::select! {
            Ok(()) = standing.changed() => {}
            () = sleep(PAUSE), if again => {}
            () = over.cancelled() => break,
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// What every connection of an address needs.
#[derive(Clone)]
struct Desk {
    app: Router,
    answers: Arc<Shares>,
    places: Arc<Places>,
    tally: Tally,
    over: CancellationToken,
    /// What holds for TLS; `None` where it is never spoken. By a Unix socket it never is.
    tls: Option<watch::Receiver<Tls>>,
}

/// Whether TLS is spoken.
#[derive(Clone)]
enum Tls {
    Off,
    On(TlsFiles, Arc<ServerConfig>),
    /// It should be, and can not: nobody is answered in the clear instead.
    Broken(String),
}

/// Reads the certificate; true if that is to be tried again. One that can not be read leaves the last one in use.
fn renew(keys: &watch::Sender<Tls>, http: &HttpConfig) -> bool {
    let Some(files) = &http.tls else {
        keys.send_replace(Tls::Off);
        return false;
    };
    match tls::server(files) {
        Ok(config) => {
            keys.send_replace(Tls::On(files.clone(), config));
            false
        }
        Err(error) => {
            let error = error.to_string();
            let mut news = true;
            keys.send_modify(|tls| match tls {
                Tls::On(old, _) if old == files => {}
                Tls::Broken(old) if *old == error => news = false,
                _ => *tls = Tls::Broken(error.clone()),
            });
            if news {
                tracing::error!(
                    "HTTP: {error}; trying again, with the last certificate that worked if there is one"
                );
            }
            true
        }
    }
}

async fn listen(
    address: Listen,
    (inherited, lacks): (Arc<Inherited>, Option<&'static str>),
    until: CancellationToken,
    desk: Desk,
    tasks: TaskTracker,
) {
    let mut said = None;
    loop {
        match bind::bind(&address, &inherited, lacks).await {
            Ok(bound) => {
                bound.iter().for_each(|bound| tracing::info!("HTTP listens on {}", bound.address()));
                join_all(bound.into_iter().map(|bound| accept(bound, &until, &desk, &tasks, None))).await;
                return;
            }
            Err(error) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::error!("HTTP can not listen on {address}: {error}; trying again");
                    said = Some(error);
                }
            }
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = until.cancelled() => return,
        }
    }
}

/// By the socket that only our own user and root can use. Without it, commands work all the same.
async fn listen_to_our_user(path: Box<Path>, desk: Desk, tasks: TaskTracker) {
    match bind::bind_ours(&path).await {
        Ok(bound) => {
            let until = desk.over.clone();
            accept(bound, &until, &desk, &tasks, Some(Arc::from("smsd"))).await;
        }
        Err(error) => tracing::info!(
            "no socket for our own commands at {}: {error}; they work without, and see less of what runs",
            path.display()
        ),
    }
}

async fn accept(
    bound: Bound,
    until: &CancellationToken,
    desk: &Desk,
    tasks: &TaskTracker,
    our_user: Option<Arc<str>>,
) {
    let mut said = false;
    loop {
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            () = until.cancelled() => return,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_theirs(&error) => continue,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::error!("HTTP can accept no connection: {error}; trying again");
                }
                sleep(SHORT_PAUSE).await;
                continue;
            }
        };
        said = false;
        let from = match (&our_user, accepted.is_local()) {
            (Some(_), _) if !accepted.is_of_our_user() => continue,
            (Some(name), _) => From::OurUser(Arc::clone(name)),
            (None, true) => From::Here,
            (None, false) => From::Anywhere,
        };
        let address = accepted.address();
        // All are being answered: whoever comes now has to come again.
        let Some(seat) = desk.places.take() else {
            desk.tally.refuse(Intake::Http, Refusal::Room, address);
            continue;
        };
        let (served, over) = ((desk.app.clone(), Arc::clone(&desk.answers)), desk.over.clone());
        let tls = match (&accepted, &desk.tls) {
            (Accepted::Tcp(..), Some(tls)) => tls.borrow().clone(),
            _ => Tls::Off,
        };
        tasks.spawn(async move {
            let came = Came { from, tls: matches!(tls, Tls::On(..)), address };
            let talk = async {
                match (accepted, tls) {
                    (_, Tls::Broken(_)) => {}
                    (Accepted::Tcp(stream, _), Tls::Off) => {
                        connection::serve(stream, came, served, &seat.place, &over).await;
                    }
                    (Accepted::Tcp(stream, _), Tls::On(_, config)) => {
                        let handshake = TlsAcceptor::from(config).accept(stream);
                        if let Ok(Ok(stream)) = tokio::time::timeout(limits::HEAD_TIME, handshake).await {
                            connection::serve(stream, came, served, &seat.place, &over).await;
                        }
                    }
                    (Accepted::Unix(stream), _) => {
                        connection::serve(stream, came, served, &seat.place, &over).await;
                    }
                }
            };
            tokio::select! {
                () = talk => {}
                () = seat.place.given_away.cancelled() => {}
            }
        });
    }
}

/// Whoever asks at a socket that systemd has opened and we do not listen on waits for ever.
fn tell_of_unheard(http: &HttpConfig, inherited: &Inherited) {
    let heard = |name: &str| {
        http.listen.iter().any(|listen| match listen {
            Listen::Systemd(wanted) => wanted.as_deref().is_none_or(|wanted| wanted == name),
            _ => false,
        })
    };
    for name in inherited.names().filter(|name| !heard(name)) {
        tracing::warn!(
            "systemd has handed over the socket {name:?}, and nobody answers there: `listen` in [http] lacks \
             systemd:{name}"
        );
    }
}

/// True for an error of the connection that was about to be accepted.
fn is_theirs(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
