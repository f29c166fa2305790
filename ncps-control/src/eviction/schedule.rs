//! When a job runs: a cron expression of five fields in a time zone, or an interval.
//!
//! The next time is asked for anew after each run and once a minute, so that a clock that is set and the change
//! to summer time count. Absent: what runs.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use ncps_runtime::clock::{Clock, UnixTime};
use ncps_runtime::config::values::duration;

/// How the original spells an interval.
const EVERY: &str = "@every ";
/// The longest sleep: after it the clock is looked at again.
const LOOK: Duration = Duration::from_secs(60);

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The machine's.
    Local,
    /// Of the IANA database.
    Named(chrono_tz::Tz),
}

/// When a job runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// At these times of day in this zone.
    Cron(Box<Cron>, Zone),
    /// Again and again, this long after the last run began.
    Every(Duration),
}

impl FromStr for Zone {
    type Err = String;

    /// `Local`, or a name such as `Europe/Paris`.
    fn from_str(text: &str) -> Result<Zone, String> {
        if text.eq_ignore_ascii_case("local") {
            return Ok(Zone::Local);
        }
        let named = text.parse().map(Zone::Named);
        named.map_err(|_| "expected Local or a time zone such as UTC or Europe/Paris".to_owned())
    }
}

impl Schedule {
    /// Minute, hour, day, month and weekday, or `@every` and a duration, for which the zone means nothing.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str, zone: Zone) -> Result<Schedule, String> {
        if let Some(interval) = text.strip_prefix(EVERY) {
            let interval = duration(interval.trim())?;
            let long_enough = interval >= Duration::from_secs(1);
            return long_enough.then_some(Schedule::Every(interval)).ok_or_else(expected);
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(text).map(|cron| Schedule::Cron(Box::new(cron), zone));
        parsed.map_err(|e| format!("{}: {e}", expected()))
    }
}

fn expected() -> String {
    "expected five fields (minute, hour, day, month, weekday), such as \"0 3 * * *\", or @every and a duration of \
     1s or more, such as \"@every 1h\""
        .to_owned()
}

impl Schedule {
    /// The first time after `since`; `None` past the end of the calendar.
    pub(crate) fn after(&self, since: UnixTime) -> Option<UnixTime> {
        match self {
            Schedule::Every(interval) => Some(since.plus(*interval)),
            Schedule::Cron(cron, zone) => next_time(cron, *zone, since),
        }
    }

    /// Waits until the next time. Never ends where there is none.
    pub(crate) async fn next(&self, clock: &dyn Clock) {
        match self {
            Schedule::Every(interval) => tokio::time::sleep(*interval).await,
            Schedule::Cron(cron, zone) => match next_time(cron, *zone, clock.now()) {
                Some(due) => until(due, clock).await,
                None => std::future::pending().await,
            },
        }
    }
}

async fn until(due: UnixTime, clock: &dyn Clock) {
    loop {
        let left = due.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// The first time after `now`.
fn next_time(cron: &Cron, zone: Zone, now: UnixTime) -> Option<UnixTime> {
    let now = Utc.timestamp_opt(now.0, 0).single()?;
    match zone {
        Zone::Local => next_in(cron, &now.with_timezone(&chrono::Local)),
        Zone::Named(zone) => next_in(cron, &now.with_timezone(&zone)),
    }
}

fn next_in<Z: TimeZone>(cron: &Cron, now: &DateTime<Z>) -> Option<UnixTime> {
    cron.find_next_occurrence(now, false).ok().map(|next| UnixTime(next.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, now: &str) -> String {
        let zone = zone.parse().expect("a zone");
        let Ok(Schedule::Cron(cron, zone)) = Schedule::parse(schedule, zone) else { panic!("{schedule}") };
        let now = UnixTime(DateTime::parse_from_rfc3339(now).expect("a time").timestamp());
        let next = next_time(&cron, zone, now).expect("there is a next time");
        Utc.timestamp_opt(next.0, 0)
            .single()
            .expect("a time")
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn cron_has_five_fields_in_a_zone() {
        assert_eq!(next("0 3 * * *", "UTC", "2026-01-01T02:59:59Z"), "2026-01-01T03:00:00Z");
        assert_eq!(next("0 3 * * *", "UTC", "2026-01-01T03:00:00Z"), "2026-01-02T03:00:00Z");
        assert_eq!(next("*/15 * * * 1-5", "UTC", "2026-01-02T23:50:00Z"), "2026-01-05T00:00:00Z");
        assert_eq!(next("0 3 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z"), "2026-01-01T18:00:00Z");
    }

    #[test]
    fn summer_time_is_followed() {
        assert_eq!(next("0 3 * * *", "Europe/Paris", "2026-03-27T12:00:00Z"), "2026-03-28T02:00:00Z");
        assert_eq!(next("0 3 * * *", "Europe/Paris", "2026-03-29T12:00:00Z"), "2026-03-30T01:00:00Z");
    }

    #[test]
    fn intervals_have_a_unit() {
        assert_eq!(
            Schedule::parse("@every 1h30m", Zone::Local),
            Ok(Schedule::Every(Duration::from_secs(5400)))
        );
        for wrong in
            ["@every", "@every 5", "@every 0s", "@every 1ms", "", "* * * *", "0 0 3 * * *", "61 * * * *"]
        {
            assert!(Schedule::parse(wrong, Zone::Local).is_err(), "{wrong}");
        }
        assert!("Mars/Olympus".parse::<Zone>().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_decides_when_it_is_time() {
        let clock = ncps_runtime::clock::ManualClock::at(UnixTime(30));
        let every_minute = Schedule::parse("* * * * *", Zone::Named(chrono_tz::UTC)).expect("valid");
        let wait = every_minute.next(&clock);
        let mut wait = std::pin::pin!(wait);
        assert!(
            tokio::time::timeout(Duration::from_secs(3600), wait.as_mut()).await.is_err(),
            "it stood still"
        );
        clock.advance(Duration::from_secs(30));
        tokio::time::timeout(LOOK, wait).await.expect("it is time");
    }
}
