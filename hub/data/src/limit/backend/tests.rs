use std::time::Duration;

use figspan_model::state::Book;
use tokio::task::LocalSet;

use super::*;

fn limits(requests: u32, pending: u32) -> BackendLimits {
    BackendLimits { requests: NonZeroU32::new(requests), pending, wait: Duration::from_secs(1), ..BackendLimits::default() }
}

#[tokio::test(start_paused = true)]
async fn waiters_go_in_turn_up_to_the_bound_of_the_queue_and_their_deadline() {
    let (book, queues) = (Book::new(1), Rc::new(Queues::new(0)));
    let state = book.backend("service/orders");
    let local = LocalSet::new();
    local
        .run_until(async {
            let held = queues.enter(&state, Bound::Requests, &limits(1, 2)).await.unwrap();
            assert!(held.is_some() && queues.enter(&state, Bound::Connections, &limits(1, 2)).await.unwrap().is_none());
            let order = Rc::new(RefCell::new(Vec::new()));
            let waiters: Vec<_> = (0..2)
                .map(|n| {
                    let (queues, state, order) = (Rc::clone(&queues), Arc::clone(&state), Rc::clone(&order));
                    tokio::task::spawn_local(async move {
                        let permit = queues.enter(&state, Bound::Requests, &limits(1, 2)).await.unwrap();
                        order.borrow_mut().push(n);
                        permit
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            assert_eq!(state.requests.waiting(), 2);
            assert_eq!(queues.enter(&state, Bound::Requests, &limits(1, 2)).await.err(), Some(Full), "the queue is full");
            assert!(held.as_ref().is_some_and(Permit::wanted));
            drop(held);
            for waiter in waiters {
                assert!(waiter.await.unwrap().is_some());
            }
            assert_eq!((order.take(), state.requests.used(), state.requests.waiting()), (vec![0, 1], 0, 0));
            assert!(queues.turns.borrow().is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_in_time_leaves_no_trace() {
    let (book, queues) = (Book::new(1), Queues::new(0));
    let state = book.backend("service/orders");
    let held = queues.enter(&state, Bound::Requests, &limits(1, 2)).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(queues.enter(&state, Bound::Requests, &limits(1, 2)).await.err(), Some(Full));
    assert_eq!((begun.elapsed(), state.requests.waiting()), (Duration::from_secs(1), 0));
    drop(held);
    assert!(queues.enter(&state, Bound::Requests, &limits(1, 0)).await.unwrap().is_some());
    assert_eq!(state.requests.used(), 0);
}

/// Shards as threads of their own, all at one backend: the bound holds, and everybody gets in although all wait.
#[test]
fn shards_share_one_bound_and_none_starves() {
    const SHARDS: usize = 4;
    let state = Book::new(SHARDS).backend("service/orders");
    let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let (state, inside) = (Arc::clone(&state), Arc::clone(&inside));
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                LocalSet::new().block_on(&runtime, async {
                    let queues = Rc::new(Queues::new(shard));
                    let tasks: Vec<_> = (0..8)
                        .map(|_| {
                            let (queues, state, inside) = (Rc::clone(&queues), Arc::clone(&state), Arc::clone(&inside));
                            tokio::task::spawn_local(async move {
                                for _ in 0..200 {
                                    let limits = BackendLimits { wait: Duration::from_secs(60), ..limits(3, 1000) };
                                    let permit = queues.enter(&state, Bound::Requests, &limits).await.unwrap();
                                    let now = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                                    assert!(now <= 3, "{now} are inside");
                                    tokio::task::yield_now().await;
                                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                                    drop(permit);
                                }
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
            });
        }
    });
    assert_eq!((state.requests.used(), state.requests.waiting()), (0, 0));
}
