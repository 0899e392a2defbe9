//! What a mail server says, from its greeting to its word after the final dot: an end for everything, and a class for each.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use smsd::dispatch::Class;
use smsd::dispatch::smtp::meaning::Meanings;
use smsd::dispatch::smtp::{Envelope, Failure, Phase, Reply, Session};
use tokio::time::Instant;

/// The whole input is what the server says.
pub(crate) fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let ended = runtime.block_on(talk(data.to_vec()));
    let failure = match ended {
        Ok(reply) => {
            assert!(reply.is_positive());
            return check(&reply);
        }
        Err(failure) => failure,
    };
    if let Failure::Refused(_, reply) = &failure {
        check(reply);
    }
    for address_per_number in [false, true] {
        let meanings = Meanings { overrides: BTreeMap::new(), address_per_number };
        let class = meanings.of(&failure);
        // Only silence and nonsense after the final dot leave open whether the mail was taken.
        let open = match &failure {
            Failure::Broken(phase, _) => *phase == Phase::Dot,
            Failure::Refused(phase, reply) => *phase == Phase::Dot && reply.code < 400,
            Failure::Lacking(_) => false,
        };
        assert_eq!(class == Class::Unknown, open, "{failure:?}");
        assert!(!meanings.is_accepted(&failure));
    }
}

async fn talk(data: Vec<u8>) -> Result<Reply, Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let stream = tokio::io::join(Cursor::new(data), tokio::io::sink());
    let session = Session::over(stream, "smsd.example", deadline).await?;
    let _ = session.offers("8BITMIME");
    session.send(Envelope { from: "a@example.org", to: "b@example.org" }, b"Subject: x\r\n\r\n.\r\n").await
}

fn check(reply: &Reply) {
    assert!((200..600).contains(&reply.code));
    assert!(reply.text.len() <= 64 * 1024);
    assert!(!reply.shown_code().is_empty() && reply.shown_code().len() <= 11);
}
