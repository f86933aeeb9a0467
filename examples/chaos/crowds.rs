//! Clients that are no help: slow ones, silent ones, and many who are not known.

use super::http;
use super::site::Site;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Slow clients at each gateway.
const SLOW: usize = 40;
/// Silent connections at each gateway.
const IDLE: usize = 1000;
/// Strangers at each gateway, each of whom calls without a pause.
const STRANGERS: usize = 4;

/// They leave when this is dropped.
pub(crate) struct Crowd(#[expect(dead_code, reason = "held for its end")] JoinSet<()>);

fn at_each(site: &Site, count: usize, one: impl Fn(usize, SocketAddr) -> Task) -> Crowd {
    let mut crowd = JoinSet::new();
    for doors in &site.doors.gateways {
        for number in 0..count {
            // Straight to the door: the relay is not under test.
            crowd.spawn(one(number, doors.proxy));
        }
    }
    Crowd(crowd)
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A third sends its head byte by byte, a third its body, a third never reads its answer.
pub(crate) fn slow(site: &Site) -> Crowd {
    at_each(site, SLOW, |number, door| {
        Box::pin(async move {
            let Ok(mut socket) = TcpStream::connect(door).await else { return };
            let path = if number % 3 == 1 { "/employer/individual" } else { "/employer/company" };
            let headers = [("Perch-Customer", "nobody-slow"), ("Perch-Max-Wait", "0")];
            let method = if number % 3 == 1 { "POST" } else { "GET" };
            let bytes = http::request(method, path, &headers, "{\"requests\":[{\"individual_id\":\"x\"}]}");
            let quick = if number % 3 == 1 { bytes.len() - 30 } else { 0 };
            let quick = if number % 3 == 2 { bytes.len() } else { quick };
            let _ = socket.write_all(&bytes[..quick]).await;
            for byte in &bytes[quick..] {
                if socket.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
            std::future::pending().await
        })
    })
}

/// Connections without a byte.
pub(crate) fn idle(site: &Site) -> Crowd {
    at_each(site, IDLE, |_, door| {
        Box::pin(async move {
            let _held = TcpStream::connect(door).await;
            std::future::pending().await
        })
    })
}

/// Calls for customers that do not exist, each of another name.
pub(crate) fn strangers(site: &Site) -> Crowd {
    at_each(site, STRANGERS, |number, door| {
        Box::pin(async move {
            for turn in 0_u64.. {
                let name = format!("nobody-{number}-{turn}");
                let asked =
                    http::request("GET", "/employer/company", &[("Perch-Customer", name.as_str())], "");
                let _ = http::call(door, &asked, Duration::from_secs(20)).await;
                sleep(Duration::from_millis(5)).await;
            }
        })
    })
}
