use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use figspan_proto::reset::Close;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::pair;
use crate::tunnel::Tunnel;

const SOON: Duration = Duration::from_secs(2);

/// The two ends of one stream: (hub's, agent's), with one byte already on its way so that both exist.
async fn ends(hub: &Tunnel, agent: &Tunnel) -> (Stream, Stream) {
    let mut ours = hub.open().await.unwrap();
    ours.write_chunk(Bytes::from_static(b"!")).await.unwrap();
    let mut theirs = agent.accept().await.unwrap();
    theirs.read_exact(&mut [0]).await.unwrap();
    (ours, theirs)
}

fn closed_at(delivered: u64) -> Reset {
    Reset { reason: Reason::WorkloadClosed, delivered }
}

#[tokio::test]
async fn bytes_and_ends_travel_both_ways() {
    let (hub, agent) = pair("vm-1").await;
    let (mut ours, mut theirs) = ends(&hub, &agent).await;
    let probe = ours.probe();
    ours.write_all(b"question").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut question = Vec::new();
    theirs.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    assert_eq!(probe.written(), 9);
    theirs.write_chunk(Bytes::from_static(b"answer")).await.unwrap();
    theirs.finish();
    assert_eq!(ours.read_chunk(usize::MAX).await.unwrap().unwrap(), "answer");
    assert_eq!(ours.read_chunk(usize::MAX).await.unwrap(), None);
    assert!(theirs.acknowledged(SOON).await);
    assert_eq!(probe.fate(), None);
}

#[tokio::test]
async fn read_exact_says_when_the_peer_ends_too_early() {
    let (hub, agent) = pair("vm-1").await;
    let (mut ours, mut theirs) = ends(&hub, &agent).await;
    ours.write_chunk(Bytes::from_static(b"ab")).await.unwrap();
    ours.finish();
    assert_eq!(theirs.read_exact(&mut [0; 3]).await, Err(StreamError::Ended));
}

#[tokio::test]
async fn a_reset_carries_its_reason_and_count_to_readers_writers_and_probes() {
    let (hub, agent) = pair("vm-1").await;
    let (mut ours, mut theirs) = ends(&hub, &agent).await;
    let probe = ours.probe();
    theirs.reset(closed_at(77));
    let error = ours.read_u8().await.unwrap_err();
    assert_eq!(StreamError::of(&error), Some(&StreamError::Reset(closed_at(77))));
    assert_eq!(StreamError::find(&error), Some(&StreamError::Reset(closed_at(77))));
    assert_eq!(probe.fate(), Some(closed_at(77)));
    assert_eq!(probe.fate_within(SOON).await, Some(closed_at(77)));
    let error = ours.write_all(b"more").await.unwrap_err();
    assert_eq!(StreamError::of(&error), Some(&StreamError::Reset(closed_at(77))));
    assert_eq!(theirs.read_chunk(1).await, Err(StreamError::Closed));
}

#[tokio::test]
async fn stop_before_a_clean_end_is_known_once_the_end_is_read() {
    let (hub, agent) = pair("vm-1").await;
    let (mut ours, mut theirs) = ends(&hub, &agent).await;
    let probe = ours.probe();
    theirs.stop(closed_at(5));
    theirs.write_chunk(Bytes::from_static(b"last words")).await.unwrap();
    theirs.finish();
    assert_eq!(ours.read_chunk(usize::MAX).await.unwrap().unwrap(), "last words");
    assert_eq!(ours.read_chunk(usize::MAX).await.unwrap(), None);
    assert_eq!(probe.fate(), Some(closed_at(5)));
}

#[tokio::test]
async fn word_that_comes_after_the_owner_has_gone_still_reaches_the_probe() {
    let (hub, agent) = pair("vm-1").await;
    let (mut ours, mut theirs) = ends(&hub, &agent).await;
    let probe = ours.probe();
    theirs.finish();
    assert_eq!(ours.read_chunk(1).await.unwrap(), None);
    drop(ours);
    assert_eq!(probe.fate(), None);
    let (fate, ()) = tokio::join!(probe.fate_within(SOON), async {
        tokio::task::yield_now().await;
        theirs.stop(closed_at(3));
    });
    assert_eq!(fate, Some(closed_at(3)));
    drop(probe);
    // Only now the unfinished side is reset.
    assert!(theirs.write_chunk(Bytes::new()).await.is_ok());
}

#[tokio::test]
async fn waiting_for_word_is_bounded_and_ends_with_the_tunnel() {
    let (hub, agent) = pair("vm-1").await;
    let (ours, _theirs) = ends(&hub, &agent).await;
    let probe = ours.probe();
    let began = Instant::now();
    assert_eq!(probe.fate_within(Duration::from_millis(50)).await, None);
    assert!(began.elapsed() >= Duration::from_millis(50) && !probe.tunnel_lost());
    agent.close(Close::Leaving);
    assert_eq!(probe.fate_within(Duration::from_secs(30)).await, None);
    assert!(probe.tunnel_lost() && began.elapsed() < SOON);
}

#[tokio::test]
async fn dropped_unfinished_it_is_reset_and_never_reads_as_not_delivered() {
    let (hub, agent) = pair("vm-1").await;
    let (mut ours, theirs) = ends(&hub, &agent).await;
    let probe = ours.probe();
    drop(theirs);
    let error = ours.read_chunk(1).await.unwrap_err();
    assert_eq!(error, StreamError::Reset(DROPPED));
    assert!(probe.fate().unwrap().may_have_seen(u64::MAX - 1));
}

#[tokio::test]
async fn quinns_own_codes_read_as_perhaps_seen() {
    let reset = error::reset(quinn_proto::VarInt::from_u32(0));
    assert!(reset.reason == Reason::Internal && reset.may_have_seen(0));
}

#[tokio::test]
async fn a_reset_from_outside_wakes_whoever_reads_or_writes() {
    let (hub, agent) = pair("vm-1").await;
    let (ours, mut theirs) = ends(&hub, &agent).await;
    let probe = ours.probe();
    let (mut recv, mut send) = ours.split();
    let reading = recv.read_chunk(1);
    // More than the windows hold, so that it waits.
    let writing = send.write_chunk(Bytes::from(vec![0; 32 * 1024 * 1024]));
    let outside = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        probe.reset(Reset::not_delivered(Reason::ClientGone));
    };
    let (read, written, ()) = tokio::time::timeout(SOON, async { tokio::join!(reading, writing, outside) }).await.unwrap();
    assert_eq!((read, written), (Err(StreamError::Closed), Err(StreamError::Closed)));
    let error = loop {
        match theirs.read_chunk(usize::MAX).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a reset must not look like an end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, StreamError::Reset(Reset::not_delivered(Reason::ClientGone)));
}

#[tokio::test]
async fn a_close_is_heard_although_much_waits_to_be_sent() {
    for _ in 0..10 {
        let (hub, agent) = pair("vm-1").await;
        let (_ours, theirs) = ends(&hub, &agent).await;
        let (_recv, mut send) = theirs.split();
        let writing = async { while send.write_chunk(Bytes::from(vec![0; 64 * 1024])).await.is_ok() {} };
        let closing = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            agent.close(Close::Leaving);
            tokio::time::timeout(Duration::from_secs(2), hub.closed()).await.expect("the close is said at once")
        };
        let ((), closed) = tokio::join!(writing, closing);
        assert!(closed.by_peer && closed.close == Some(Close::Leaving), "{closed:?}");
    }
}

#[tokio::test]
async fn a_lost_tunnel_is_not_a_reset() {
    let (hub, agent) = pair("vm-1").await;
    let (mut ours, _theirs) = ends(&hub, &agent).await;
    agent.close(Close::Leaving);
    assert!(matches!(ours.read_chunk(1).await, Err(StreamError::Lost(text)) if text.contains("process ends")));
    assert!(matches!(ours.write_chunk(Bytes::from_static(b"x")).await, Err(StreamError::Lost(_))));
}

/// Reads all that has come, so that the stream is known to be empty, and asks again as a task that then goes away.
async fn emptied(stream: &mut Stream) {
    let mut buffer = [0; 64];
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 2);
    let asked = std::pin::pin!(stream.read(&mut buffer)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(asked.is_pending());
}

async fn next(stream: &mut Stream) -> Result<Option<Bytes>, StreamError> {
    tokio::time::timeout(SOON, stream.read_chunk(usize::MAX)).await.expect("not heard of")
}

#[tokio::test]
async fn an_emptied_stream_hears_of_more_of_the_end_of_a_reset_and_of_a_lost_tunnel() {
    let (hub, agent) = pair("vm-1").await;
    for asks in [true, false] {
        for fate in ["more", "end", "reset"] {
            let (mut ours, mut theirs) = ends(&hub, &agent).await;
            theirs.write_all(b"ab").await.unwrap();
            if asks {
                emptied(&mut ours).await;
            } else {
                assert_eq!(ours.read(&mut [0; 64]).await.unwrap(), 2);
            }
            match fate {
                "more" => theirs.write_all(b"c").await.unwrap(),
                "end" => theirs.finish(),
                _ => theirs.reset(closed_at(3)),
            }
            if !asks {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let wanted = match fate {
                "more" => Ok(Some(Bytes::from_static(b"c"))),
                "end" => Ok(None),
                _ => Err(StreamError::Reset(closed_at(3))),
            };
            assert_eq!(next(&mut ours).await, wanted, "asked before: {asks}");
        }
    }
    let (mut ours, mut theirs) = ends(&hub, &agent).await;
    theirs.write_all(b"ab").await.unwrap();
    emptied(&mut ours).await;
    agent.close(Close::Leaving);
    assert!(matches!(next(&mut ours).await, Err(StreamError::Lost(_))));
}

#[derive(Default)]
struct Heard(AtomicBool);

impl Wake for Heard {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A pool of idle streams rests on this: one that nobody was woken for is used without another look.
#[tokio::test]
async fn whatever_befalls_an_idle_stream_wakes_who_reads_it() {
    for fate in ["nothing", "more", "end", "reset", "stop", "own reset", "lost tunnel"] {
        let (hub, agent) = pair("vm-1").await;
        let (mut ours, mut theirs) = ends(&hub, &agent).await;
        let (heard, probe) = (Arc::new(Heard::default()), ours.probe());
        let waker = Waker::from(Arc::clone(&heard));
        assert!(std::pin::pin!(ours.read_chunk(1)).poll(&mut Context::from_waker(&waker)).is_pending());
        match fate {
            "nothing" => {}
            "more" => theirs.write_all(b"c").await.unwrap(),
            "end" => theirs.finish(),
            "reset" => theirs.reset(closed_at(3)),
            "stop" => theirs.stop(closed_at(3)),
            "own reset" => probe.reset(Reset::not_delivered(Reason::ClientGone)),
            _ => agent.close(Close::Leaving),
        }
        let began = Instant::now();
        while !heard.0.load(Ordering::Acquire) && began.elapsed() < if fate == "nothing" { SOON / 10 } else { SOON } {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(heard.0.load(Ordering::Acquire), fate != "nothing", "{fate}");
    }
}

#[tokio::test]
async fn halves_end_their_own_direction_only() {
    let (hub, agent) = pair("vm-1").await;
    let (ours, mut theirs) = ends(&hub, &agent).await;
    let (mut recv, mut send) = ours.split();
    send.write_all(b"over").await.unwrap();
    send.finish();
    drop(send);
    assert_eq!(theirs.read_chunk(9).await.unwrap().unwrap(), "over");
    assert_eq!(theirs.read_chunk(9).await.unwrap(), None);
    theirs.write_chunk(Bytes::from_static(b"out")).await.unwrap();
    assert_eq!(recv.read_chunk(9).await.unwrap().unwrap(), "out");
    drop(recv);
    assert_eq!(theirs.probe().fate_within(SOON).await, Some(DROPPED));
}

#[tokio::test]
async fn a_tunnel_holds_no_more_to_send_than_its_path_needs() {
    let (hub, agent) = pair("vm-1").await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(ends(&hub, &agent).await);
    }
    let (ours, theirs) = &mut streams[0];
    for _ in 0..500 {
        ours.write_all(b"ping").await.unwrap();
        theirs.read_exact(&mut [0; 4]).await.unwrap();
    }
    let mut held = 0;
    for (ours, _) in &mut streams {
        let mut data = Bytes::from(vec![0; 4 * 1024 * 1024]);
        // Without a turn for the driver, so that all of it stays here. Each stream for itself may hold 2 MiB.
        while let Poll::Ready(written) = ours.poll_write_chunk(&mut Context::from_waker(Waker::noop()), &mut data) {
            held += written.unwrap();
        }
    }
    assert!((1_900_000..4_000_000).contains(&held), "{held} bytes");
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_for_a_free_place() {
    let (hub, agent) = pair("vm-1").await;
    let mut open = Vec::new();
    for _ in 0..crate::transport::STREAMS_FROM_AGENT {
        let mut stream = agent.open().await.unwrap();
        stream.write_chunk(Bytes::from_static(b"x")).await.unwrap();
        open.push((stream, hub.accept().await.unwrap()));
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), agent.open()).await.is_err());
    // QUIC ends announce freed places in batches of an eighth of the limit.
    open.truncate(8);
    assert!(tokio::time::timeout(SOON, agent.open()).await.is_ok());
}

#[test]
fn streams_and_tunnels_cross_threads() {
    fn assert<T: Send + Sync>() {}
    assert::<Stream>();
    assert::<StreamProbe>();
    assert::<Tunnel>();
}
