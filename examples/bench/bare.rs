//! The measure: pingora's own proxy path with nothing in it but the choice of the peer. Threads, read
//! buffer, modules and connection pool are those perch runs with.

use super::{Outcome, roles};
use async_trait::async_trait;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::modules::http::HttpModules;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use std::net::SocketAddr;

/// The hidden first argument.
pub(crate) const ROLE: &str = "as-bare-proxy";

struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

/// Serves until the bench has gone.
pub(crate) fn run(port: &str, upstream: &str) -> Outcome<()> {
    roles::live_no_longer_than_parent();
    let upstream: SocketAddr = upstream.parse()?;
    let threads = std::thread::available_parallelism()?.get();
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads, ..ServerConf::default() });
    server.bootstrap();
    let door = Bare { peer: HttpPeer::new(upstream, false, String::new()) };
    let mut service = http_proxy_service(&server.configuration, door);
    let listen = ListenerConfig::tcp(format!("127.0.0.1:{port}"));
    service.add_listener(listen.l4_buffer(L4BufferSettings::new(4 * 1024, 1460)));
    server.add_service(service);
    server.run_forever()
}
