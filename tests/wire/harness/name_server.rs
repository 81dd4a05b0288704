//! A name server of a test, and a relay that asks it.

use std::{
    collections::HashMap,
    io::Write as _,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use super::{Relay, Scene};

/// A name server on an address of the loopback interface. It does not answer for names that begin
/// with `slow`, and denies those that it does not know.
pub(crate) struct NameServer {
    pub(crate) address: Ipv4Addr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// It knows names that all stand for 127.0.0.1, and that may be remembered for an hour.
    pub(crate) fn knowing(names: &'static [&'static str]) -> Self {
        Self::answering(3600, |name, _| names.contains(&name).then_some(Ipv4Addr::LOCALHOST))
    }

    /// Its answers are those of `find`, which is told how often that name was asked for before. They
    /// may be remembered for so many seconds.
    pub(crate) fn answering(
        ttl: u32,
        find: impl Fn(&str, usize) -> Option<Ipv4Addr> + Send + 'static,
    ) -> Self {
        let (socket, address) = (1..=254)
            .map(|number| Ipv4Addr::new(127, 53, 53, number))
            .find_map(|address| Some((UdpSocket::bind((address, 53)).ok()?, address)))
            .expect("port 53 of a loopback address");
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let queries = Arc::clone(&heard);
        thread::spawn(move || {
            let mut query = [0; 512];
            let mut asked: HashMap<String, usize> = HashMap::new();
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let question = Question::read(&query[..length]);
                let times = asked.entry(question.name.clone()).or_default();
                let found = find(&question.name, *times);
                *times += usize::from(question.ipv4);
                let silent = question.name.starts_with("slow");
                let answer = question.answer(found, ttl);
                queries.lock().expect("a list").push(question.name);
                if !silent {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, heard }
    }

    /// Whether it was asked for that name.
    pub(crate) fn heard(&self, name: &str) -> bool {
        self.heard.lock().expect("a list").iter().any(|other| other == name)
    }

    pub(crate) fn forget(&self) {
        self.heard.lock().expect("a list").clear();
    }

    /// A relay that asks this name server. Look-ups that are not answered take as long as a dial may.
    pub(crate) fn scene(&self, options: &str) -> Scene {
        let resolv_conf = format!("nameserver {}\noptions timeout:25 attempts:1\n", self.address);
        Scene::on(Arc::new(Relay::among(&resolv_conf, options)))
    }
}

struct Question<'a> {
    octets: &'a [u8],
    name: String,
    ipv4: bool,
}

impl<'a> Question<'a> {
    fn read(query: &'a [u8]) -> Self {
        let mut labels = Vec::new();
        let mut at = 12;
        while query[at] != 0 {
            let end = at + 1 + usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
            at = end;
        }
        Self { octets: &query[..at + 5], name: labels.join("."), ipv4: query[at + 2] == 1 }
    }

    fn answer(&self, found: Option<Ipv4Addr>, ttl: u32) -> Vec<u8> {
        let mut message = self.octets.to_vec();
        // RFC 1035 §4.1.1: a response, NOERROR or NXDOMAIN, one record.
        (message[2], message[3]) = (0x81, if found.is_some() { 0x80 } else { 0x83 });
        message[6..12].fill(0);
        if let Some(address) = found.filter(|_| self.ipv4) {
            message[7] = 1;
            message.extend([0xc0, 12, 0, 1, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 4]);
            message.extend(address.octets());
        } else {
            // An SOA, by which the denial may be remembered.
            message[9] = 1;
            message.extend([0xc0, 12, 0, 6, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 22, 0, 0]);
            message.extend(ttl.to_be_bytes().repeat(5));
        }
        message
    }
}

/// Says why a test is passed over where there are no namespaces.
pub(crate) fn can_isolate() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).status();
    let works = tried.is_ok_and(|status| status.success());
    if !works {
        let _ = writeln!(
            std::io::stderr(),
            "no mount namespaces: a name server of the test's own is not tried"
        );
    }
    works
}
