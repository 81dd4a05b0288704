use proptest::{collection::vec, prelude::*};

use super::*;

fn most(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Which limit refuses, and how the log names it.
fn refusal(issued: Result<Ticket, Excess>) -> (Limit, String) {
    let excess = issued.expect_err("a refusal");
    (excess.limit, excess.to_string())
}

fn options(max_connections: ConnectionLimit) -> LimitOptions {
    LimitOptions {
        max_connections,
        max_connections_per_ip: most(2048),
        max_unauthenticated: most(4096),
        max_sessions_per_user: most(1024),
        max_session_bandwidth: None,
        idle_timeout: None,
    }
}

#[test]
fn descriptors_bound_the_connections() {
    let at_most = |number| ConnectionLimit::AtMost(NonZeroU32::new(number).unwrap());
    for (asked, descriptors, expected) in [
        (ConnectionLimit::Descriptors, Some(1000), most(800)),
        (ConnectionLimit::Descriptors, Some(1_048_576), most(838_860)),
        (ConnectionLimit::Descriptors, None, None),
        // What a small process needs for itself is more than 20 %.
        (ConnectionLimit::Descriptors, Some(100), most(68)),
        (ConnectionLimit::Descriptors, Some(20), most(1)),
        (ConnectionLimit::Descriptors, Some(u64::MAX), most(u32::MAX)),
        (ConnectionLimit::Unlimited, None, None),
        (ConnectionLimit::Unlimited, Some(1024), most(896)),
        (at_most(5), Some(1024), most(5)),
        (at_most(896), Some(1024), most(896)),
        (at_most(897), Some(1024), most(896)),
        (at_most(5), None, most(5)),
    ] {
        let quotas = Quotas::new(&options(asked), descriptors);
        assert_eq!(quotas.connections, expected, "{asked:?} {descriptors:?}");
        let others = [quotas.per_address, quotas.strangers, quotas.per_user];
        assert_eq!(others, [most(2048), most(4096), most(1024)]);
    }
}

type Issue<'a> = &'a dyn Fn(&Quotas) -> Result<Ticket, Excess>;

#[test]
fn each_limit_lets_in_as_many_as_it_says() {
    let census = Arc::<Census>::default();
    let accept = |quotas: &Quotas| census.accept(ip("192.0.2.1"), quotas);
    let grant = |quotas: &Quotas| census.grant(("alice", "example.com"), quotas);
    let none = Quotas::default();
    let cases: [(Quotas, Issue<'_>, Limit, &str); 5] = [
        (
            Quotas { connections: most(3), ..none },
            &accept,
            Limit::Connections,
            "there are 3 connections already (max_connections)",
        ),
        (
            Quotas { connections: most(3), ..none },
            &|quotas| census.dial(quotas),
            Limit::Connections,
            "there are 3 connections already (max_connections)",
        ),
        (
            Quotas { per_address: most(3), ..none },
            &accept,
            Limit::PerAddress,
            "there are 3 connections from this address already (max_connections_per_ip)",
        ),
        (
            Quotas { strangers: most(3), ..none },
            &accept,
            Limit::Strangers,
            "there are 3 connections without a session already (max_unauthenticated)",
        ),
        (
            Quotas { per_user: most(3), ..none },
            &grant,
            Limit::PerUser,
            "there are 3 sessions of this user already (max_sessions_per_user)",
        ),
    ];
    for (quotas, issue, limit, words) in cases {
        let mut held: Vec<Ticket> = (0..3).map(|_| issue(&quotas).unwrap()).collect();
        assert_eq!(refusal(issue(&quotas)), (limit, words.to_owned()));
        assert_eq!(refusal(issue(&quotas)).0, limit);
        // One ends, and one more is let in.
        held.pop();
        held.push(issue(&quotas).unwrap());
        assert_eq!(refusal(issue(&quotas)).0, limit);
        // Without limits there is no end.
        held.extend((0..100).map(|_| issue(&none).unwrap()));
        // A lower limit ends nothing, and lets nobody in before there are fewer.
        held.truncate(3);
        assert_eq!(refusal(issue(&quotas)).0, limit);
        drop(held);
        assert_eq!(*census.lock(), Table::default());
    }
}

#[test]
fn an_address_and_an_ipv6_network_are_one() {
    let census = Arc::<Census>::default();
    let quotas = Quotas { per_address: most(1), ..Quotas::default() };
    let _held = [
        census.accept(ip("192.0.2.1"), &quotas).unwrap(),
        census.accept(ip("192.0.2.2"), &quotas).unwrap(),
        census.accept(ip("2001:db8:1:2::1"), &quotas).unwrap(),
        census.accept(ip("2001:db8:1:3::1"), &quotas).unwrap(),
        // The relay dials whomever it is asked to.
        census.dial(&quotas).unwrap(),
    ];
    for again in ["192.0.2.1", "::ffff:192.0.2.2", "2001:db8:1:2:ffff::", "2001:db8:1:3:1:2:3:4"] {
        assert_eq!(refusal(census.accept(ip(again), &quotas)).0, Limit::PerAddress, "{again}");
    }
}

#[test]
fn who_has_a_session_is_no_stranger() {
    let census = Arc::<Census>::default();
    let quotas = Quotas { strangers: most(1), ..Quotas::default() };
    let mut known = census.accept(ip("192.0.2.1"), &quotas).unwrap();
    assert_eq!(census.connections(), (1, 1));
    assert_eq!(refusal(census.accept(ip("192.0.2.2"), &quotas)).0, Limit::Strangers);
    for _ in 0..2 {
        known.know();
        assert_eq!(census.connections(), (1, 0));
    }
    let stranger = census.accept(ip("192.0.2.2"), &quotas).unwrap();
    assert_eq!(census.connections(), (2, 1));
    drop(known);
    assert_eq!(census.connections(), (1, 1));
    drop(stranger);
    assert_eq!(*census.lock(), Table::default());
}

#[test]
fn spellings_of_one_user_are_one() {
    let census = Arc::<Census>::default();
    let quotas = Quotas { per_user: most(1), ..Quotas::default() };
    let _alice = census.grant(("alice", "example.com"), &quotas).unwrap();
    for (user, realm) in [
        ("alice", "example.com"),
        ("Alice", "EXAMPLE.com"),
        ("ALICE ", "example.com"),
        ("alice  ", "example.com "),
        ("alice@example.com", "example.com"),
        ("alice@example.com ", "example.com"),
    ] {
        let refused = refusal(census.grant((user, realm), &quotas));
        assert_eq!(refused.0, Limit::PerUser, "{user:?} {realm:?}");
    }
    let _others = [("alice", "example.org"), (" alice", "example.com"), ("alice2", "example.com")]
        .map(|who| census.grant(who, &quotas).unwrap());
    let _bücher = census.grant(("rené", "bücher.example"), &quotas).unwrap();
    assert!(census.grant(("RENÉ", "xn--bcher-kva.example"), &quotas).is_err());
}

/// The first limit that is reached refuses, and then nothing has been counted.
#[test]
fn what_is_refused_is_not_counted() {
    let census = Arc::<Census>::default();
    let quotas = Quotas { connections: most(1), per_address: most(1), ..Quotas::default() };
    let held = census.accept(ip("192.0.2.1"), &quotas).unwrap();
    for _ in 0..10 {
        assert_eq!(refusal(census.accept(ip("192.0.2.2"), &quotas)).0, Limit::Connections);
        assert_eq!(refusal(census.accept(ip("192.0.2.1"), &quotas)).0, Limit::PerAddress);
        assert_eq!(refusal(census.dial(&quotas)).0, Limit::Connections);
    }
    assert_eq!(census.connections(), (1, 1));
    drop(held);
    assert_eq!(*census.lock(), Table::default());
}

/// What happens to the connections and sessions of a relay.
#[derive(Debug, Clone)]
enum Event {
    Accept(u8),
    Dial,
    Grant(u8),
    Know(usize),
    End(usize),
    /// A task panics that owns this one.
    Panic(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u8..6).prop_map(Event::Accept),
        1 => Just(Event::Dial),
        2 => (0_u8..3).prop_map(Event::Grant),
        2 => any::<usize>().prop_map(Event::Know),
        3 => any::<usize>().prop_map(Event::End),
        1 => any::<usize>().prop_map(Event::Panic),
    ]
}

fn quotas() -> impl Strategy<Value = Quotas> {
    let limit = || (0_u32..8).prop_map(NonZeroU32::new);
    (limit(), limit(), limit(), limit()).prop_map(
        |(connections, per_address, strangers, per_user)| Quotas {
            connections,
            per_address,
            strangers,
            per_user,
        },
    )
}

/// The table as it must be while these tickets are held: counted anew.
fn recount(held: &[Ticket]) -> Table {
    let mut table = Table::default();
    for Ticket { share, .. } in held {
        match share {
            Share::Stranger(origin) | Share::Known(origin) => {
                *table.addresses.entry(*origin).or_default() += 1;
            }
            Share::Dialled => {}
            Share::Session(user) => *table.users.entry(user.clone()).or_default() += 1,
        }
    }
    let count = |wanted: fn(&Share) -> bool| held.iter().filter(|one| wanted(&one.share)).count();
    table.connections = count(|share| !matches!(share, Share::Session(_)));
    table.strangers = count(|share| matches!(share, Share::Stranger(_)));
    table
}

/// Whether one more would be beyond a limit.
fn is_full(table: &Table, share: &Share, quotas: &Quotas) -> bool {
    let reached = |most: Option<NonZeroU32>, now: usize| {
        most.is_some_and(|most| now >= usize::try_from(most.get()).unwrap())
    };
    match share {
        Share::Session(user) => {
            reached(quotas.per_user, table.users.get(user).copied().unwrap_or_default())
        }
        Share::Dialled => reached(quotas.connections, table.connections),
        Share::Stranger(origin) | Share::Known(origin) => {
            reached(quotas.connections, table.connections)
                || reached(quotas.strangers, table.strangers)
                || reached(
                    quotas.per_address,
                    table.addresses.get(origin).copied().unwrap_or_default(),
                )
        }
    }
}

proptest! {
    /// Whatever happens, and however often the limits change meanwhile: the table counts what there
    /// is, refuses exactly what is beyond a limit, and is empty in the end.
    #[test]
    fn the_counts_never_drift(
        phases in vec((quotas(), vec(event(), 0..40)), 1..5),
    ) {
        let census = Arc::<Census>::default();
        let mut held: Vec<Ticket> = Vec::new();
        for (quotas, events) in phases {
            for event in events {
                let before = recount(&held);
                let (share, issued) = match event {
                    Event::Accept(n) => {
                        let from = IpAddr::from([192, 0, 2, n]);
                        (Share::Stranger(from.into()), census.accept(from, &quotas))
                    }
                    Event::Dial => (Share::Dialled, census.dial(&quotas)),
                    Event::Grant(n) => {
                        let name = format!("user{n}");
                        let share = Share::Session(User::new(&name, "example.com"));
                        (share, census.grant((&name, "example.com"), &quotas))
                    }
                    Event::Know(n) => {
                        let n = n.checked_rem(held.len()).unwrap_or_default();
                        if let Some(ticket) = held.get_mut(n) {
                            ticket.know();
                        }
                        prop_assert_eq!(&*census.lock(), &recount(&held));
                        continue;
                    }
                    Event::End(n) | Event::Panic(n) => {
                        if !held.is_empty() {
                            let ticket = held.swap_remove(n % held.len());
                            if matches!(event, Event::Panic(_)) {
                                let task = std::thread::Builder::new().spawn(move || {
                                    let _ticket = ticket;
                                    std::panic::resume_unwind(Box::new(()));
                                });
                                prop_assert!(task.unwrap().join().is_err());
                            } else {
                                drop(ticket);
                            }
                        }
                        prop_assert_eq!(&*census.lock(), &recount(&held));
                        continue;
                    }
                };
                prop_assert_eq!(issued.is_err(), is_full(&before, &share, &quotas));
                held.extend(issued);
                prop_assert_eq!(&*census.lock(), &recount(&held));
            }
        }
        held.clear();
        prop_assert_eq!(&*census.lock(), &Table::default());
    }
}
