//! What stands around the engine: the desk at which intakes hand in, and all that listens and shows.
//!
//! None of it can hold up sending: it shares no task with the engine, and what can not be opened (an address in use, a
//! folder that is not there) is said and tried again while SMS go out.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::intake;
use crate::telemetry::sampler::Asker;
use crate::web::{self, Site};

/// Runs all of it until `over` is cancelled.
pub(crate) async fn run(site: Site, clerk: intake::Clerk, asker: Asker, over: CancellationToken) {
    let (hub, queue) = (Arc::clone(&site.hub), Arc::clone(&site.queue));
    let remember = over.run_until_cancelled(hub.remember(&*queue));
    tokio::join!(
        clerk.work(over.clone()),
        asker.work(over.clone()),
        remember,
        web::serve(site, over.clone())
    );
}
