use std::sync::Arc;

use figspan_model::routing::Target;
use figspan_model::state::Book;

use super::*;

struct World {
    policy: SessionPersistence,
    sealer: Sealer,
    metrics: Arc<Metrics>,
    book: Arc<Book>,
}

impl World {
    fn new(policy: SessionPersistence) -> Self {
        let policy = SessionPersistence { name: Some("s".into()), ..policy };
        Self { policy, sealer: Sealer::new(&[[7; 32]]), metrics: Metrics::new(), book: Book::new(1) }
    }

    /// An answer of an endpoint to a client with that cookie; what it sets.
    fn answer(&self, cookie: Option<&str>, endpoint: &str, secure: bool, now: u32) -> Option<String> {
        let mut request = HeaderMap::new();
        request.extend(cookie.map(|cookie| (header::COOKIE, cookie.parse::<HeaderValue>().unwrap())));
        let session = find(&self.policy, &self.sealer, &request, now, &self.metrics);
        let backend = Backend::plain(Target::Uplink("a".parse().unwrap()), None, &self.book);
        let endpoint = self.book.endpoint(endpoint);
        let answered =
            Answered { policy: &self.policy, sealer: &self.sealer, session, backend: &backend, endpoint: &endpoint, secure, now };
        let mut headers = HeaderMap::new();
        answered.note(&mut headers, &self.metrics, u64::from(now) + 1);
        headers.get(header::SET_COOKIE).map(|value| value.to_str().unwrap().to_owned())
    }

    fn left(&self, endpoint: &str, now: u32) -> u64 {
        self.book.endpoint(endpoint).sessions.left(now).sessions
    }

    fn counted(&self, event: SessionEvent) -> u64 {
        self.metrics.sessions(event)
    }
}

fn pair(set: &str) -> &str {
    set.split(';').next().unwrap()
}

#[test]
fn a_cookie_is_set_once_and_renewed_in_its_second_half() {
    let world = World::new(SessionPersistence { ttl: Duration::from_secs(100), ..SessionPersistence::default() });
    let first = world.answer(None, "e", false, 1000).unwrap();
    assert!(first.ends_with("; Path=/; Max-Age=100; SameSite=Lax; HttpOnly"), "{first}");
    assert_eq!(world.answer(Some(pair(&first)), "e", false, 1049), None);
    let second = world.answer(Some(pair(&first)), "e", false, 1051).unwrap();
    assert_ne!(pair(&first), pair(&second));
    assert_eq!((world.left("e", 1150), world.left("e", 1151)), (1, 0), "renewed, it is still one");
    let events = [SessionEvent::Started, SessionEvent::Kept, SessionEvent::Renewed, SessionEvent::Moved];
    assert_eq!(events.map(|event| world.counted(event)), [1, 1, 1, 0]);
}

#[test]
fn a_session_that_has_ended_is_counted_and_begins_anew() {
    let world = World::new(SessionPersistence { ttl: Duration::from_secs(100), ..SessionPersistence::default() });
    let first = world.answer(None, "e", false, 1000).unwrap();
    assert!(world.answer(Some(pair(&first)), "e", false, 1100).is_some());
    assert_eq!((world.counted(SessionEvent::Expired), world.counted(SessionEvent::Started)), (1, 2));
}

#[test]
fn an_absolute_timeout_ends_what_is_renewed() {
    let absolute_timeout = Some(Duration::from_secs(120));
    let world = World::new(SessionPersistence { ttl: Duration::from_secs(100), absolute_timeout, ..SessionPersistence::default() });
    let first = world.answer(None, "e", false, 1000).unwrap();
    let second = world.answer(Some(pair(&first)), "e", false, 1060).unwrap();
    assert!(second.contains("Max-Age=60;"), "{second}");
    assert_eq!(world.answer(Some(pair(&second)), "e", false, 1119), None, "it cannot be renewed any more");
    world.answer(Some(pair(&second)), "e", false, 1120).unwrap();
    assert_eq!(world.counted(SessionEvent::Expired), 1);
}

#[test]
fn a_session_answered_elsewhere_moves_there() {
    let world = World::new(SessionPersistence::default());
    let first = world.answer(None, "e", false, 1000).unwrap();
    let second = world.answer(Some(pair(&first)), "f", false, 1001).unwrap();
    assert_eq!(world.counted(SessionEvent::Moved), 1);
    assert_eq!(world.answer(Some(pair(&second)), "f", false, 1002), None);
    assert_eq!((world.left("e", 1002), world.left("f", 1002)), (1, 1), "the old cookie may still come back");
}

#[test]
fn a_forged_cookie_is_counted_and_hides_no_good_one() {
    let world = World::new(SessionPersistence::default());
    let good = world.answer(None, "e", false, 1000).unwrap();
    let stranger = World { sealer: Sealer::new(&[[8; 32]]), ..World::new(SessionPersistence::default()) };
    let forged = stranger.answer(None, "e", false, 1000).unwrap();
    assert!(world.answer(Some(pair(&forged)), "e", false, 1001).is_some());
    assert!(world.answer(Some("s=nonsense"), "e", false, 1001).is_some());
    assert_eq!(world.counted(SessionEvent::Forged), 2);
    let both = format!("{}; {}", pair(&forged), pair(&good));
    assert_eq!(world.answer(Some(&both), "e", false, 1001), None);
    assert_eq!(world.counted(SessionEvent::Forged), 2);
}

#[test]
fn attributes_are_those_asked_for_and_tls_makes_it_secure() {
    let world = World::new(SessionPersistence::default());
    assert!(world.answer(None, "e", true, 1000).unwrap().contains("; Secure"));
    let policy = SessionPersistence {
        path: "/shop".into(),
        domain: Some("shop.example".into()),
        secure: Some(false),
        http_only: false,
        same_site: SameSite::Strict,
        ..SessionPersistence::default()
    };
    let set = World::new(policy).answer(None, "e", true, 1000).unwrap();
    assert!(set.ends_with("; Path=/shop; Max-Age=3600; SameSite=Strict; Domain=shop.example"), "{set}");
    let everywhere = World::new(SessionPersistence { same_site: SameSite::None, ..SessionPersistence::default() });
    assert!(everywhere.answer(None, "e", false, 1000).unwrap().contains("SameSite=None; Secure"));
}
