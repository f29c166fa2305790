//! When a job runs: a cron expression of five fields in a time zone, or an interval. Pure: times in, times out,
//! each computed anew in the zone, so that the change to summer time counts.
//!
//! Absent: waiting (see [`super::alarm`]) and what runs.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use ncps_runtime::clock::UnixTime;
use ncps_runtime::config::values::duration;

/// How the original spells an interval.
const EVERY: &str = "@every ";

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
        let cron = parser.parse(text).map_err(|e| format!("{}: {e}", expected()))?;
        let ever = next_time(&cron, zone, UnixTime(0)).is_some();
        ever.then(|| Schedule::Cron(Box::new(cron), zone))
            .ok_or_else(|| "names no date that exists".to_owned())
    }

    /// The first time after `since`; `None` past the end of the calendar.
    pub(crate) fn after(&self, since: UnixTime) -> Option<UnixTime> {
        match self {
            Schedule::Every(interval) => Some(since.plus(*interval)),
            Schedule::Cron(cron, zone) => next_time(cron, *zone, since),
        }
    }
}

fn expected() -> String {
    "expected five fields (minute, hour, day, month, weekday), such as \"0 3 * * *\", or @every and a duration of \
     1s or more, such as \"@every 1h\""
        .to_owned()
}

fn next_time(cron: &Cron, zone: Zone, since: UnixTime) -> Option<UnixTime> {
    let since = Utc.timestamp_opt(since.0, 0).single()?;
    match zone {
        Zone::Local => next_in(cron, &since.with_timezone(&chrono::Local)),
        Zone::Named(zone) => next_in(cron, &since.with_timezone(&zone)),
    }
}

fn next_in<Z: TimeZone>(cron: &Cron, since: &DateTime<Z>) -> Option<UnixTime> {
    cron.find_next_occurrence(since, false).ok().map(|next| UnixTime(next.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, since: &str) -> String {
        let zone = zone.parse().expect("a zone");
        let since = UnixTime(DateTime::parse_from_rfc3339(since).expect("a time").timestamp());
        let next = Schedule::parse(schedule, zone).expect("a schedule").after(since);
        let next = Utc.timestamp_opt(next.expect("there is a next time").0, 0).single().expect("a time");
        next.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
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
    fn winter_time_is_followed_and_the_hour_that_comes_twice_counts_once() {
        assert_eq!(next("0 3 * * *", "Europe/Paris", "2026-10-24T12:00:00Z"), "2026-10-25T02:00:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Paris", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Paris", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn a_date_that_never_comes_is_none() {
        for never in ["0 0 30 2 *", "0 0 31 4,6 *"] {
            let problem = Schedule::parse(never, Zone::Local).expect_err(never);
            assert_eq!(problem, "names no date that exists");
        }
        assert_eq!(next("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z"), "2028-02-29T00:00:00Z");
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
}
