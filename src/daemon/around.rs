//! What stands around the engine: the desk at which intakes hand in, and all that listens and shows.
//!
//! None of it can hold up sending: it shares no task with the engine, and what can not be opened (an address in use, a
//! folder that is not there) is said and tried again while SMS go out.

use tokio_util::sync::CancellationToken;

use crate::intake::{self, smtp, spool};
use crate::web::{self, Site};

/// Runs all of it until `over` is cancelled.
pub(crate) async fn run(site: Site, clerk: intake::Clerk, over: CancellationToken) {
    let (desk, standing) = (&site.desk, &site.standing);
    let spool = spool::run(desk.clone(), standing.clone(), over.clone());
    let smtp = smtp::run(desk.clone(), standing.clone(), over.clone());
    tokio::join!(clerk.work(over.clone()), spool, smtp, web::serve(site, over));
}
