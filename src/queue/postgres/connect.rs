//! One connection: host after host, with or without TLS as `sslmode` says.

use std::time::Duration;

use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::cancel::Canceller;
use super::fault;
use super::settings::{Settings, TlsMode};
use super::tls;
use crate::queue::QueueError;

/// The driver of a connection, which delivers notifications and ends with it.
pub(super) type Driver = futures_util::future::BoxFuture<'static, ()>;

/// A connection that is logged in.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) driver: Driver,
    pub(super) canceller: Canceller,
}

/// What a connection's driver calls for each notification, with its payload.
pub(super) type OnNotify = std::sync::Arc<dyn Fn(&str) + Send + Sync>;

/// Connects and logs in.
pub(super) async fn connect(settings: &Settings, notify: &OnNotify) -> Result<Connected, QueueError> {
    let mut last = None;
    for (host, port) in &settings.hosts {
        let tries = if host.starts_with('/') { &[SslMode::Disable][..] } else { tries(settings.tls.mode) };
        for (i, mode) in tries.iter().enumerate() {
            let attempt = connect_one(settings, host, *port, *mode, notify);
            match tokio::time::timeout(settings.connect_timeout, attempt).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(Failure::Settings(message))) => return Err(QueueError::Refused(message)),
                Ok(Err(Failure::Remote(error))) => {
                    let again = i + 1 < tries.len() && may_be_for_tls(&error);
                    last = Some(fault::of_connecting(settings, host, *port, &error));
                    if !again {
                        break;
                    }
                }
                Err(_) => {
                    let seconds = settings.connect_timeout.as_secs();
                    let message = format!("no answer from PostgreSQL at {host}:{port} within {seconds} s");
                    last = Some(QueueError::Unavailable(message));
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| QueueError::Refused("no database host is configured".into())))
}

enum Failure {
    Settings(String),
    Remote(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        Failure::Remote(error)
    }
}

/// What libpq tries, one after the other, in each of its modes.
fn tries(mode: TlsMode) -> &'static [SslMode] {
    match mode {
        TlsMode::Disable => &[SslMode::Disable],
        TlsMode::Allow => &[SslMode::Disable, SslMode::Require],
        TlsMode::Prefer => &[SslMode::Prefer, SslMode::Disable],
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => &[SslMode::Require],
    }
}

/// The failure may be due to TLS or its absence: the handshake, or pg_hba.conf, which answers 28000.
fn may_be_for_tls(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => fault::is_tls(error),
    }
}

async fn connect_one(
    settings: &Settings,
    host: &str,
    port: u16,
    mode: SslMode,
    notify: &OnNotify,
) -> Result<Connected, Failure> {
    let mut config = Config::new();
    config
        .host(host)
        .port(port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&settings.application_name)
        .ssl_mode(mode)
        .connect_timeout(settings.connect_timeout)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3);
    if let Some(password) = &settings.password {
        config.password(password.reveal());
    }
    if let Some(options) = &settings.options {
        config.options(options);
    }
    if settings.hosts.len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if mode == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await?;
        let canceller = Canceller { token: client.cancel_token(), tls: None };
        return Ok(Connected { client, driver: Box::pin(drive(connection, notify.clone())), canceller });
    }
    let tls = MakeRustlsConnect::new(tls::client_config(&settings.tls).map_err(Failure::Settings)?);
    let (client, connection) = config.connect(tls.clone()).await?;
    let canceller = Canceller { token: client.cancel_token(), tls: Some(tls) };
    Ok(Connected { client, driver: Box::pin(drive(connection, notify.clone())), canceller })
}

/// Moves bytes until the connection ends. Its error is not told here: whoever waits for an answer gets it.
async fn drive<T>(mut connection: Connection<Socket, T>, notify: OnNotify)
where
    T: tokio_postgres::tls::TlsStream + Unpin,
{
    loop {
        match futures_util::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(n))) => notify(n.payload()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
}
