use std::net::Ipv4Addr;

use futures_util::{FutureExt as _, future::join_all};
use proptest::prelude::*;
use tokio::time::timeout;

use super::*;

const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn origin(address: Ipv4Addr) -> Origin {
    IpAddr::from(address).into()
}

/// Takes as many tokens as there are.
fn drain(buckets: &mut Buckets, origin: Origin, now: Instant) -> usize {
    (0..1000).take_while(|_| buckets.take(origin, now).is_ok()).count()
}

fn is_consistent(buckets: &Buckets) -> bool {
    buckets.full_at.len() == buckets.order.len()
        && buckets.order.iter().all(|(at, origin)| buckets.full_at.get(origin) == Some(at))
}

#[test]
fn some_hundreds_at_once_then_a_hundred_a_second_and_none_is_saved_beyond_that() {
    let (mut buckets, start) = (Buckets::default(), clock::now());
    assert_eq!(drain(&mut buckets, origin(ONE), start), 300);
    assert_eq!(buckets.take(origin(ONE), start), Err(start + STEP));
    let mut now = start;
    for _ in 0..100 {
        now += STEP / 2;
        assert_eq!(buckets.take(origin(ONE), now), Err(now + STEP / 2));
        now += STEP / 2;
        assert_eq!(drain(&mut buckets, origin(ONE), now), 1);
    }
    assert_eq!(now, start + Duration::from_secs(1));
    assert_eq!(drain(&mut buckets, origin(ONE), now + Duration::from_secs(2)), 200);
    assert_eq!(drain(&mut buckets, origin(ONE), now + Duration::from_hours(1)), 300);
}

#[test]
fn each_origin_has_its_own_bucket() {
    let (mut buckets, now) = (Buckets::default(), clock::now());
    let networks = ["2001:db8:1:2::1", "2001:db8:1:2:3::", "2001:db8:1:3::1"];
    let [network, same, next] = networks.map(|text| text.parse::<IpAddr>().unwrap().into());
    assert_eq!(drain(&mut buckets, origin(ONE), now), 300);
    assert_eq!(drain(&mut buckets, origin(OTHER), now), 300);
    assert_eq!(drain(&mut buckets, network, now), 300);
    assert_eq!(drain(&mut buckets, same, now), 0);
    assert_eq!(drain(&mut buckets, next, now), 300);
}

#[test]
fn what_is_given_back_can_be_taken_again_and_a_full_bucket_takes_none() {
    let (mut buckets, now) = (Buckets::default(), clock::now());
    buckets.give_back(origin(ONE), now);
    for _ in 0..10_000 {
        assert!(buckets.take(origin(ONE), now).is_ok());
        buckets.give_back(origin(ONE), now);
    }
    assert!(buckets.full_at.is_empty());
    assert_eq!(drain(&mut buckets, origin(ONE), now), 300);
    for _ in 0..7 {
        buckets.give_back(origin(ONE), now);
    }
    buckets.give_back(origin(OTHER), now);
    assert_eq!(drain(&mut buckets, origin(ONE), now), 7);
}

#[test]
fn full_buckets_are_forgotten_and_the_fullest_one_gives_way() {
    let (mut buckets, start) = (Buckets::default(), clock::now());
    assert_eq!(drain(&mut buckets, origin(ONE), start), 300);
    let many = u32::try_from(3 * MAX_BUCKETS).unwrap();
    for n in 0..many {
        buckets.take(origin(Ipv4Addr::from_bits(n)), start).unwrap();
        assert!(buckets.full_at.len() <= MAX_BUCKETS);
    }
    assert!(is_consistent(&buckets));
    // However many others there are, what was used up is used up.
    assert_eq!(drain(&mut buckets, origin(ONE), start), 0);
    let later = start + Duration::from_secs(3);
    buckets.take(origin(OTHER), later).unwrap();
    assert_eq!(buckets.full_at.keys().collect::<Vec<_>>(), [&origin(OTHER)]);
    assert!(is_consistent(&buckets));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Take(u8),
    GiveBack(u8),
    Pass(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..2_u8).prop_map(Step::Take),
        2 => (0..2_u8).prop_map(Step::GiveBack),
        1 => (0..400_u16).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..4000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In any time no more refusals than `BURST + RATE * time`, but for those given back in it. A
    /// bucket does not depend on the other, and whoever waits as long as he is told gets a token.
    #[test]
    fn no_window_has_more_refusals_than_allowed(steps in steps()) {
        let (mut buckets, start) = (Buckets::default(), clock::now());
        let mut alone = Buckets::default();
        let mut now = start;
        // Milliseconds, and what was taken by the first origin less what was given back.
        let mut log: Vec<(u64, i64)> = Vec::new();
        let address = |n: u8| origin(Ipv4Addr::new(192, 0, 2, n));
        for step in steps {
            let at = u64::try_from((now - start).as_millis()).unwrap();
            match step {
                Step::Take(n) => {
                    let taken = buckets.take(address(n), now);
                    if n == 0 {
                        prop_assert_eq!(taken, alone.take(address(0), now));
                        log.push((at, i64::from(taken.is_ok())));
                    }
                    if let Err(next) = taken {
                        prop_assert!(next > now && next <= now + STEP);
                        now = next;
                        prop_assert!(buckets.take(address(n), now).is_ok());
                        if n == 0 {
                            alone.take(address(0), now).unwrap();
                            let at = u64::try_from((now - start).as_millis()).unwrap();
                            log.push((at, 1));
                        }
                    }
                }
                Step::GiveBack(n) => {
                    buckets.give_back(address(n), now);
                    if n == 0 {
                        alone.give_back(address(0), now);
                        log.push((at, -1));
                    }
                }
                Step::Pass(milliseconds) => now += Duration::from_millis(milliseconds.into()),
            }
            prop_assert!(is_consistent(&buckets));
        }
        // The largest excess over the rate that any window has, which ends at each entry.
        let (mut most, mut least) = (0, i64::MAX);
        let mut sum = 0;
        for (at, taken) in log {
            // In thousandths of a token.
            let allowed = i64::try_from(at).unwrap() * i64::from(RATE);
            least = least.min(sum - allowed);
            sum += 1000 * taken;
            most = most.max(sum - allowed - least);
        }
        prop_assert!(most <= 1000 * i64::from(BURST), "{most}");
    }
}

/// A backoff without a token for that address.
fn used_up(address: Ipv4Addr) -> Backoff {
    let backoff = Backoff::default();
    while backoff.take(address.into()) {}
    backoff
}

#[tokio::test]
async fn those_who_wait_are_served_in_order_and_one_by_one() {
    let backoff = used_up(ONE);
    let started = clock::now();
    let order = Mutex::new(Vec::new());
    join_all((0..20).map(async |n| {
        assert_eq!(backoff.wait(ONE.into(), Patience::Stranger).await, Turn::Now);
        order.lock().unwrap().push(n);
        // Nobody who comes later is served before.
        assert!(n == 19 || !backoff.take(ONE.into()));
        assert!(backoff.take(OTHER.into()));
    }))
    .await;
    assert!(order.lock().unwrap().iter().copied().eq(0..20));
    // `used_up` took a moment, in which a token may have come.
    assert!(clock::now() - started > STEP * 18);
    assert!(backoff.lock().lines.is_empty());
}

#[tokio::test]
async fn a_token_that_is_given_back_lets_the_first_go() {
    let backoff = used_up(ONE);
    let limit = Duration::from_secs(8);
    let crowd = join_all((0..1000).map(async |_| {
        let turn = backoff.wait(ONE.into(), Patience::Stranger).await;
        // Each one logs in.
        backoff.give_back(ONE.into());
        turn
    }));
    let turns = timeout(limit, crowd).await.expect("less than the 10 s of the rate");
    assert!(turns.iter().all(|turn| *turn == Turn::Now));
}

#[tokio::test]
async fn the_line_is_bounded_and_strangers_leave_room_for_clients() {
    let backoff = used_up(ONE);
    let queue = |count: usize, patience| {
        let mut waiting = Vec::new();
        for _ in 0..count {
            let mut turn = Box::pin(backoff.wait(ONE.into(), patience));
            match turn.as_mut().now_or_never() {
                None => waiting.push(turn),
                // A busy machine: a token has come meanwhile.
                Some(Turn::Now) => {}
                Some(Turn::Never) => return (waiting, true),
            }
        }
        (waiting, false)
    };
    assert_eq!((Patience::Stranger.places(), Patience::Client.places()), (1000, 3000));
    let (strangers, full) = queue(1000 + 500, Patience::Stranger);
    assert!(full, "{}", strangers.len());
    assert_eq!(backoff.lock().lines[&origin(ONE)].waiting, 1000);
    let (clients, full) = queue(2000 + 500, Patience::Client);
    assert!(full, "{}", clients.len());
    assert_eq!(backoff.lock().lines[&origin(ONE)].waiting, 3000);
    // Others have lines of their own.
    assert!(backoff.take(OTHER.into()));
    // Those who give up leave nothing behind.
    drop(clients);
    assert_eq!(backoff.lock().lines[&origin(ONE)].waiting, 1000);
    drop(strangers);
    assert!(backoff.lock().lines.is_empty());
    let turn = timeout(Duration::from_secs(5), backoff.wait(ONE.into(), Patience::Stranger));
    assert_eq!(turn.await, Ok(Turn::Now));
}
