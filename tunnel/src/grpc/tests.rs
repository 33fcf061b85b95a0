use figspan_proto::reset::{Close, Reason, Reset};
use futures_util::stream;
use prost::Message;
use tokio::sync::mpsc;

use super::*;
use crate::testing::pair;
use crate::tunnel::Tunnel;

const SOON: Duration = Duration::from_secs(5);

fn hello(replica: &str) -> pb::HubMessage {
    let hello = pb::HubHello { replica: replica.into(), ..Default::default() };
    pb::HubMessage { body: Some(pb::hub_message::Body::Hello(hello)) }
}

fn counted(instance: String) -> pb::AgentMessage {
    let hello = pb::AgentHello { instance, ..Default::default() };
    pb::AgentMessage { body: Some(pb::agent_message::Body::Hello(hello)) }
}

/// An agent that answers each hello with its text.
fn parrot(messages: BoxStream<'static, Result<pb::HubMessage, Status>>) -> BoxStream<'static, Result<pb::AgentMessage, Status>> {
    messages
        .map(|message| match message?.body {
            Some(pb::hub_message::Body::Hello(hello)) => Ok(counted(hello.replica)),
            _ => Err(Status::invalid_argument("not a hello")),
        })
        .boxed()
}

fn outgoing() -> (mpsc::Sender<pb::HubMessage>, BoxStream<'static, pb::HubMessage>) {
    let (sender, receiver) = mpsc::channel(4);
    let stream = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|message| (message, receiver)) });
    (sender, stream.boxed())
}

fn instance(message: Option<Result<pb::AgentMessage, Status>>) -> String {
    match message {
        Some(Ok(pb::AgentMessage { body: Some(pb::agent_message::Body::Hello(hello)) })) => hello.instance,
        other => panic!("{other:?}"),
    }
}

async fn begin(hub: &Tunnel) -> (mpsc::Sender<pb::HubMessage>, BoxStream<'static, Result<pb::AgentMessage, Status>>) {
    let (sender, messages) = outgoing();
    let stream = hub.open().await.unwrap();
    (sender, watch(stream, messages).await.unwrap())
}

#[tokio::test]
async fn messages_travel_both_ways_and_the_end_of_the_stream_ends_the_service() {
    let (hub, agent) = pair("vm-1").await;
    let served = async { serve(agent.accept().await.unwrap(), parrot).await };
    let watched = async {
        let (sender, mut messages) = begin(&hub).await;
        for text in ["one", "two", "three"] {
            sender.send(hello(text)).await.unwrap();
            assert_eq!(instance(messages.next().await), text);
        }
        drop(sender);
        assert!(messages.next().await.is_none(), "the agent's stream ends with the hub's");
        drop(messages);
    };
    let (_, ()) = tokio::time::timeout(SOON, async { tokio::join!(served, watched) }).await.unwrap();
}

#[tokio::test]
async fn more_than_the_windows_hold_travels_both_ways() {
    let (hub, agent) = pair("vm-1").await;
    let served = async { serve(agent.accept().await.unwrap(), parrot).await };
    let watched = async {
        let (sender, mut messages) = begin(&hub).await;
        let large = "x".repeat(MAX_MESSAGE * 3 / 4);
        for _ in 0..3 * WINDOW as usize / large.len() {
            sender.send(hello(&large)).await.unwrap();
            assert_eq!(instance(messages.next().await).len(), large.len());
        }
    };
    let _ = tokio::time::timeout(SOON, async { tokio::join!(served, watched) }).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_refuses_the_call_says_so_and_one_that_is_silent_has_no_more_than_windows_sent_to_it() {
    let (hub, agent) = pair("vm-1").await;
    let served = async {
        let refuse = |_: BoxStream<'static, _>| stream::iter([Err(Status::permission_denied("not you"))]).boxed();
        let _ = serve(agent.accept().await.unwrap(), refuse).await;
        // It answers, and never reads what it is sent.
        serve(agent.accept().await.unwrap(), |unread| stream::pending().chain(unread.map(|_| Err(Status::aborted("read")))).boxed()).await
    };
    let watched = async {
        let (_sender, mut messages) = begin(&hub).await;
        let refused = messages.next().await.unwrap().unwrap_err();
        assert_eq!((refused.code(), refused.message()), (tonic::Code::PermissionDenied, "not you"));
        drop(messages);
        let (sender, mut messages) = begin(&hub).await;
        let large = hello(&"x".repeat(MAX_MESSAGE / 2));
        let mut taken = 0;
        let fill = async {
            while tokio::time::timeout(Duration::from_secs(1), sender.send(Clone::clone(&large))).await.is_ok() {
                taken += 1;
                assert!(taken < 64, "what nobody reads is not taken without end");
            }
        };
        // Who waits for messages sends.
        tokio::select! {
            () = fill => {}
            message = messages.next() => panic!("{message:?}"),
        }
        assert!(taken >= 8, "the windows are filled: {taken}");
    };
    let _ = tokio::time::timeout(SOON, async { tokio::join!(served, watched) }).await.unwrap();
}

#[tokio::test]
async fn dropping_the_watch_ends_the_service_and_leaves_no_task() {
    let (hub, agent) = pair("vm-1").await;
    let (_sender, messages) = {
        let mut tasks = tokio::task::JoinSet::new();
        let served = agent.clone();
        tasks.spawn(async move { serve(served.accept().await.unwrap(), |_| stream::pending().boxed()).await });
        let begun = begin(&hub).await;
        tasks.detach_all();
        begun
    };
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    drop(messages);
    let gone = async {
        // The hub's connection task and its helpers, the agent's service and its helpers.
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before.saturating_sub(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("tasks are gone");
    assert!(!hub.is_closed());
}

#[tokio::test]
async fn a_lost_tunnel_ends_the_watch_at_once() {
    let (hub, agent) = pair("vm-1").await;
    let served = async { serve(agent.accept().await.unwrap(), parrot).await };
    let watched = async {
        let (sender, mut messages) = begin(&hub).await;
        sender.send(hello("here")).await.unwrap();
        assert_eq!(instance(messages.next().await), "here");
        agent.close(Close::Leaving);
        match messages.next().await {
            Some(Err(_)) | None => {}
            other => panic!("{other:?}"),
        }
    };
    let _ = tokio::time::timeout(SOON, async { tokio::join!(served, watched) }).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_messages_nobody_wants_any_more_ends() {
    let (hub, agent) = pair("vm-1").await;
    let deaf = async {
        let mut stream = agent.accept().await.unwrap();
        // Settings, and the head of an answer: 200.
        stream.write_chunk(vec![0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88].into()).await.unwrap();
        stream.stop(Reset { reason: Reason::Cancelled, delivered: 0 });
        stream
    };
    let (_stream, (sender, mut messages)) = tokio::join!(deaf, begin(&hub));
    let ended = async {
        loop {
            tokio::select! {
                message = messages.next() => return message,
                () = tokio::time::sleep(Duration::from_millis(5)) => drop(sender.try_send(hello("anybody?"))),
            }
        }
    };
    assert!(tokio::time::timeout(SOON, ended).await.unwrap().unwrap().is_err());
    assert!(!hub.is_closed(), "only the stream is lost");
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_and_holds_nothing_up() {
    const PINGS: usize = 20_000;
    let (hub, agent) = pair("vm-1").await;
    let (written, come) = tokio::sync::oneshot::channel();
    // A task of its own: what wakes one end does not poll the other.
    let mut flood = tokio::task::JoinSet::new();
    flood.spawn(async move {
        let mut stream = agent.accept().await.unwrap();
        let message = counted("here".to_owned()).encode_to_vec();
        // Settings, the head of an answer, pings, and a message of gRPC behind its length.
        let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
        bytes.extend([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(PINGS));
        bytes.extend([0, 0, message.len() as u8 + 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, message.len() as u8]);
        bytes.extend(message);
        stream.write_chunk(bytes.into()).await.unwrap();
        // All of it has come before any is read, so that nothing that arrives keeps the reading going.
        tokio::time::sleep(Duration::from_millis(300)).await;
        written.send(()).unwrap();
        let mut answered = 0;
        while answered < PINGS * 17 {
            answered += stream.read_chunk(usize::MAX).await.unwrap().unwrap().len();
        }
        (agent, stream)
    });
    let watched = async {
        let (_sender, mut messages) = begin(&hub).await;
        come.await.unwrap();
        assert_eq!(instance(messages.next().await), "here");
        // Whoever waits for more sends the last answers.
        tokio::select! {
            _open = flood.join_next() => {}
            message = messages.next() => panic!("{message:?}"),
        }
    };
    tokio::time::timeout(SOON, watched).await.unwrap();
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused() {
    let (hub, agent) = pair("vm-1").await;
    let served = async { serve(agent.accept().await.unwrap(), |_| stream::iter([Ok(counted("x".repeat(MAX_MESSAGE + 1)))]).boxed()).await };
    let watched = async {
        let (_sender, mut messages) = begin(&hub).await;
        assert!(messages.next().await.unwrap().is_err());
    };
    let _ = tokio::time::timeout(SOON, async { tokio::join!(served, watched) }).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_never_answers_is_given_up() {
    let (hub, agent) = pair("vm-1").await;
    let silent = async { agent.accept().await.unwrap() };
    let watched = async {
        let (_sender, messages) = outgoing();
        watch(hub.open().await.unwrap(), messages).await.err().unwrap()
    };
    let (_stream, status) = tokio::time::timeout(SOON + ANSWER_TIMEOUT, async { tokio::join!(silent, watched) }).await.unwrap();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

#[tokio::test]
async fn garbage_instead_of_http2_ends_the_service_with_an_error() {
    let (hub, agent) = pair("vm-1").await;
    let mut stream = hub.open().await.unwrap();
    stream.write_chunk(vec![0xff; 4096].into()).await.unwrap();
    let served = serve(agent.accept().await.unwrap(), parrot);
    assert!(tokio::time::timeout(SOON, served).await.unwrap().is_err());
    assert!(!agent.is_closed(), "only the stream is lost");
}
