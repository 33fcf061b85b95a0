use super::*;
use crate::scripted::{SOON, hello, uplink};
use figspan_proto::control::Health;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

/// A conversation without a tunnel under it.
struct Bench {
    uplinks: Arc<Uplinks>,
    work: Drain,
    say: Option<mpsc::Sender<Result<pb::HubMessage, tonic::Status>>>,
    hear: mpsc::Receiver<Result<pb::AgentMessage, tonic::Status>>,
    heard: mpsc::Receiver<(u64, Heard)>,
    task: JoinSet<Result<(), ConverseError>>,
}

fn bench() -> Bench {
    let uplinks = Arc::new(Uplinks::default());
    uplinks.apply(&[uplink("shop", ([127, 0, 0, 1], 1).into())]);
    let (say, incoming) = mpsc::channel(8);
    let (outgoing, hear) = mpsc::channel(OUTGOING);
    let (tell, heard) = mpsc::channel(8);
    let work = Drain::new();
    let with = Conversation {
        tunnel: 3,
        replica: "hub-0".parse().unwrap(),
        zone: Some("eu-1a".parse().unwrap()),
        instance: "i1".into(),
        uplinks: Arc::clone(&uplinks),
        work: work.clone(),
        drain_ms: 30_000,
        heard: tell,
    };
    let mut task = JoinSet::new();
    task.spawn(converse(ReceiverStream::new(incoming).boxed(), outgoing, with));
    Bench { uplinks, work, say: Some(say), hear, heard, task }
}

impl Bench {
    async fn say(&self, message: impl Into<pb::HubMessage>) {
        self.say.as_ref().unwrap().send(Ok(message.into())).await.unwrap();
    }

    async fn hear(&mut self) -> FromAgent {
        let message =
            tokio::time::timeout(SOON, self.hear.recv()).await.expect("a message comes").expect("the conversation goes on").unwrap();
        FromAgent::check(message).unwrap().unwrap()
    }

    /// Says hello and keeps the tunnel; returns behind the list.
    async fn begin(&mut self) {
        self.say(hello(0, 1, "hub-0", 1..=1)).await;
        let Some((3, Heard::Hello(_, keep))) = self.heard.recv().await else { panic!("the hello is reported") };
        keep.send(true).unwrap();
        assert!(
            matches!(self.hear().await, FromAgent::Hello(hello) if hello.instance == "i1" && hello.zone == Some("eu-1a".parse().unwrap()))
        );
        assert!(matches!(self.hear().await, FromAgent::List { uplinks, .. } if uplinks.len() == 1));
    }

    async fn end(&mut self) -> ConverseError {
        tokio::time::timeout(SOON, self.task.join_next()).await.expect("it ends").unwrap().unwrap().unwrap_err()
    }
}

#[tokio::test]
async fn changes_of_health_and_the_drain_are_pushed_as_they_happen() {
    let mut bench = bench();
    bench.begin().await;
    bench.uplinks.set_health(&"shop".parse().unwrap(), Health::Down, "connection refused");
    let FromAgent::States(states) = bench.hear().await else { panic!("states") };
    assert_eq!((states[0].health, states[0].reason.as_str()), (Health::Down, "connection refused"));
    bench.work.stop();
    assert_eq!(bench.hear().await, FromAgent::Draining { deadline_ms: 30_000 });
}

#[tokio::test]
async fn what_concerns_the_whole_agent_is_reported_and_unknown_messages_are_passed_over() {
    let mut bench = bench();
    bench.begin().await;
    bench.say(pb::HubMessage { body: None }).await;
    bench.say(FromHub::Directory(vec![])).await;
    bench.say(FromHub::Leaving { deadline_ms: 5000 }).await;
    assert!(matches!(bench.heard.recv().await, Some((3, Heard::Directory(_)))));
    assert!(matches!(bench.heard.recv().await, Some((3, Heard::Leaving(time))) if time.as_secs() == 5));
}

#[tokio::test]
async fn a_hub_that_is_not_who_its_certificate_says_is_left() {
    let mut bench = bench();
    bench.say(hello(0, 1, "hub-9", 1..=1)).await;
    assert!(matches!(bench.end().await, ConverseError::Impostor { .. }));
}

#[tokio::test]
async fn without_a_common_version_the_error_names_both_ranges() {
    let mut bench = bench();
    bench.say(hello(0, 1, "hub-0", 4..=6)).await;
    assert_eq!(
        bench.end().await.to_string(),
        "the hub speaks versions 4-6 of the control protocol, this agent 1-1; upgrade the older of the two"
    );
}

#[tokio::test]
async fn a_tunnel_that_is_not_kept_is_told_nothing() {
    let mut bench = bench();
    bench.say(hello(0, 1, "hub-0", 1..=1)).await;
    let Some((_, Heard::Hello(_, keep))) = bench.heard.recv().await else { panic!("the hello is reported") };
    keep.send(false).unwrap();
    assert!(matches!(bench.end().await, ConverseError::Redundant));
    assert!(bench.hear.recv().await.is_none());
}

#[tokio::test]
async fn wrong_messages_end_the_conversation() {
    let mut early = bench();
    early.say(FromHub::Directory(vec![])).await;
    assert!(matches!(early.end().await, ConverseError::Protocol(_)));
    let mut twice = bench();
    twice.begin().await;
    twice.say(hello(0, 1, "hub-0", 1..=1)).await;
    assert!(matches!(twice.end().await, ConverseError::Protocol(_)));
    let mut gone = bench();
    gone.begin().await;
    gone.say = None;
    assert!(matches!(gone.end().await, ConverseError::Ended(_)));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_says_nothing_is_left_after_a_while() {
    let mut bench = bench();
    let error = bench.task.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("no hello within 10s"), "{error}");
}
