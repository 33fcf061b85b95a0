//! Where the API is heard: the Unix socket always, TCP where asked for.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use figspan_model::settings;
use figspan_tunnel::front_tls::{FrontTls, PemPair};

use super::socket::{self, SocketFile};
use super::token::{self, Token};
use crate::certificates;

/// Everything bound, nothing served yet.
pub(crate) struct Ears {
    pub(crate) socket: UnixListener,
    pub(crate) file: SocketFile,
    pub(crate) tcp: Option<Tcp>,
}

/// The API over TCP.
pub(crate) struct Tcp {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<FrontTls>>,
    pub(crate) token: Option<Token>,
}

impl Ears {
    /// Binds as the settings say.
    pub(crate) fn open(settings: &settings::Admin) -> Result<Self, String> {
        let tcp = settings.tcp.as_ref().map(tcp).transpose()?;
        let (socket, file) = socket::bind(&settings.socket).map_err(|error| error.to_string())?;
        Ok(Self { socket, file, tcp })
    }

    pub(crate) fn socket_path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.listener.local_addr().ok())
    }
}

fn tcp(settings: &settings::AdminTcp) -> Result<Tcp, String> {
    let tls = settings.tls.as_ref().map(tls).transpose()?;
    let token = settings.token_file.clone().map(Token::new).transpose()?;
    let listener = bind(settings.address)
        .map_err(|error| format!("admin.address {}: cannot listen: {error}; free the port, or use another address", settings.address))?;
    Ok(Tcp { listener, tls, token })
}

fn tls(settings: &settings::AdminTls) -> Result<Arc<FrontTls>, String> {
    let pair = PemPair {
        source: settings.certificate.display().to_string(),
        certificate: certificates::file(&settings.certificate)?,
        key: certificates::file(&settings.key)?,
    };
    let client_ca = settings.client_ca.as_deref().map(certificates::file).transpose()?;
    FrontTls::for_operators(&pair, client_ca.as_deref()).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        format!("admin.tls: {}", errors.join("; "))
    })
}

/// A listening socket that is ready for tokio.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The API behind its token. Without a token the settings have made sure that TLS asks for a client certificate.
pub(crate) fn guarded(app: Router, token: Option<Token>) -> Router {
    match token {
        Some(token) => app.layer(middleware::from_fn_with_state(token, token::check)),
        None => app,
    }
}
