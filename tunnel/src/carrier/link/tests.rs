#![allow(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::task::{Wake, Waker};

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;

fn link() -> Arc<Link> {
    Link::new(([127, 0, 0, 1], 7).into(), None, None)
}

/// A link over a pipe of so many bytes: the link, what comes, the far end, the task that carries.
fn piped(bytes: usize) -> (Arc<Link>, Arc<Arrivals>, DuplexStream, JoinHandle<String>) {
    let (near, far) = tokio::io::duplex(bytes);
    let (link, arrivals) = (link(), Arc::<Arrivals>::default());
    let task = tokio::spawn(carry(Arc::clone(&link), Arc::clone(&arrivals), near));
    (link, arrivals, far, task)
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

fn has_room(link: &Link) -> bool {
    link.poll_room(&Context::from_waker(&Waker::from(Arc::new(Nobody)))).is_ready()
}

fn take(arrivals: &Arrivals) -> Vec<Vec<u8>> {
    let mut buffers = vec![[0; 2000]; 32];
    let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
    let mut meta = [RecvMeta::default(); 32];
    let taken = arrivals.take(&mut slices, &mut meta);
    (0..taken).map(|index| buffers[index][..meta[index].len].to_vec()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_full_link_is_not_writable_and_one_that_stands_still_loses_and_recovers() {
    let (link, _arrivals, mut far, _task) = piped(4096);
    // Nobody reads at the far end: the pipe fills, then the buffer, and that is all that is ever held.
    let mut taken = 0;
    while link.send(&[7; 1000], None) == Sent::Taken {
        taken += 1;
        tokio::task::yield_now().await;
        assert!(taken < 200, "it takes without end");
    }
    assert_eq!(link.send(&[7; 1000], None), Sent::Full);
    assert!(!has_room(&link));
    let room = tokio::spawn({
        let link = Arc::clone(&link);
        async move { poll_fn(|cx| link.poll_room(cx)).await }
    });
    tokio::time::sleep(STALL + Duration::from_millis(10)).await;
    room.await.unwrap();
    assert_eq!(link.send(&[7; 1000], None), Sent::Lost, "whoever waited goes on, and loses");
    assert!(lock(&link.out).frames.is_empty());
    let mut drained = vec![0; 256 * 1024];
    while tokio::time::timeout(Duration::from_millis(50), far.read(&mut drained)).await.is_ok() {}
    assert_eq!(link.send(&[7; 1000], None), Sent::Taken, "it goes again");
    assert!(has_room(&link) && !link.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_stands_still_for_long_is_given_up() {
    let (link, _arrivals, _far, task) = piped(4096);
    while link.send(&[7; 1000], None) == Sent::Taken {
        tokio::task::yield_now().await;
    }
    let why = task.await.unwrap();
    assert!(why.contains("nothing could be sent"), "{why}");
    assert!(link.is_closed() && link.send(&[7; 10], None) == Sent::Lost && has_room(&link));
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_no_whole_datagram_is_closed_in_time() {
    let (_link, _arrivals, mut far, task) = piped(4096);
    let began = Instant::now();
    // A byte every second of a datagram that never ends.
    let drip = tokio::spawn(async move {
        far.write_all(&1000u16.to_be_bytes()).await.unwrap();
        while far.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let why = task.await.unwrap();
    assert!(why.contains("no datagram"), "{why}");
    assert!(began.elapsed() <= IDLE + Duration::from_secs(1), "{:?}", began.elapsed());
    drip.await.unwrap();
}

#[tokio::test]
async fn what_comes_is_bounded_while_nobody_takes_it_and_comes_whole_afterwards() {
    let (link, arrivals, mut far, _task) = piped(4096);
    let sent = 400;
    let sending = tokio::spawn(async move {
        let mut frames = BytesMut::new();
        (0..sent).for_each(|index: u32| frame::append(&mut frames, &[index as u8; 1000]));
        far.write_all(&frames).await.unwrap();
        far
    });
    while lock(&link.come).deframer.held() < IN {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(lock(&link.come).deframer.held() <= IN + READ && !sending.is_finished());
    let mut got = 0;
    while got < sent {
        for datagram in take(&arrivals) {
            assert_eq!(datagram, vec![got as u8; 1000]);
            got += 1;
        }
        tokio::task::yield_now().await;
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn links_take_turns() {
    let arrivals = Arc::<Arrivals>::default();
    let (greedy, modest) = (link(), link());
    let mut frames = BytesMut::new();
    (0..40).for_each(|_| frame::append(&mut frames, b"greedy"));
    assert!(greedy.came(&frames));
    arrivals.add(&greedy);
    frames.clear();
    frame::append(&mut frames, b"modest");
    assert!(modest.came(&frames));
    arrivals.add(&modest);
    let first = take(&arrivals);
    assert_eq!(first.len(), 32);
    assert_eq!(first.iter().position(|datagram| datagram == b"modest"), Some(TURN));
    assert!(arrivals.any());
    assert_eq!(take(&arrivals).len(), 9);
    assert!(!arrivals.any() || take(&arrivals).is_empty());
}

#[tokio::test]
async fn a_link_with_a_bad_frame_is_closed_and_what_was_good_still_counts() {
    let (link, arrivals, mut far, task) = piped(4096);
    far.write_all(&[0, 2, b'o', b'k', 0, 0, 1, 2, 3]).await.unwrap();
    while !arrivals.any() {
        tokio::task::yield_now().await;
    }
    assert_eq!(take(&arrivals), [b"ok"]);
    assert!(link.is_closed());
    task.await.unwrap();
}
