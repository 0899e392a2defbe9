//! How fast NAV's queue begins and settles: `navdb_rate URL ROWS [BATCH…]`, in an empty database with NAV's table.
//!
//! One SMS per alert, all numbers different. The next batch begins while the last one settles, as in the
//! engine. Server and client share the machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use smsd::alert::{Phone, Severity, Verdict};
use smsd::config::{PostgresTarget, Secret};
use smsd::queue::{
    AttemptState, Closing, Instance, Look, NewAlert, NewAttempt, Queue, Schema, Settlement, navdb,
};
use uuid::Uuid;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("URL ROWS [BATCH…]")?;
    let rows: usize = arguments.next().context("URL ROWS [BATCH…]")?.parse()?;
    let target = PostgresTarget { url: Some(Secret::new(url)), ..PostgresTarget::default() };
    let queue: Arc<dyn Queue> = Arc::new(navdb::open(&target, true).await?);
    navdb::open(&target, true).await?.init(false).await?;
    let owner = Uuid::now_v7();
    let instance = Instance { id: owner, name: "rate".into(), lock: owner.to_string() };
    queue.join(&instance, Duration::from_secs(3600)).await?;
    for batch in arguments {
        measure(&queue, owner, rows, batch.parse()?).await?;
    }
    Ok(())
}

async fn measure(queue: &Arc<dyn Queue>, owner: Uuid, rows: usize, batch: usize) -> anyhow::Result<()> {
    let text = "NAV: host-17.example.org is down since 12:00, boxDown critical, see web";
    for start in (0..rows).step_by(10_000) {
        let new = |i| {
            let to = Phone::parse(&format!("+47{:08}", 90_000_000 + i))?;
            Ok(NewAlert { to, text: text.into(), severity: Severity(Some(3)), account: None })
        };
        let alerts: anyhow::Result<Vec<NewAlert>> = (start..rows.min(start + 10_000)).map(new).collect();
        queue.submit(&alerts?).await?;
    }
    let claiming = Instant::now();
    let mut after = None;
    let mut waiting = Vec::new();
    loop {
        let page = queue.claim(Look::Full { after }, 1000).await?;
        let Some(last) = page.last() else { break };
        after = Some(smsd::queue::Place { severity: last.severity, id: last.id });
        waiting.extend(page);
    }
    let claimed = claiming.elapsed();

    let started = Instant::now();
    let (accepted, mut to_settle) = tokio::sync::mpsc::channel::<Vec<NewAttempt>>(1);
    let settling = tokio::spawn({
        let queue = queue.clone();
        async move {
            while let Some(batch) = to_settle.recv().await {
                let settlements: Vec<Settlement> = batch.iter().map(settlement).collect();
                let settled = queue.settle(owner, &settlements).await?;
                anyhow::ensure!(settled == Default::default(), "{settled:?}");
            }
            anyhow::Ok(())
        }
    });
    for alerts in waiting.chunks(batch) {
        let mut attempts = Vec::with_capacity(batch);
        for alert in alerts {
            attempts.push(NewAttempt {
                id: Uuid::now_v7(),
                recipient: Phone::parse(&alert.phone)?,
                text: alert.text.as_str().into(),
                dispatcher: "gateway".into(),
                number: 1,
                deadline: Duration::from_secs(30),
                carried: vec![alert.id],
                counted: Vec::new(),
                possible_duplicate: false,
                resend_of: None,
            });
        }
        let owned = queue.begin(owner, &attempts).await?;
        anyhow::ensure!(owned.len() == attempts.len(), "{} of {} are ours", owned.len(), attempts.len());
        accepted.send(attempts).await?;
    }
    drop(accepted);
    settling.await??;
    let rate = waiting.len() as f64 / started.elapsed().as_secs_f64();
    println!(
        "batch {batch}: {rate:.0} alerts/s begun and settled ({} claimed in {claimed:?})",
        waiting.len()
    );
    Ok(())
}

fn settlement(attempt: &NewAttempt) -> Settlement {
    Settlement {
        closing: Some(Closing {
            id: attempt.id,
            state: AttemptState::Accepted,
            class: "accepted",
            code: Some("200".into()),
            detail: "accepted".into(),
            references: vec!["4711".into()],
        }),
        verdicts: attempt.carried.iter().map(|id| (*id, Verdict::Sent)).collect(),
        detail: String::new(),
    }
}
