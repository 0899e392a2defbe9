//! What has waited too long: queued or made to wait again before a time, by every setting of the wall clock that has
//! something to say, and not come since. What was taken over from a queue elsewhere has waited there.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ToSql};

use super::clock::{Now, micros};
use super::failure::Failure;
use crate::queue::Age;
use crate::queue::arrivals::Arrivals;
use crate::queue::wall::{SLACK, Wall};

/// The condition, and what it is asked with.
#[derive(Clone, Debug)]
pub(super) struct TooOld {
    /// What waits since before is too old by the clock.
    pub(super) before: i64,
    /// The greatest key that may have waited so long.
    long: i64,
    /// When what is young by an earlier setting of the clock was queued, as JSON: `[[from, until], …]`.
    young: Option<String>,
}

impl TooOld {
    pub(super) fn look(
        conn: &Connection,
        age: &Age,
        (now, wall): (Now, Wall),
        arrivals: &Mutex<Arrivals>,
    ) -> Result<TooOld, Failure> {
        const NEWEST: &str = "SELECT coalesce(max(id), 0) FROM alert";
        let newest = conn.prepare_cached(NEWEST)?.query_row([], |row| row.get(0))?;
        let uptime = Duration::from_micros(now.uptime.unsigned_abs());
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let span = micros(age.duration);
        let young: Vec<[i64; 2]> = (wall.ahead().into_iter())
            .map(|ahead| now.wall.saturating_sub(ahead))
            .map(|then| [then.saturating_sub(span), then.saturating_add(SLACK)])
            .collect();
        Ok(TooOld {
            before: now.wall.saturating_sub(span),
            long: arrivals.look(newest, uptime, age.duration),
            young: (!young.is_empty()).then(|| serde_json::json!(young).to_string()),
        })
    }

    /// The condition on a row `a` of `alert`. While the clock was never set, it is the short one: it is asked of each row
    /// of a long walk.
    pub(super) fn sql(&self) -> &'static str {
        match self.young {
            None => {
                "coalesce(a.requeued_at, a.queued_at) < :before
                 AND (a.id <= :long OR EXISTS (SELECT 1 FROM origin o WHERE o.alert = a.id))"
            }
            Some(_) => {
                "coalesce(a.requeued_at, a.queued_at) < :before
                 AND (a.id <= :long OR EXISTS (SELECT 1 FROM origin o WHERE o.alert = a.id))
                 AND NOT EXISTS (SELECT 1 FROM json_each(:young) y
                    WHERE coalesce(a.requeued_at, a.queued_at) BETWEEN y.value ->> 0 AND y.value ->> 1)"
            }
        }
    }

    /// What the condition is asked with.
    pub(super) fn params(&self) -> Vec<(&'static str, &dyn ToSql)> {
        let mut params: Vec<(&'static str, &dyn ToSql)> =
            vec![(":before", &self.before), (":long", &self.long)];
        if let Some(young) = &self.young {
            params.push((":young", young));
        }
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::sqlite::file::SCHEMA;

    const MINUTE: i64 = 60_000_000;
    const HOUR: i64 = 60 * MINUTE;
    const YEARS: i64 = 10 * 365 * 24 * HOUR;

    /// SQL and [`Wall::age`] say the same of every moment, whatever the clock has shown.
    #[test]
    fn the_statement_agrees_with_the_rule() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(SCHEMA).unwrap();
        let age = Age { text: "1 hour".into(), duration: Duration::from_secs(3600) };
        for jumps in [&[][..], &[HOUR], &[-HOUR], &[YEARS, -YEARS], &[MINUTE, 2 * YEARS, -HOUR]] {
            let (mut wall, mut set) = (Wall::default(), 5 * YEARS);
            let uptime = 3 * HOUR;
            wall.see(set + uptime, uptime);
            for jump in jumps {
                set += jump;
                wall.see(set + uptime, uptime);
            }
            let now = Now { wall: set + uptime, uptime };
            let moments = [0, MINUTE, HOUR, 2 * HOUR, YEARS, -MINUTE, -2 * MINUTE, -HOUR, -YEARS, 1 - HOUR];
            conn.execute("DELETE FROM alert", []).unwrap();
            for ago in moments {
                for set in std::iter::once(&0).chain(jumps) {
                    let sql = "INSERT INTO alert (phone, text, queued_at) VALUES ('+4799999999', 'x', ?)";
                    conn.execute(sql, [now.wall - ago - set]).unwrap();
                }
            }
            let arrivals = Mutex::default();
            let old = TooOld::look(&conn, &age, (now, wall.clone()), &arrivals).unwrap();
            let sql = format!("SELECT a.queued_at, {} FROM alert a", old.sql());
            let mut asked = conn.prepare(&sql).unwrap();
            let rows = asked.query_map(&*old.params(), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            for (then, is_old) in rows.map(Result::<(i64, bool), _>::unwrap) {
                let by_rule = then < old.before && wall.age(then, now.wall) > age.duration;
                assert_eq!(is_old, by_rule, "{} ago, jumps {jumps:?}", now.wall - then);
            }
        }
    }
}
