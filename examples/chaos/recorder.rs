//! The recorder: a process between perch and Finch that writes down every request before it passes it on. What it
//! writes is judged afterwards (`records`); nothing of it comes from perch or from the simulator.

use super::Outcome;
use super::records::{Record, digest};
use super::wire::{self, Message};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where everything goes, and what must stand in `Authorization` only.
struct Recorder {
    to: SocketAddr,
    file: File,
    secrets: Vec<String>,
}

/// Serves until standard input ends. `secrets` come first there, one a line, up to an empty line: arguments can be
/// read by every user of a machine.
pub(crate) async fn run(listen: SocketAddr, to: SocketAddr, file: &Path) -> Outcome<()> {
    let mut input = super::orders();
    let mut secrets = Vec::new();
    while let Some(line) = input.recv().await.filter(|line| !line.is_empty()) {
        secrets.push(line);
    }
    let listener = TcpListener::bind(listen).await?;
    let file = File::options().create(true).append(true).open(file)?;
    tokio::spawn(serve(listener, Recorder { to, file, secrets }));
    while input.recv().await.is_some() {}
    Ok(())
}

async fn serve(listener: TcpListener, recorder: Recorder) {
    let recorder = Arc::new(recorder);
    loop {
        match listener.accept().await {
            Ok((near, _)) => drop(tokio::spawn(Arc::clone(&recorder).converse(near))),
            // Out of descriptors, most likely.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

impl Recorder {
    async fn converse(self: Arc<Self>, mut near: TcpStream) {
        let _ = near.set_nodelay(true);
        let Ok(mut far) = TcpStream::connect(self.to).await else {
            let _ = near.set_zero_linger();
            return;
        };
        let _ = far.set_nodelay(true);
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        while let Ok(request) = wire::read(&mut near, &mut asked, false).await {
            // First noted, then passed on: a recorder that is killed between the two has hidden nothing.
            if self.note(&request).is_err() || far.write_all(&request.raw).await.is_err() {
                break;
            }
            let mut nothing = [0; 1];
            let answer = tokio::select! {
                answer = wire::read(&mut far, &mut answered, true) => answer,
                // perch does not send before it is answered; this is its leaving.
                _ = near.read(&mut nothing) => break,
            };
            let (bytes, is_whole) = match answer {
                Ok(answer) => {
                    if answer.status() == 429 {
                        let _ = self.write(&Record::refusal(&request.first_line()));
                    }
                    (answer.raw, true)
                }
                Err(wire::Broken::Nothing) => (Vec::new(), false),
                Err(wire::Broken::Cut(bytes) | wire::Broken::Nonsense(bytes)) => (bytes, false),
            };
            if near.write_all(&bytes).await.is_err() || !is_whole {
                break;
            }
        }
    }

    fn note(&self, request: &Message) -> Outcome<()> {
        let line = request.first_line();
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let head = String::from_utf8_lossy(&request.head);
        let is_authorization = |line: &&str| line.to_ascii_lowercase().starts_with("authorization:");
        let rest: Vec<&str> = head.split("\r\n").filter(|line| !is_authorization(line)).collect();
        let rest = rest.join("\r\n");
        let body = String::from_utf8_lossy(&request.body);
        // The application's own secret stands in the body of an exchange: that is how Finch wants it.
        let is_exchange = path.starts_with("/auth/token");
        let is_elsewhere =
            |secret: &&String| rest.contains(*secret) || (!is_exchange && body.contains(*secret));
        let token_is_elsewhere = self.secrets.iter().any(|secret| is_elsewhere(&secret));
        self.write(&Record {
            at_micros: Record::now_micros(),
            method: method.to_owned(),
            path: path.to_owned(),
            mark: request.header("user-agent").unwrap_or_default(),
            authorization: request
                .header("authorization")
                .map(|value| digest(value.as_bytes()))
                .unwrap_or_default(),
            authorizations: head.split("\r\n").filter(is_authorization).count(),
            body: digest(&request.body),
            token_is_elsewhere,
            was_refused: false,
            head: if token_is_elsewhere { "(holds a secret)".to_owned() } else { rest },
        })
    }

    /// One line, in one write: what is killed leaves whole lines.
    fn write(&self, record: &Record) -> Outcome<()> {
        let line = format!("{}\n", serde_json::to_string(record)?);
        (&self.file).write_all(line.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{http, records};
    use super::*;
    use std::path::PathBuf;

    /// A recorder in front of a Finch that answers this, or that nobody is.
    async fn recorded(answer: Option<&'static str>) -> (SocketAddr, PathBuf, tempfile::TempDir) {
        let finch = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = finch.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = finch.accept().await {
                let Some(answer) = answer else { continue };
                tokio::spawn(async move {
                    let mut unread = Vec::new();
                    while wire::read(&mut socket, &mut unread, false).await.is_ok() {
                        let _ = socket.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes");
        let file = File::options().create(true).append(true).open(&path).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let door = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Recorder { to, file, secrets: vec!["canary".to_owned()] }));
        (door, path, folder)
    }

    async fn call(door: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Option<u16> {
        let asked = http::request("POST", path, headers, body);
        http::call(door, &asked, Duration::from_secs(60)).await.ok().map(|answer| answer.status())
    }

    #[tokio::test]
    async fn a_request_is_written_down_without_its_token_and_a_token_elsewhere_is_told() {
        let (door, path, _folder) = recorded(Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
        let token = [("Authorization", "Bearer canary-1"), ("User-Agent", "chaos/acme")];
        assert_eq!(call(door, "/employer/benefits", &token, "{}").await, Some(200));
        assert_eq!(call(door, "/employer/benefits", &[("X-Other", "canary-1")], "{}").await, Some(200));
        assert_eq!(call(door, "/employer/benefits", &[], "canary-1").await, Some(200));
        assert_eq!(call(door, "/employer/benefits?a=canary-1", &[], "{}").await, Some(200));
        assert_eq!(call(door, "/auth/token", &[], "{\"client_secret\":\"canary\"}").await, Some(200));
        let all = records::read(&path).expect("notes");
        let elsewhere: Vec<bool> = all.iter().map(|record| record.token_is_elsewhere).collect();
        assert_eq!(elsewhere, [false, true, true, true, false]);
        assert_eq!((all[0].mark.as_str(), all[0].authorizations), ("chaos/acme", 1));
        assert_eq!(all[0].authorization, digest(b"Bearer canary-1"));
        assert!(
            !all[0].head.contains("canary") && all[0].head.contains("Connection: close"),
            "{}",
            all[0].head
        );
    }

    #[tokio::test]
    async fn a_refusal_is_written_down_and_so_is_a_request_that_finch_never_answers() {
        let (door, path, _folder) =
            recorded(Some("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(call(door, "/employer/company", &[], "").await, Some(429));
        let refused: Vec<bool> = records::read(&path).expect("notes").iter().map(|r| r.was_refused).collect();
        assert_eq!(refused, [false, true]);
        let (door, path, _folder) = recorded(None).await;
        assert_eq!(call(door, "/employer/company", &[], "").await, None);
        assert_eq!(records::read(&path).expect("notes").len(), 1);
    }
}
