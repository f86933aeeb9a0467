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
    let recorder = Arc::new(Recorder { to, file, secrets });
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((near, _)) => drop(tokio::spawn(Arc::clone(&recorder).converse(near))),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    });
    while input.recv().await.is_some() {}
    Ok(())
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
