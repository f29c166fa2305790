//! GETs at a fixed rate: each is sent when its time has come, and its latency counts from that time, so that what waits
//! anywhere shows. A server that is slow for a moment is not asked less meanwhile.
//!
//! A thread for each connection, which sleeps in the kernel: the timers of tokio are good to a millisecond, which is more
//! than what is measured. Absent on purpose: bodies without a length, and looking at what is in them.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Connections that are kept.
const CONNECTIONS: u32 = 32;
/// Until the first request is due, in which all of them connect.
const BEGIN: Duration = Duration::from_millis(200);
/// Of a response: narinfos are smaller.
const BUFFER: usize = 64 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Of the server.
    pub addr: SocketAddr,
    /// One after the other, and again.
    pub paths: &'a [String],
    /// Requests per second.
    pub rate: u32,
}

/// How long each request took, the fastest first.
#[derive(Clone, Debug)]
pub struct Latencies(Vec<Duration>);

impl Load<'_> {
    /// Asks until the time is over.
    ///
    /// # Errors
    /// The first one of any connection; an answer other than 200 is one.
    pub fn run_for(&self, time: Duration) -> Result<Latencies> {
        let end = Instant::now() + BEGIN + time;
        self.run_until(&|| Instant::now() >= end)
    }

    /// Asks until `over`.
    ///
    /// # Errors
    /// As [`Load::run_for`].
    pub fn run_while(&self, running: &AtomicBool) -> Result<Latencies> {
        self.run_until(&|| !running.load(Ordering::Relaxed))
    }

    fn run_until(&self, over: &(dyn Fn() -> bool + Sync)) -> Result<Latencies> {
        let (begin, next) = (Instant::now() + BEGIN, AtomicUsize::new(0));
        let all: Result<Vec<_>> = std::thread::scope(|scope| {
            let ask = |n| {
                scope.spawn({
                    let next = &next;
                    move || self.connection(n, begin, next, over)
                })
            };
            let threads: Vec<_> = (0..CONNECTIONS).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut all = all?.concat();
        all.sort_unstable();
        Ok(Latencies(all))
    }

    /// Every so many-th request, as connections take turns.
    fn connection(
        &self,
        number: u32,
        begin: Instant,
        next: &AtomicUsize,
        over: &dyn Fn() -> bool,
    ) -> Result<Vec<Duration>> {
        // Else the kernel wakes us up to 50 µs late.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let mut asker = Asker::connect(self.addr)?;
        let each = Duration::from_secs(1) / self.rate;
        let (mut due, mut latencies) = (begin + each * number, Vec::new());
        while !over() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let path = &self.paths[next.fetch_add(1, Ordering::Relaxed) % self.paths.len()];
            asker.get(path)?;
            latencies.push(due.elapsed());
            due += each * CONNECTIONS;
        }
        Ok(latencies)
    }
}

impl Latencies {
    /// What this share of all took at most, in milliseconds.
    pub fn at(&self, share: f64) -> f64 {
        let place = (self.0.len() as f64 * share) as usize;
        let latency = self.0.get(place).or(self.0.last()).copied();
        latency.unwrap_or_default().as_secs_f64() * 1e3
    }

    /// Requests.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A connection, and room for its answers.
struct Asker {
    stream: TcpStream,
    buffer: Vec<u8>,
    request: Vec<u8>,
}

impl Asker {
    fn connect(addr: SocketAddr) -> Result<Asker> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Asker { stream, buffer: vec![0; BUFFER], request: Vec::new() })
    }

    fn get(&mut self, path: &str) -> Result<()> {
        self.request.clear();
        write!(self.request, "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        self.stream.write_all(&self.request)?;
        let mut read = 0;
        loop {
            match self.stream.read(&mut self.buffer[read..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
            if is_whole(&self.buffer[..read])? {
                return Ok(());
            }
        }
    }
}

/// Whether all of a response is there.
fn is_whole(response: &[u8]) -> Result<bool> {
    let Some(head) = response.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&response[..head]).map_err(Error::other)?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(Error::other(format!("answered with {}", text.lines().next().unwrap_or_default())));
    }
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(|| Error::other("a body without a length"))?;
    Ok(response.len() >= head + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rule, Upstream};

    const TIME: Duration = Duration::from_millis(300);

    async fn load(upstream: &Upstream, rate: u32) -> Result<Latencies> {
        let addr = upstream.addr();
        let run = move || Load { addr, paths: &["/a".to_owned()], rate }.run_for(TIME);
        tokio::task::spawn_blocking(run).await.expect("no panic")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_counts() {
        let upstream = Upstream::start().await;
        upstream.put("/a", "b");
        upstream.script(Rule::on("/a").times(1).delay(TIME / 2));
        let latencies = load(&upstream, 320).await.expect("answers");
        assert!(latencies.count() >= 90, "{}", latencies.count());
        // 320 a second on 32 connections are ten on each: of these one or two waited behind the slow one.
        assert!(latencies.at(0.999) >= 140.0, "{latencies:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_not_there_is_an_error() {
        let upstream = Upstream::start().await;
        let error = load(&upstream, 100).await.expect_err("it is absent");
        assert!(error.to_string().contains("404"), "{error}");
    }

    #[test]
    fn whole_and_not() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        assert!(!is_whole(&head[..20]).expect("begun"));
        assert!(!is_whole(&[head, &b"a"[..]].concat()).expect("begun"));
        assert!(is_whole(&[head, &b"ab"[..]].concat()).expect("whole"));
        is_whole(b"HTTP/1.1 200 OK\r\n\r\n").expect_err("no length");
    }
}
