//! What stands around the engine: the desk at which intakes hand in, and all that listens and shows.
//!
//! None of it can hold up sending. Each part has a task of its own, and one that panics is started again and takes nothing
//! else with it; what can not be opened (an address in use, a folder that is not there) is said and tried again while SMS
//! go out.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::admin;
use super::service::Service;
use crate::engine::pulse::Pulse;
use crate::intake::{self, Intake, smtp, spool};
use crate::os::orphans;
use crate::telemetry::sampler::Asker;
use crate::web::{self, Site};

/// How long a part that has panicked is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs all of it until `over` is cancelled.
pub(crate) async fn run(
    site: Site,
    clerk: intake::Clerk,
    asker: Asker,
    (service, pulse): (Arc<Service>, Pulse),
    over: CancellationToken,
) {
    let (clerk, asker) = (Arc::new(Mutex::new(clerk)), Arc::new(Mutex::new(asker)));
    let desk = || {
        let (clerk, over) = (Arc::clone(&clerk), over.clone());
        async move { clerk.lock().await.work(over).await }
    };
    let sampler = || {
        let (asker, over) = (Arc::clone(&asker), over.clone());
        async move { asker.lock().await.work(over).await }
    };
    let history = || {
        let (hub, queue, over) = (Arc::clone(&site.hub), Arc::clone(&site.queue), over.clone());
        async move { over.run_until_cancelled(hub.remember(&*queue)).await.unwrap_or_default() }
    };
    let mail =
        || admin::run(Arc::clone(&site.hub), Arc::clone(&site.queue), site.standing.clone(), over.clone());
    let standing = || (site.standing.clone(), over.clone());
    let spool = || {
        let (standing, over) = standing();
        spool::run(site.desk.at(Intake::Spool), standing, over)
    };
    let smtp = || {
        let (standing, over) = standing();
        smtp::run(site.desk.at(Intake::Smtp), standing, over)
    };
    let told = || {
        let (service, pulse, standing) = (Arc::clone(&service), pulse.clone(), site.standing.clone());
        let (hub, sampler, over) = (Arc::clone(&site.hub), site.sampler.clone(), over.clone());
        let patience = move || standing.borrow().config.main.shutdown_timeout;
        async move { service.work(pulse, hub, sampler, patience, over).await }
    };
    let orphans = || {
        let over = over.clone();
        async move { over.run_until_cancelled(orphans::bury()).await.unwrap_or_default() }
    };
    let web = || web::serve(site.clone(), over.clone());
    tokio::join!(
        apart("the desk", &over, desk),
        apart("the look at the queue", &over, sampler),
        apart("the look at the last day", &over, history),
        apart("the mail to the admin", &over, mail),
        apart("the spool", &over, spool),
        apart("the mail intake", &over, smtp),
        apart("the HTTP interface", &over, web),
        apart("what the service manager is told", &over, told),
        apart("the care for orphans", &over, orphans),
    );
}

/// Runs a part in a task of its own until it ends; one that panics is started again.
async fn apart<F: Future<Output = ()> + Send + 'static>(
    what: &str,
    over: &CancellationToken,
    start: impl Fn() -> F,
) {
    // What a panic says may be foreign, and is on standard error already.
    while AbortOnDropHandle::new(tokio::spawn(start())).await.is_err() {
        tracing::error!(
            "{what} has failed by a fault of smsd's; SMS go out, and it is started again in {} s",
            PAUSE.as_secs()
        );
        if over.run_until_cancelled(sleep(PAUSE)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_is_started_again_and_takes_nothing_with_it() {
        let (starts, over) = (Arc::new(AtomicU32::new(0)), CancellationToken::new());
        let part = || {
            let starts = Arc::clone(&starts);
            async move { assert!(starts.fetch_add(1, Ordering::Relaxed) >= 2, "on purpose") }
        };
        let begun = tokio::time::Instant::now();
        tokio::join!(apart("a part", &over, part), async {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(starts.load(Ordering::Relaxed), 1, "others go on meanwhile");
        });
        assert_eq!((starts.load(Ordering::Relaxed), begun.elapsed()), (3, 2 * PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_started_again_once_it_is_over() {
        let over = CancellationToken::new();
        over.cancel();
        apart("a part", &over, || async { panic!("on purpose") }).await;
    }
}
