use std::future::poll_fn;

use http::Method;
use tokio::io::AsyncWriteExt;

use super::decode::Decoder;
use super::*;
use crate::admission::HeadLimits;

#[tokio::test]
async fn an_idle_connection_keeps_room_for_small_answers_only() {
    let limits = HeadLimits { bytes: 1024, count: 10 };
    for (size, keeps) in [(200, true), (KEPT, false), (8 * KEPT, false)] {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut wire = Wire::new(Way { io: Io::Tls(Box::new(near)), trace: Trace::tcp(), tunnel: None, permit: None });
        for _ in 0..2 {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nX-A: b\r\n\r\n{}", "x".repeat(size));
            // In two parts, so that the input is shared when the head is taken.
            far.write_all(&answer.as_bytes()[..20]).await.unwrap();
            let head = poll_fn(|cx| wire.poll_head(cx, &Method::GET, false, limits));
            let (head, ()) = tokio::join!(head, async {
                tokio::task::yield_now().await;
                far.write_all(&answer.as_bytes()[20..]).await.unwrap();
            });
            let mut body = Decoder::new(head.unwrap().framing, limits);
            while !body.ended() {
                poll_fn(|cx| wire.poll_piece(cx, &mut body)).await.unwrap();
            }
            wire.rest();
            assert_eq!((wire.input.len(), wire.input.try_reclaim(16)), (0, keeps), "{size}");
        }
    }
}
