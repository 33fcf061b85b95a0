//! The hub's admin API as calls: HTTP/1.1 and JSON over a Unix socket, loopback TCP, or TLS. One connection per call.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use figspan_proto::admin::Problem;
use figspan_proto::control::plain;
use figspan_tunnel::backend_tls::BackendTlsClient;
use figspan_tunnel::front_tls::PemPair;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::error::CtlError;
use crate::target::Target;

/// Longest wait for one answer. The slowest is a drain verdict, for which the hub asks every agent.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Largest answer read: ten thousand routes fit several times over.
const MAX_ANSWER: usize = 64 << 20;

/// What a hub on TCP wants to see; on a Unix socket nothing.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// The bearer token.
    pub token: Option<String>,
    /// Roots that an https hub's certificate must chain to; `None` is the system's store.
    pub roots_pem: Option<String>,
    /// Our own certificate.
    pub certificate: Option<PemPair>,
}

/// A hub to ask.
#[derive(Debug)]
pub struct Client {
    pub(crate) target: Target,
    operator: HeaderValue,
    token: Option<HeaderValue>,
    tls: Option<BackendTlsClient>,
}

impl Client {
    /// `operator`: who asks, for the audit. `proof`: what a hub on TCP wants to see.
    pub fn new(target: Target, operator: &str, proof: &Proof) -> Result<Self, CtlError> {
        let operator = HeaderValue::try_from(plain(operator)).unwrap_or(HeaderValue::from_static("unknown"));
        let token = proof.token.as_ref().map(|token| HeaderValue::try_from(format!("Bearer {}", token.trim()))).transpose();
        let mut token = token.map_err(|_| CtlError::Usage("the token file holds characters that no token has".to_owned()))?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        let roots = proof.roots_pem.as_deref();
        let tls = match &target {
            Target::Https { host, .. } => {
                let client = match &proof.certificate {
                    None => BackendTlsClient::new(host, roots, Some(false)),
                    Some(pair) => BackendTlsClient::with_certificate(host, roots, Some(false), pair),
                };
                let mend = "see --ca, --certificate and --key";
                Some(client.map_err(|error| CtlError::Usage(format!("cannot set up TLS to {target}: {error}; {mend}")))?)
            }
            _ => None,
        };
        Ok(Self { target, operator, token, tls })
    }

    /// Asks. The answer's type is that of the path.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, CtlError> {
        self.call(Method::GET, path, None, Bytes::new()).await
    }

    /// Sends a change as JSON.
    pub async fn send<A: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<A, CtlError> {
        let body = serde_json::to_vec(body).map_err(|error| CtlError::Usage(error.to_string()))?;
        self.call(method, path, Some("application/json"), body.into()).await
    }

    /// Sends a text that is no JSON.
    pub(crate) async fn send_text<A: DeserializeOwned>(&self, path: &str, kind: &'static str, body: String) -> Result<A, CtlError> {
        self.call(Method::POST, path, Some(kind), body.into()).await
    }

    async fn call<A: DeserializeOwned>(&self, method: Method, path: &str, kind: Option<&'static str>, body: Bytes) -> Result<A, CtlError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| CtlError::Usage(format!("`{path}`: {error}")))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::try_from(self.target.authority()).map_err(|error| CtlError::Usage(error.to_string()))?);
        headers.insert("x-figspan-operator", self.operator.clone());
        headers.extend(kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))));
        headers.extend(self.token.clone().map(|token| (AUTHORIZATION, token)));

        let (status, answer) = match tokio::time::timeout(ANSWER_TIME, self.dial_and_exchange(request)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.unreachable("no answer in time", "look at the hub's log")),
        };
        let text = || plain(&String::from_utf8_lossy(&answer));
        if !status.is_success() {
            let fallback = || Problem { status: status.as_u16(), title: format!("the hub answered {status}"), detail: text() };
            return Err(CtlError::Refused(serde_json::from_slice(&answer).unwrap_or_else(|_| fallback())));
        }
        let why =
            |error: serde_json::Error| CtlError::Answer { hub: self.target.to_string(), path: path.to_owned(), why: error.to_string() };
        // A change may have nothing to answer with.
        if answer.is_empty() { serde_json::from_str("null").map_err(why) } else { serde_json::from_slice(&answer).map_err(why) }
    }

    async fn dial_and_exchange(&self, request: Request<Full<Bytes>>) -> Result<(http::StatusCode, Bytes), CtlError> {
        match &self.target {
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.no_socket(path, &error))?;
                self.exchange(stream, request).await
            }
            Target::Http { host, port } => self.exchange(self.dial_tcp(host, *port).await?, request).await,
            Target::Https { host, port } => {
                let tcp = self.dial_tcp(host, *port).await?;
                let Some(tls) = &self.tls else { unreachable!("an https target is built together with its TLS client") };
                let mend = "give the hub's CA with --ca FILE, and the name in its certificate as host";
                let stream = tls.connect(tcp).await.map_err(|error| self.unreachable(&format!("TLS: {error}"), mend))?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn dial_tcp(&self, host: &str, port: u16) -> Result<TcpStream, CtlError> {
        let mend = "is `admin.address` set in its hub.toml, and the port open from here?";
        TcpStream::connect((host, port)).await.map_err(|error| self.unreachable(&error.to_string(), mend))
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<(http::StatusCode, Bytes), CtlError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: &dyn std::fmt::Display| self.unreachable(&format!("the connection broke ({error})"), "look at the hub's log");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        // The connection lives as long as the exchange: driven beside it, dropped with it, a task nowhere.
        let drive = async {
            let _ = connection.await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| broken(&e))?;
            Ok((head.status, body.to_bytes()))
        };
        tokio::select! {
            biased;
            answer = exchange => answer,
            never = drive => match never {},
        }
    }

    fn unreachable(&self, why: &str, mend: &str) -> CtlError {
        CtlError::Unreachable { hub: self.target.to_string(), why: plain(why), mend: mend.to_owned() }
    }

    fn no_socket(&self, path: &Path, error: &std::io::Error) -> CtlError {
        match error.kind() {
            ErrorKind::NotFound => self.unreachable(
                "there is no such socket",
                "is the hub running (systemctl status figspan-hub)? If it is elsewhere, say where with --hub or FIGSPAN_HUB",
            ),
            ErrorKind::ConnectionRefused => {
                self.unreachable("nobody listens on the socket", "the hub has stopped: systemctl start figspan-hub, then its log")
            }
            ErrorKind::PermissionDenied => {
                let group = std::fs::metadata(path)
                    .or_else(|_| std::fs::metadata(path.parent().unwrap_or(path)))
                    .map(|meta| group_name(meta.gid()));
                let mend = match group {
                    Ok(group) => format!("its users are group `{group}`: sudo usermod -aG {group} $USER and log in anew, or use sudo"),
                    Err(_) => "its users are the group that owns the socket: join that group, or use sudo".to_owned(),
                };
                self.unreachable("permission denied", &mend)
            }
            _ => self.unreachable(&error.to_string(), "look at the hub's log"),
        }
    }
}

/// The group's name as /etc/group has it, else its number.
fn group_name(gid: u32) -> String {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    };
    groups.lines().find_map(named).unwrap_or_else(|| gid.to_string())
}

/// What needs an escape within a path: all but the unreserved characters (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as part of a path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}
