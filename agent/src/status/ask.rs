//! Asks a running agent for its status, over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Status;

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
    /// Something else answered.
    #[error("{path} did not answer with a status: {1}; see whether another program owns it", path = .0.display())]
    Answer(PathBuf, String),
}

/// The status of the agent behind a socket.
pub async fn ask(path: &Path) -> Result<Status, AskError> {
    let tcp = UnixStream::connect(path).await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied(path.to_owned()),
        _ => AskError::Connect { path: path.to_owned(), source },
    })?;
    let wrong = |error: String| AskError::Answer(path.to_owned(), error);
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        let request = http::Request::get("/v1/status").header("host", "agent").header("connection", "close").body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            Limited::new(response.into_body(), MAX_ANSWER).collect().await
        };
        tokio::pin!(connection, exchange);
        let body = tokio::select! {
            body = &mut exchange => body?,
            _ = &mut connection => exchange.await?,
        };
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(body.to_bytes())
    };
    let body = match tokio::time::timeout(ANSWER_TIME, exchange).await {
        Ok(body) => body.map_err(|error| wrong(error.to_string()))?,
        Err(_) => return Err(wrong(format!("nothing within {ANSWER_TIME:?}"))),
    };
    serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))
}
