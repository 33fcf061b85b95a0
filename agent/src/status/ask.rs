//! Asks a running agent for its status, its metrics and its log level, over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Status;
use super::level::{Ask, LogLevel};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// How long the agent may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent answers on {}: {source}; start it (systemctl start figspan-agent), or give its socket with --socket", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not for this user.
    #[error("{} is not for this user; run it as root or as the user of the service (sudo)", .0.display())]
    Denied(PathBuf),
    /// It said no.
    #[error("the agent refuses: {0}")]
    Refused(String),
    /// Something else answered.
    #[error("{path} did not answer as an agent does: {1}; see whether another program owns it", path = .0.display())]
    Answer(PathBuf, String),
}

/// The status of the agent behind a socket.
pub async fn ask(path: &Path) -> Result<Status, AskError> {
    read(path, &exchange(path, Method::GET, "/v1/status", Bytes::new()).await?)
}

/// Its metrics, in OpenMetrics text.
pub async fn metrics(path: &Path) -> Result<String, AskError> {
    let text = exchange(path, Method::GET, "/metrics", Bytes::new()).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Its log level, changed first where something is asked for.
pub async fn log_level(path: &Path, change: Option<&Ask>) -> Result<LogLevel, AskError> {
    let wrong = |error: serde_json::Error| AskError::Answer(path.to_owned(), error.to_string());
    let (method, body) = match change {
        Some(ask) => (Method::POST, serde_json::to_vec(ask).map_err(wrong)?),
        None => (Method::GET, Vec::new()),
    };
    read(path, &exchange(path, method, "/v1/log-level", body.into()).await?)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, body: &[u8]) -> Result<T, AskError> {
    serde_json::from_slice(body).map_err(|error| AskError::Answer(path.to_owned(), error.to_string()))
}

async fn exchange(path: &Path, method: Method, target: &'static str, body: Bytes) -> Result<Bytes, AskError> {
    let socket = UnixStream::connect(path).await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied(path.to_owned()),
        _ => AskError::Connect { path: path.to_owned(), source },
    })?;
    let wrong = |error: String| AskError::Answer(path.to_owned(), error);
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let request = http::Request::builder().method(method).uri(target).header("host", "agent").header("connection", "close");
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok((status, Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes()))
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    };
    let answer: Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> =
        tokio::time::timeout(ANSWER_TIME, exchange).await.map_err(|_| wrong(format!("nothing within {ANSWER_TIME:?}")))?;
    match answer.map_err(|error| wrong(error.to_string()))? {
        (StatusCode::OK, body) => Ok(body),
        (StatusCode::BAD_REQUEST | StatusCode::CONFLICT, body) => {
            Err(AskError::Refused(figspan_proto::control::plain(String::from_utf8_lossy(&body).trim())))
        }
        (status, _) => Err(wrong(format!("it answered {status}"))),
    }
}
