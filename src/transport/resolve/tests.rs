use std::{net::Ipv4Addr, sync::Mutex, thread};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::*;

/// A name server on the loopback interface. It answers from `zone`; names that are not there do not
/// exist, and those that begin with `slow` are never answered.
struct NameServer {
    address: SocketAddr,
    /// Each query with the port that it came from.
    heard: Arc<Mutex<Vec<(String, u16, u16)>>>,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl NameServer {
    fn with(zone: &'static [(&'static str, &'static [&'static str])]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let queries = Arc::clone(&heard);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let (name, kind, end) = question(&query[..length]);
                queries.lock().unwrap().push((name.clone(), kind, from.port()));
                if !name.starts_with("slow") {
                    let of_zone = zone.iter().find(|(other, _)| *other == name);
                    let answer = answer(&query[..end], kind, of_zone.map(|(_, found)| *found));
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Self { address, heard }
    }

    /// A resolver that asks it, with further lines of the two files.
    fn resolver(&self, resolv_conf: &str, hosts: &str, line: Line<String>) -> Resolver {
        let resolv_conf = format!("nameserver 127.0.0.1\n{resolv_conf}");
        let names = Names::parse(&resolv_conf, hosts, self.address.port());
        Resolver::new(System::new(names), line)
    }

    fn heard(&self) -> Vec<(String, u16, u16)> {
        self.heard.lock().unwrap().clone()
    }

    /// The names asked for, each once in a row.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.heard().into_iter().map(|(name, ..)| name).collect();
        names.dedup();
        names
    }

    async fn hears(&self, queries: usize) {
        while self.heard().len() < queries {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Name and type of the question, and where it ends.
fn question(query: &[u8]) -> (String, u16, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]), at + 5)
}

/// `found`: texts of addresses, and `ttl=N` before those that it is for; none is NXDOMAIN. `fail` is
/// SERVFAIL.
fn answer(query: &[u8], kind: u16, found: Option<&[&str]>) -> Vec<u8> {
    const SOA: &[u8] = &[
        0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0,
        0, 1, 0, 0, 0, 60,
    ];
    let code = match found {
        None => 3,
        Some(["fail"]) => 2,
        Some(_) => 0,
    };
    let mut ttl: u32 = 60;
    let mut records = Vec::new();
    for text in found.unwrap_or_default() {
        if let Some(seconds) = text.strip_prefix("ttl=") {
            ttl = seconds.parse().unwrap();
        }
        let octets = match (text.parse(), kind) {
            (Ok(IpAddr::V4(address)), A) => address.octets().to_vec(),
            (Ok(IpAddr::V6(address)), AAAA) => address.octets().to_vec(),
            _ => continue,
        };
        let mut record = vec![0xc0, 12];
        record.extend(kind.to_be_bytes());
        record.extend([0, 1]);
        record.extend(ttl.to_be_bytes());
        record.extend([0, u8::try_from(octets.len()).unwrap()]);
        record.extend(octets);
        records.push(record);
    }
    let mut message = query.to_vec();
    message[2] = 0x81;
    message[3] = 0x80 | code;
    message[7] = u8::try_from(records.len()).unwrap();
    message[9] = u8::from(records.is_empty() && code != 2);
    message[11] = 0;
    message.extend(records.concat());
    if message[9] == 1 {
        message.extend(SOA);
    }
    message
}

fn plenty() -> Line<String> {
    Line::new(MAX_LOOKUPS, MAX_LOOKUPS_PER_USER, usize::MAX)
}

fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(|address| address.ip().to_string()).collect()
}

async fn resolved(resolver: &Resolver, host: &str) -> Result<Vec<String>, String> {
    let found = resolver.addresses(host, 2855, "alice").await;
    found.map(|found| texts(&found)).map_err(|error| error.to_string())
}

#[tokio::test]
async fn literals_need_no_query() {
    let server = NameServer::with(&[]);
    let resolver = server.resolver("", "", plenty());
    for (host, expected) in [("192.0.2.7", "192.0.2.7:2855"), ("2001:db8::7", "[2001:db8::7]:2855")]
    {
        let found = resolver.addresses(host, 2855, "alice").await.unwrap();
        assert_eq!(found, [expected.parse().unwrap()]);
    }
    assert!(server.heard().is_empty());
}

#[tokio::test]
async fn this_machine_is_found() {
    let found = Resolver::of_system().addresses("localhost", 65535, "alice").await.unwrap();
    assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 65535), "{found:?}");
}

#[tokio::test]
async fn errors_name_the_host() {
    let server = NameServer::with(&[("broken.test", &["fail"]), ("mail.test", &[])]);
    let resolver = server.resolver("options attempts:1", "", plenty());
    let zero = resolver.addresses("192.0.2.7", 0, "alice").await.unwrap_err();
    assert_eq!(zero.to_string(), "port 0 of \"192.0.2.7\" cannot be dialled");
    for host in ["no such\r\nhost", "broken.test", "a..b"] {
        let unknown = resolved(&resolver, host).await.unwrap_err();
        let start = format!("host {host:?} cannot be resolved: ");
        assert!(unknown.starts_with(&start), "{unknown}");
    }
    for host in ["nobody.test", "mail.test", "127.1", "2130706433"] {
        let unknown = resolved(&resolver, host).await.unwrap_err();
        assert_eq!(unknown, format!("host {host:?} has no address"));
    }
}

#[tokio::test]
async fn both_families_are_asked_for() {
    let server = NameServer::with(&[
        ("both.test", &["127.0.0.1", "::1", "127.0.0.2"]),
        ("six.test", &["::1"]),
    ]);
    let resolver = server.resolver("", "", plenty());
    let mut both = resolved(&resolver, "Both.test").await.unwrap();
    // A machine without IPv6 has it last.
    both.sort_by_key(|text| text != "::1");
    assert_eq!(both, ["::1", "127.0.0.1", "127.0.0.2"]);
    assert_eq!(resolved(&resolver, "six.test.").await.unwrap(), ["::1"]);
}

#[test]
fn addresses_come_once_in_order_and_bounded() {
    let of = |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|ip| ip.parse().unwrap()).collect() };
    let any = |_| true;
    let repeated = of(&["2001:db8::1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]);
    let once = ["2001:db8::1", "192.0.2.2", "192.0.2.1"];
    assert_eq!(texts(&ordered(&repeated, 1, any)), once);
    let without_v6 = |address: SocketAddr| address.is_ipv4();
    let last = ["192.0.2.2", "192.0.2.1", "2001:db8::1"];
    assert_eq!(texts(&ordered(&repeated, 1, without_v6)), last);
    let many: Vec<IpAddr> = (1..=200).map(|n| Ipv4Addr::new(192, 0, 2, n).into()).collect();
    let first: Vec<String> = many[..MAX_ADDRESSES].iter().map(ToString::to_string).collect();
    assert_eq!(texts(&ordered(&many, 1, any)), first);
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_needs_no_query() {
    let server = NameServer::with(&[("peer.test", &["127.0.0.9"])]);
    let hosts = "127.0.0.2 Peer.test peer # a comment\nnonsense x\n127.0.0.3\tpeer.test\n";
    let resolver = server.resolver("search test", hosts, plenty());
    assert_eq!(resolved(&resolver, "peer.TEST").await.unwrap(), ["127.0.0.2", "127.0.0.3"]);
    assert_eq!(resolved(&resolver, "peer").await.unwrap(), ["127.0.0.2"]);
    assert!(server.heard().is_empty());
}

#[tokio::test]
async fn names_are_searched_for_as_resolv_conf_says() {
    let server = NameServer::with(&[("peer.two.test", &["127.0.0.1"]), ("a.b", &["127.0.0.2"])]);
    let conf = "search one.test two.test\noptions ndots:2";
    let resolver = server.resolver(conf, "", plenty());
    assert_eq!(resolved(&resolver, "peer").await.unwrap(), ["127.0.0.1"]);
    assert_eq!(server.names(), ["peer.one.test", "peer.two.test"]);
    // Fewer dots than ndots: as it is comes last; with a dot at the end, or enough dots, first.
    assert_eq!(resolved(&resolver, "a.b").await.unwrap(), ["127.0.0.2"]);
    assert_eq!(server.names()[2..], ["a.b.one.test", "a.b.two.test", "a.b"]);
    let resolver = server.resolver("search one.test\n", "", plenty());
    resolved(&resolver, "peer.").await.unwrap_err();
    assert_eq!(resolved(&resolver, "a.b").await.unwrap(), ["127.0.0.2"]);
    assert_eq!(server.names()[5..], ["peer", "a.b"]);
}

/// The second name server is asked if the first one is dead, fails, or refuses.
#[tokio::test]
async fn the_next_name_server_is_asked() {
    let first = NameServer::with(&[("broken.test", &["fail"])]);
    let port = first.address.port();
    // The same port on another address of the loopback interface.
    let second = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = second.recv_from(&mut query) {
            let (_, kind, end) = question(&query[..length]);
            let found: &[&str] = &["127.0.0.5"];
            second.send_to(&answer(&query[..end], kind, Some(found)), from).unwrap();
        }
    });
    let conf = "nameserver 127.0.0.2\noptions timeout:1 attempts:1";
    let resolver = first.resolver(conf, "", plenty());
    for host in ["broken.test", "slow.test"] {
        assert_eq!(resolved(&resolver, host).await.unwrap(), ["127.0.0.5"], "{host}");
    }
    // That there is no such name is an answer.
    resolved(&resolver, "nobody.test").await.unwrap_err();
}

#[tokio::test]
async fn answers_are_remembered_for_their_ttl() {
    let server = NameServer::with(&[
        ("peer.test", &["ttl=60", "127.0.0.1"]),
        ("never.test", &["ttl=0", "127.0.0.1"]),
        ("brief.test", &["ttl=1", "127.0.0.1"]),
        ("broken.test", &["fail"]),
    ]);
    let resolver = server.resolver("options attempts:1", "", plenty());
    let asked = async |host: &str| {
        let before = server.heard().len();
        let _ = resolved(&resolver, host).await;
        server.heard().len() > before
    };
    for host in ["peer.test", "PEER.test", "nobody.test", "nobody.test"] {
        let first = ["peer.test", "nobody.test"].contains(&host);
        let again = server.names().contains(&host.to_lowercase());
        assert_eq!(asked(host).await, first && !again, "{host}");
    }
    for host in ["never.test", "never.test", "broken.test", "broken.test", "brief.test"] {
        assert!(asked(host).await, "{host}");
    }
    assert!(!asked("brief.test").await);
    sleep(Duration::from_millis(1100)).await;
    assert!(asked("brief.test").await);
    assert!(!asked("peer.test").await);
    let system = resolver.system();
    let far = Answer { addresses: Vec::new(), ttl: Duration::MAX };
    system.remember("x", far);
    assert_eq!(system.answers.get("x").unwrap().ttl, NEGATIVE_TTL_MAX);
}

#[tokio::test]
async fn a_user_with_slow_names_waits_for_himself() {
    let server = NameServer::with(&[("fast.test", &["127.0.0.1"])]);
    let resolver = server.resolver("", "", Line::new(3, 2, usize::MAX));
    let hosts: Vec<String> = (0..9).map(|number| format!("slow{number}.test")).collect();
    let slow = hosts.iter().map(|host| resolver.addresses(host, 1, "alice"));
    let mut slow = Box::pin(join_all(slow));
    tokio::select! {
        found = &mut slow => panic!("{found:?}"),
        () = server.hears(4) => {}
    }
    assert_eq!(server.names().iter().collect::<std::collections::BTreeSet<_>>().len(), 2);
    // Another user's look-up is done at once, while alice's own one waits behind the others.
    let others = resolver.addresses("fast.test", 1, "bob");
    assert!(timeout(Duration::from_secs(2), others).await.unwrap().is_ok());
    let own = resolver.addresses("other.test", 1, "alice");
    assert!(timeout(Duration::from_millis(200), own).await.is_err());
    // What is remembered needs no turn.
    assert_eq!(resolved(&resolver, "fast.test").await.unwrap(), ["127.0.0.1"]);
    // Dropped: the next one has its turn.
    drop(slow);
    assert_eq!(resolved(&resolver, "nobody.test").await.unwrap_err(), NO_ADDRESS);
}

const NO_ADDRESS: &str = "host \"nobody.test\" has no address";

/// Whether something listens on that UDP port: the kernel refuses it otherwise.
fn is_open(port: u16) -> bool {
    let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    probe.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    probe.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    probe.send(&[]).unwrap();
    probe.recv(&mut [0; 1]).unwrap_err().kind() != io::ErrorKind::ConnectionRefused
}

#[tokio::test]
async fn a_dropped_look_up_ends_its_query() {
    let server = NameServer::with(&[]);
    let resolver = server.resolver("options timeout:30", "", plenty());
    let mut look_up = Box::pin(resolver.addresses("slow.test", 1, "alice"));
    tokio::select! {
        found = &mut look_up => panic!("{found:?}"),
        () = server.hears(2) => {}
    }
    let ports: Vec<u16> = server.heard().into_iter().map(|(.., port)| port).collect();
    assert!(ports.iter().all(|&port| is_open(port)), "{ports:?}");
    drop(look_up);
    let asked = server.heard().len();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.heard().len(), asked, "it is asked again");
    assert!(!ports.iter().any(|&port| is_open(port)), "{ports:?}");
}

#[tokio::test]
async fn missing_and_broken_files_are_no_fault() {
    // As resolv.conf(5) says: a name server on this machine.
    let server = NameServer::with(&[("peer.test", &["127.0.0.1"])]);
    for conf in ["", "nonsense\n", "search peer.example\nsearch \u{1}..\n"] {
        let names = Names::parse(conf, "", server.address.port());
        let resolver = Resolver::new(System::new(names), plenty());
        assert_eq!(resolved(&resolver, "peer.test").await.unwrap(), ["127.0.0.1"], "{conf:?}");
    }
}
