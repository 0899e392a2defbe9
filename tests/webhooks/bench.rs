//! A site in a folder: smsd.conf, an embedded queue, and the real routes above it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use nix::unistd::{User, chown, geteuid};
use serde_json::Value;
use smsd::config::{self, Config, Env};
use smsd::intake;
use smsd::queue::{Filter, Queue};
use smsd::standing::Standing;
use smsd::telemetry::{Hub, Sampler};
use smsd::web::{Site, router};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// Who posts.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A configuration in a folder of its own.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    /// With these sections, and a way out.
    pub(crate) fn new(sections: &str) -> Place {
        let dir = TempDir::new().unwrap();
        // What the examples leave to loopback, the tests do with a token.
        let keys = format!("[http]\ntoken: {TOKEN}\n");
        let sections = match sections.contains("[http]") {
            true => sections.replacen("[http]\n", &keys, 1),
            false => sections.to_owned(),
        };
        let conf = format!(
            "{sections}\n[main]\nusername: nobody\nstate_dir: {}\n[dispatcher]\ndispatcher1: DebugDispatcher\n",
            dir.path().display()
        );
        // What root starts becomes somebody else.
        if geteuid().is_root() {
            let nobody = User::from_name("nobody").unwrap().unwrap();
            chown(dir.path(), Some(nobody.uid), Some(nobody.gid)).unwrap();
        }
        let place = Place { dir };
        fs::write(place.conf(), conf).unwrap();
        fs::set_permissions(place.conf(), fs::Permissions::from_mode(0o600)).unwrap();
        place
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.dir.path().join("smsd.conf")
    }

    fn env(&self) -> Env {
        Env::empty(self.dir.path())
    }

    pub(crate) fn config(&self) -> Config {
        config::load(Some(&self.conf()), &self.env()).unwrap_or_else(|faults| panic!("{faults}")).config
    }

    /// What `smsd check` would say.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let faults = match config::load(Some(&self.conf()), &self.env()) {
            Ok(loaded) => loaded.warnings,
            Err(faults) => faults.0,
        };
        faults.iter().map(|fault| format!("{:?} {fault}", fault.severity)).collect()
    }

    /// Opens the queue, and the routes above it.
    pub(crate) async fn open(&self) -> Open {
        let config = self.config();
        let queue = smsd::queue::open(&config, &self.env()).await.unwrap().queue;
        Open::above(config, queue)
    }
}

/// The routes.
pub(crate) struct Open {
    queue: Arc<dyn Queue>,
    routes: Router,
    stand: watch::Sender<Arc<Standing>>,
    closing: CancellationToken,
    clerk: Option<JoinHandle<()>>,
}

/// An alert: to, severity, text.
pub(crate) type Told = (String, Option<i32>, String);

impl Open {
    pub(crate) fn above(config: Config, queue: Arc<dyn Queue>) -> Open {
        let (desk, mut clerk) = intake::desk(Arc::clone(&queue));
        let closing = CancellationToken::new();
        let over = closing.clone();
        let clerk = tokio::spawn(async move { clerk.work(over).await });
        let hub = Arc::new(Hub::new([]));
        let (stand, standing) = watch::channel(Arc::new(Standing { config, ways: Vec::new() }));
        let (sampler, _) = Sampler::new(Arc::clone(&queue));
        let site = Site {
            queue: Arc::clone(&queue),
            hub,
            sampler,
            desk,
            standing,
            socket: None,
            inherited: Arc::default(),
        };
        Open { queue, routes: router(site), stand, closing, clerk: Some(clerk) }
    }

    /// Another configuration from now on.
    pub(crate) fn reload(&self, config: Config) {
        self.stand.send_replace(Arc::new(Standing { config, ways: Vec::new() }));
    }

    /// Posts, and returns the status and the answer.
    pub(crate) async fn post(
        &self,
        uri: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, Value) {
        let request = Request::post(uri)
            .header("content-type", content_type)
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(body.into())
            .unwrap();
        let response = self.routes.clone().call(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Nothing is written any more.
    pub(crate) async fn close(&mut self) {
        self.closing.cancel();
        self.clerk.take().unwrap().await.unwrap();
    }

    /// Posts JSON that must be taken; returns how many alerts it came to.
    pub(crate) async fn take(&self, name: &str, body: impl Into<Body>) -> usize {
        let (status, answer) = self.post(&format!("/api/v1/webhooks/{name}"), "application/json", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["ids"].as_array().unwrap().len()
    }

    /// All that is queued, oldest first.
    pub(crate) async fn queued(&self) -> Vec<Told> {
        let filter = Filter { state: None, to: None, limit: 100_000, before: None };
        let rows = self.queue.list(&filter).await.unwrap();
        rows.into_iter().rev().map(|row| (row.to, row.severity.0, row.text)).collect()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// A body of `tests/fixtures/webhooks`.
pub(crate) fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/webhooks").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn told(to: &str, severity: Option<i32>, text: &str) -> Told {
    (to.to_owned(), severity, text.to_owned())
}
