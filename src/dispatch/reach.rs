//! How a host is reached by its name, in the very outage in which name servers are silent.
//!
//! A resolver asks its second name server only when the first has been silent for 5 s (resolv.conf(5), `timeout`), so a
//! lookup has a time of its own, up to that of the whole submit, and what connecting may take counts from there. The
//! addresses that were found last are kept: where a lookup is slow or fails, they are used at once, since names of
//! gateways seldom change. One lookup is under way at a time, and goes on when nobody waits for it any more. Of several
//! addresses one that is silent holds up no other (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use futures_util::future::{FutureExt, Shared};
use hyper::http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

/// How long a lookup may take before the addresses that were found last are used.
const PATIENCE: Duration = Duration::from_millis(300);

/// Looks up the name of one host, and remembers what it found. Clones remember together.
#[derive(Clone)]
pub struct Addresses(Arc<Mutex<Memory>>);

struct Memory {
    ask: Ask,
    found: Vec<SocketAddr>,
    under_way: Option<Lookup>,
}

type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;
type Lookup = Shared<Pin<Box<dyn Future<Output = Found> + Send>>>;
type Ask =
    Arc<dyn Fn(Name) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync>;

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses::by(Arc::new(|name| {
            let lookup = GaiResolver::new().call(name);
            Box::pin(async move { Ok(lookup.await?.collect()) })
        }))
    }
}

impl Addresses {
    fn by(ask: Ask) -> Addresses {
        Addresses(Arc::new(Mutex::new(Memory { ask, found: Vec::new(), under_way: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found last, and the lookup that is under way.
    fn look_up(&self, name: Name) -> (Vec<SocketAddr>, Lookup) {
        let mut memory = self.lock();
        if let Some(lookup) = &memory.under_way {
            return (memory.found.clone(), lookup.clone());
        }
        let (asked, memory_of) = ((memory.ask)(name), self.clone());
        let lookup = async move {
            let found = asked.await.map_err(Arc::new);
            let mut memory = memory_of.lock();
            memory.under_way = None;
            if let Ok(found) = &found
                && !found.is_empty()
            {
                memory.found.clone_from(found);
            }
            found
        };
        let lookup: Lookup = (Box::pin(lookup) as Pin<Box<dyn Future<Output = Found> + Send>>).shared();
        memory.under_way = Some(lookup.clone());
        // It fills the memory also when whoever waits for it gives up.
        tokio::spawn(lookup.clone());
        (memory.found.clone(), lookup)
    }

    /// Connects to a host by its name or address. Of each address a part of this time is waited for; the lookup has its own.
    pub(super) async fn connect(&self, host: &str, port: u16, within: Duration) -> Result<TcpStream, String> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let uri: Uri =
            format!("tcp://{host}:{port}/").parse().map_err(|_| format!("{host:?} is no name of a host"))?;
        let mut connector = HttpConnector::new_with_resolver(self.clone());
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(within));
        Ok(connector.call(uri).await.map_err(|e| chain(&e))?.into_inner())
    }
}

impl Service<Name> for Addresses {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<vec::IntoIter<SocketAddr>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (known, lookup) = self.look_up(name);
        Box::pin(async move {
            let found = if known.is_empty() {
                lookup.await.map_err(|e| io::Error::new(e.kind(), e.to_string()))?
            } else {
                match timeout(PATIENCE, lookup).await {
                    Ok(Ok(found)) if !found.is_empty() => found,
                    _ => known,
                }
            };
            Ok(found.into_iter())
        })
    }
}

/// The words of an error and of what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    /// Answers with the address of the n-th question after so many milliseconds each; fails after 0.
    fn answering(after: &'static [u64]) -> (Addresses, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        let ask: Ask = Arc::new(move |_| {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            let after = after.get(n as usize).copied().unwrap_or(10);
            Box::pin(async move {
                sleep(Duration::from_millis(after.max(1))).await;
                match after {
                    0 => Err(io::Error::other("no name server answers")),
                    _ => Ok(vec![SocketAddr::from(([192, 0, 2, n as u8], 80))]),
                }
            })
        });
        (Addresses::by(ask), asked)
    }

    async fn ask(addresses: &Addresses) -> io::Result<Vec<u8>> {
        let found = addresses.clone().call("gw.example".parse().unwrap()).await?;
        Ok(found
            .filter_map(|a| if let SocketAddr::V4(a) = a { Some(a.ip().octets()[3]) } else { None })
            .collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_name_server_costs_its_time_once() {
        let (addresses, asked) = answering(&[5_200, 5_200, 0, 60_000]);
        let begun = Instant::now();
        assert_eq!(ask(&addresses).await.unwrap(), [0], "a first lookup is waited for");
        assert_eq!(begun.elapsed(), Duration::from_millis(5_200));
        let begun = Instant::now();
        for _ in 0..10 {
            assert_eq!(ask(&addresses).await.unwrap(), [0], "what is known is used");
        }
        assert_eq!(begun.elapsed(), PATIENCE * 10);
        assert_eq!(asked.load(Ordering::Relaxed), 2, "one lookup is under way at a time");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(ask(&addresses).await.unwrap(), [1], "it has ended meanwhile; the next one fails");
        assert_eq!(ask(&addresses).await.unwrap(), [1]);
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_a_lookup_that_goes_on() {
        let (addresses, _) = answering(&[5_200]);
        assert!(timeout(Duration::from_secs(5), ask(&addresses)).await.is_err());
        sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        ask(&addresses).await.unwrap();
        assert!(begun.elapsed() <= PATIENCE);
        let (addresses, _) = answering(&[0]);
        assert!(ask(&addresses).await.unwrap_err().to_string().contains("no name server answers"));
    }
}
