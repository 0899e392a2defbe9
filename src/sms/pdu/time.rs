//! Times of the service centre (3GPP TS 23.040 §9.2.3.11) and how long it shall try (§9.2.3.12.1).

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::{PduError, Reader};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;
const WEEK: u64 = 7 * DAY;

/// Reads seven octets. `None` for a time that there is not: service centres send such, and the SMS is none the worse.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Timestamp>, PduError> {
    let octets = reader.take(7, "a time")?;
    Ok(of(octets))
}

fn of(octets: &[u8]) -> Option<Timestamp> {
    let two = |octet: u8| {
        let (tens, ones) = (octet & 0x0F, octet >> 4);
        (tens < 10 && ones < 10).then_some((tens * 10 + ones) as i8)
    };
    let [year, month, day, hour, minute, second, zone] = *octets else { return None };
    // GSM has sent SMS since 1992.
    let year = two(year)?;
    let century = if year >= 90 { 1900 } else { 2000 };
    let local = DateTime::new(
        century + i16::from(year),
        two(month)?,
        two(day)?,
        two(hour)?,
        two(minute)?,
        two(second)?,
        0,
    )
    .ok()?;
    // Quarters of an hour; the sign is the bit that tens do not need.
    let quarters = i32::from(two(zone & !0x08)?);
    let sign = if zone & 0x08 == 0 { 1 } else { -1 };
    let offset = Offset::from_seconds(sign * quarters * 15 * 60).ok()?;
    offset.to_timestamp(local).ok()
}

/// The shortest relative validity period that is no shorter than asked for, of those there are: 5 minutes to 63 weeks.
pub(super) fn relative(validity: Duration) -> u8 {
    let seconds = validity.as_secs().saturating_add(u64::from(validity.subsec_nanos() > 0));
    let value = match seconds {
        s if s <= 12 * 60 * MINUTE => s.div_ceil(5 * MINUTE).max(1) - 1,
        s if s <= DAY => 143 + (s - DAY / 2).div_ceil(30 * MINUTE),
        s if s <= 30 * DAY => 166 + s.div_ceil(DAY),
        s => 192 + s.div_ceil(WEEK),
    };
    value.min(255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_zone() {
        let of = |hex: &str| of(&hex::decode(hex).unwrap()).map(|time| time.to_string());
        assert_eq!(
            of("62113251619340").as_deref(),
            Some("2026-11-23T14:16:39Z"),
            "an hour east of Greenwich"
        );
        assert_eq!(of("6211325161934A").as_deref(), Some("2026-11-23T21:16:39Z"), "six hours west");
        assert_eq!(of("99309251619580").as_deref(), Some("1999-03-29T13:16:59Z"));
        for nonsense in
            ["00000000000000", "62AA3251619340", "62113242000040", "621132516193F0", "62212351619340"]
        {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn validity_is_rounded_up() {
        for (seconds, value) in [
            (0, 0),
            (1, 0),
            (300, 0),
            (301, 1),
            (43_200, 143),
            (43_201, 144),
            (86_400, 167),
            (86_401, 168),
            (30 * 86_400, 196),
            (30 * 86_400 + 1, 197),
            (63 * 604_800, 255),
            (u64::MAX, 255),
        ] {
            assert_eq!(relative(Duration::from_secs(seconds)), value, "{seconds} s");
        }
        assert_eq!([Duration::from_millis(300_001), Duration::MAX].map(relative), [1, 255]);
    }
}
