//! The load: one blocking thread per connection and a client of a few lines, so that what is measured
//! is the proxy and not its client. Every answer is checked for status and length.

use super::{Outcome, meter, upstream};
use nix::sys::prctl::set_timerslack;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A proxy that does not answer for this long has failed.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Whom to call, and with what.
#[derive(Clone)]
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) door: SocketAddr,
    /// Its process, whose CPU is counted; none when there is no proxy.
    pub(crate) pid: Option<u32>,
    /// The upstream behind it.
    pub(crate) upstream: SocketAddr,
    /// How a call says for whom it is: one header line.
    pub(crate) identity: String,
}

/// What a stretch of load came to.
pub(crate) struct Stretch {
    /// Calls answered.
    pub(crate) calls: u32,
    /// How long it took.
    pub(crate) took: Duration,
    /// What the proxy's process used meanwhile.
    pub(crate) used: Used,
    /// From the time a call was due to its last byte. Paced load only.
    pub(crate) latencies: Vec<Duration>,
    /// From the time a call was due to its sending: its thread woke late, or no connection was free.
    /// Paced load only.
    pub(crate) lateness: Vec<Duration>,
}

impl Target {
    /// As many calls as go through `connections` in `span`, each sent when the one before is answered.
    pub(crate) fn rush(&self, connections: usize, bytes: usize, span: Duration) -> Outcome<Stretch> {
        self.drive(connections, bytes, |line, begin, seen| {
            loop {
                line.call()?;
                seen.calls += 1;
                if begin.elapsed() >= span {
                    return Ok(());
                }
            }
        })
    }

    /// `rate` calls a second for `span`. Each has its time before the first is sent, and its latency
    /// counts from that time, however long the answers before it took.
    pub(crate) fn pace(
        &self,
        connections: usize,
        bytes: usize,
        rate: u32,
        span: Duration,
    ) -> Outcome<Stretch> {
        let step = Duration::from_secs(1) / rate;
        let total = u32::try_from(span.as_nanos() / step.as_nanos())?;
        let next = AtomicU32::new(0);
        self.drive(connections, bytes, |line, begin, seen| {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return Ok(());
                }
                let due = begin + step * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                seen.lateness.push(due.elapsed());
                line.call()?;
                seen.latencies.push(due.elapsed());
                seen.calls += 1;
            }
        })
    }

    /// The first answer of a process that is just starting.
    pub(crate) fn first_answer(&self, bytes: usize, patience: Duration) -> Outcome<()> {
        let began = Instant::now();
        loop {
            match Line::open(self, bytes).and_then(|mut line| line.call()) {
                Ok(()) => return Ok(()),
                Err(why) if began.elapsed() > patience => {
                    return Err(format!("no first answer: {why}").into());
                }
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    fn drive(
        &self,
        connections: usize,
        bytes: usize,
        work: impl Fn(&mut Line, Instant, &mut Stretch) -> io::Result<()> + Sync,
    ) -> Outcome<Stretch> {
        let mut lines = Vec::with_capacity(connections);
        for _ in 0..connections {
            let mut line = Line::open(self, bytes)?;
            line.call()?;
            lines.push(line);
        }
        let before = self.used()?;
        let begin = Instant::now();
        let parts: Vec<io::Result<Stretch>> = std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = lines
                .iter_mut()
                .map(|line| {
                    scope.spawn(move || {
                        // Wakes at the time and not up to 50 µs after it.
                        let _ = set_timerslack(1);
                        let mut seen = Stretch::nothing();
                        work(line, begin, &mut seen).map(|()| seen)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))))
                .collect()
        });
        let mut whole =
            Stretch { took: begin.elapsed(), used: self.used()?.since(&before), ..Stretch::nothing() };
        for part in parts {
            let part = part?;
            whole.calls += part.calls;
            whole.latencies.extend(part.latencies);
            whole.lateness.extend(part.lateness);
        }
        match whole.calls {
            0 => Err("not one call was answered".into()),
            _ => Ok(whole),
        }
    }
}

/// What a proxy's process has used so far, or between two looks.
#[derive(Default)]
pub(crate) struct Used {
    /// CPU, user and kernel.
    pub(crate) cpu: Duration,
    /// How often one of its threads stopped to wait for something.
    pub(crate) waits: u64,
    /// Connections opened to the upstream.
    pub(crate) opened: u64,
}

impl Used {
    fn since(&self, before: &Used) -> Used {
        Used {
            cpu: self.cpu.saturating_sub(before.cpu),
            waits: self.waits.saturating_sub(before.waits),
            // One is the later look itself.
            opened: self.opened.saturating_sub(before.opened + 1),
        }
    }
}

impl Target {
    fn used(&self) -> Outcome<Used> {
        let Some(pid) = self.pid else { return Ok(Used::default()) };
        let opened = upstream::accepted(self.upstream)?;
        Ok(Used { cpu: meter::cpu(pid)?, waits: meter::waits(pid)?, opened })
    }
}

impl Stretch {
    fn nothing() -> Self {
        Self {
            calls: 0,
            took: Duration::ZERO,
            used: Used::default(),
            latencies: Vec::new(),
            lateness: Vec::new(),
        }
    }
}

/// One kept connection.
struct Line {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
    bytes: usize,
}

impl Line {
    fn open(target: &Target, bytes: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(target.door)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        stream.set_write_timeout(Some(ANSWER_WAIT_MAX))?;
        // The headers of an SDK's call, so that every contestant has the same to read.
        let request = format!(
            "GET /employer/company?bytes={bytes} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\
             Finch-API-Version: 2020-09-17\r\nUser-Agent: Finch/Python 1.0\r\n{}\r\n\r\n",
            target.door, target.identity
        );
        Ok(Self { stream, request: request.into_bytes(), buffer: vec![0; 64 * 1024], bytes })
    }

    fn call(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request)?;
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            filled += read;
            if let Some(at) = memchr::memmem::find(&self.buffer[..filled], b"\r\n\r\n") {
                break at + 4;
            }
            if read == 0 || filled == self.buffer.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]);
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if !text.starts_with("HTTP/1.1 200") || length != Some(self.bytes) {
            return Err(io::Error::other(format!("another answer than expected: {text}")));
        }
        let mut missing = self.bytes.saturating_sub(filled - head);
        while missing > 0 {
            match self.stream.read(&mut self.buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => missing = missing.saturating_sub(read),
            }
        }
        Ok(())
    }
}
