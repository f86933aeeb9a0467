//! The fault relay: a process that passes bytes on between two addresses, and does to them what it is told on
//! standard input (`ROUTE MODE`, one line each). It ends with its input, and so with the run that started it.

use super::Outcome;
use super::chance::Chance;
use super::mode::Mode;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// Bytes taken at once.
const PIECE_BYTES: usize = 16 * 1024;
/// Bytes held for one direction while nothing crosses.
const HELD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a dribble, and the pause after them.
const DRIBBLE: (usize, Duration) = (64, Duration::from_millis(3));
/// How many pieces of a hundred are corrupted, and how many bytes of each.
const CORRUPT: (u64, usize) = (30, 12);

/// From where to where.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    name: String,
    listen: SocketAddr,
    to: SocketAddr,
}

impl Route {
    /// As it stands on the command line.
    pub(crate) fn word(name: &str, listen: SocketAddr, to: SocketAddr) -> String {
        format!("{name},{listen},{to}")
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAME,LISTEN,TO");
        let mut parts = text.split(',');
        let mut next = || parts.next().ok_or_else(wrong);
        let name = next()?.to_owned();
        let mut address = || next()?.parse::<SocketAddr>().map_err(|_| wrong());
        Ok(Self { name, listen: address()?, to: address()? })
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Asking,
    Answering,
}

/// How a connection comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// Serves until standard input ends.
pub(crate) async fn run(routes: Vec<Route>) -> Outcome<()> {
    let mut switches = Vec::new();
    for route in routes {
        let (switch, mode) = watch::channel(Mode::Pass);
        let listener = TcpListener::bind(route.listen).await?;
        switches.push((route.name.clone(), switch));
        tokio::spawn(serve(listener, route, mode));
    }
    let mut orders = super::orders();
    while let Some(order) = orders.recv().await {
        let Some((name, mode)) = order.split_once(' ').and_then(|(name, m)| Some((name, Mode::parse(m)?)))
        else {
            return Err(format!("{order:?} is no order").into());
        };
        for (_, switch) in switches.iter().filter(|(own, _)| own == name) {
            switch.send_replace(mode);
        }
    }
    Ok(())
}

async fn serve(listener: TcpListener, route: Route, mode: watch::Receiver<Mode>) {
    let route = Arc::new(route);
    let mut number = 0_u64;
    loop {
        let Ok((near, _)) = listener.accept().await else {
            // Out of descriptors, most likely.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        number += 1;
        let chance = Chance::of(number, &route.name);
        tokio::spawn(carry(near, Arc::clone(&route), mode.clone(), chance));
    }
}

async fn carry(mut near: TcpStream, route: Arc<Route>, mode: watch::Receiver<Mode>, chance: Chance) {
    let is_refused = *mode.borrow() == Mode::Refuse;
    let far = match is_refused {
        true => None,
        false => TcpStream::connect(route.to).await.ok(),
    };
    let Some(mut far) = far else {
        // As if nobody listened.
        let _ = near.set_zero_linger();
        return;
    };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (asks_are_corrupted, mut refused) = (route.name == "app", mode.clone());
    let end = {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let mut asking = Pump {
            way: Way::Asking,
            mode: mode.clone(),
            chance: chance.clone(),
            asks_are_corrupted,
            passed: 0,
        };
        let mut answering = Pump { way: Way::Answering, mode, chance, asks_are_corrupted, passed: 0 };
        tokio::select! {
            end = asking.run(near_in, far_out) => end,
            end = answering.run(far_in, near_out) => end,
            // An error means that the process ends.
            _ = refused.wait_for(|mode| *mode == Mode::Refuse) => End::Reset,
        }
    };
    if end == End::Reset {
        let _ = near.set_zero_linger();
        let _ = far.set_zero_linger();
    }
}

/// One direction of one connection.
struct Pump {
    way: Way,
    mode: watch::Receiver<Mode>,
    chance: Chance,
    asks_are_corrupted: bool,
    passed: u64,
}

impl Pump {
    async fn run(&mut self, mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) -> End {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            piece.clear();
            match from.read_buf(&mut piece).await {
                Ok(1..) => {}
                Ok(0) => return End::Closed,
                Err(_) => return End::Reset,
            }
            // Whoever leaves meanwhile takes along what was held for them: nothing reaches Finch that perch gave up.
            while *self.mode.borrow_and_update() == Mode::Stall {
                let has_room = piece.len() < HELD_BYTES_MAX;
                tokio::select! {
                    changed = self.mode.changed() => if changed.is_err() { return End::Reset },
                    more = from.read_buf(&mut piece), if has_room => match more {
                        Ok(1..) => {}
                        Ok(0) => return End::Closed,
                        Err(_) => return End::Reset,
                    }
                }
            }
            if let Some(end) = self.pass(&mut piece, &mut to).await {
                return end;
            }
        }
    }

    /// Passes a piece on; tells when that was the last.
    async fn pass(&mut self, piece: &mut [u8], to: &mut (impl AsyncWriteExt + Unpin)) -> Option<End> {
        let mode = *self.mode.borrow_and_update();
        let is_answer = self.way == Way::Answering;
        match mode {
            Mode::Delay(millis) => sleep(Duration::from_millis(millis)).await,
            Mode::Reset(after) | Mode::Truncate(after)
                if is_answer && self.passed + piece.len() as u64 > after =>
            {
                let rest = usize::try_from(after.saturating_sub(self.passed)).unwrap_or_default();
                let _ = to.write_all(&piece[..rest.min(piece.len())]).await;
                return Some(if matches!(mode, Mode::Reset(_)) { End::Reset } else { End::Closed });
            }
            Mode::Dribble => {
                for part in piece.chunks(DRIBBLE.0) {
                    if to.write_all(part).await.is_err() {
                        return Some(End::Reset);
                    }
                    sleep(DRIBBLE.1).await;
                }
                return None;
            }
            Mode::Corrupt if is_answer != self.asks_are_corrupted && self.chance.happens(CORRUPT.0) => {
                let at = self.chance.place(piece.len());
                let end = (at + CORRUPT.1).min(piece.len());
                piece[at..end].fill(0xff);
            }
            Mode::Pass | Mode::Stall | Mode::Refuse | Mode::Reset(_) | Mode::Truncate(_) | Mode::Corrupt => {}
        }
        self.passed += piece.len() as u64;
        to.write_all(piece).await.is_err().then_some(End::Reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay in front of something that answers every byte with this many.
    async fn relayed(answer: usize) -> (watch::Sender<Mode>, SocketAddr) {
        let home = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = home.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = home.accept().await {
                tokio::spawn(async move {
                    while socket.read_u8().await.is_ok() {
                        let _ = socket.write_all(&vec![b'a'; answer]).await;
                    }
                });
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let door = listener.local_addr().expect("an address");
        let (switch, mode) = watch::channel(Mode::Pass);
        tokio::spawn(serve(listener, Route { name: "finch".to_owned(), listen: door, to }, mode));
        (switch, door)
    }

    async fn answer(door: SocketAddr, bytes: usize) -> (Vec<u8>, bool) {
        let mut socket = TcpStream::connect(door).await.expect("it listens");
        let _ = socket.write_all(b"?").await;
        let mut heard = vec![0; bytes];
        let mut at = 0;
        while at < bytes {
            match socket.read(&mut heard[at..]).await {
                Ok(0) => return (heard[..at].to_vec(), true),
                Ok(more) => at += more,
                Err(_) => return (heard[..at].to_vec(), false),
            }
        }
        (heard, true)
    }

    #[tokio::test]
    async fn each_mode_does_to_an_answer_what_it_says() {
        let (switch, door) = relayed(1000).await;
        for mode in [Mode::Pass, Mode::Delay(1), Mode::Dribble] {
            switch.send_replace(mode);
            assert_eq!(answer(door, 1000).await, (vec![b'a'; 1000], true), "{mode}");
        }
        switch.send_replace(Mode::Truncate(300));
        assert_eq!(answer(door, 1000).await, (vec![b'a'; 300], true));
        switch.send_replace(Mode::Reset(300));
        let (heard, is_closed) = answer(door, 1000).await;
        assert!(heard.len() <= 300 && !is_closed, "{} {is_closed}", heard.len());
        switch.send_replace(Mode::Refuse);
        assert_eq!(answer(door, 1000).await.0, Vec::<u8>::new());
        switch.send_replace(Mode::Corrupt);
        let mut is_corrupted = false;
        for _ in 0..100 {
            let (heard, _) = answer(door, 1000).await;
            assert!(heard.len() == 1000 && heard.iter().all(|byte| matches!(byte, b'a' | 0xff)));
            is_corrupted |= heard.contains(&0xff);
        }
        assert!(is_corrupted);
    }

    #[tokio::test]
    async fn what_is_stalled_goes_on_afterwards_unless_its_sender_left() {
        let (switch, door) = relayed(10).await;
        switch.send_replace(Mode::Stall);
        let mut stays = TcpStream::connect(door).await.expect("it listens");
        stays.write_all(b"?").await.expect("it is open");
        let mut leaves = TcpStream::connect(door).await.expect("it listens");
        leaves.write_all(b"?").await.expect("it is open");
        leaves.shutdown().await.expect("it is open");
        // The relay has noticed: it hangs up without an answer.
        assert_eq!(leaves.read(&mut [0; 10]).await.ok(), Some(0));
        switch.send_replace(Mode::Pass);
        let mut heard = [0; 10];
        stays.read_exact(&mut heard).await.expect("an answer");
        assert_eq!(heard, [b'a'; 10]);
    }

    #[test]
    fn a_mode_is_read_as_it_is_written() {
        for mode in [
            Mode::Pass,
            Mode::Delay(7),
            Mode::Stall,
            Mode::Refuse,
            Mode::Reset(9),
            Mode::Truncate(1),
            Mode::Dribble,
            Mode::Corrupt,
        ] {
            assert_eq!(Mode::parse(&mode.to_string()), Some(mode));
        }
        assert_eq!(Mode::parse("delay"), None);
        assert_eq!(Mode::parse("hurry"), None);
    }
}
