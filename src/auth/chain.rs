//! Several backends as one.

use std::{net::IpAddr, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};

use super::{
    backend::{Account, Backend, Health},
    error::AuthError,
};

/// Backends that are asked in order.
///
/// The next one is asked only if a backend does not know the user. If a backend is down, the next
/// one may have another user of the same name, so it is not asked.
pub struct Chain {
    backends: Vec<Arc<dyn Backend>>,
}

impl Chain {
    /// A chain of `backends`. An empty chain knows no user.
    pub fn new(backends: Vec<Arc<dyn Backend>>) -> Self {
        Self { backends }
    }

    async fn ask(&self, user: &str, realm: &str, client: IpAddr) -> Result<Account, AuthError> {
        for backend in &self.backends {
            match backend.account(user, realm, client).await {
                Err(AuthError::UnknownUser) => {}
                answer => return answer,
            }
        }
        Err(AuthError::UnknownUser)
    }
}

impl Backend for Chain {
    fn account<'a>(
        &'a self,
        user: &'a str,
        realm: &'a str,
        client: IpAddr,
    ) -> BoxFuture<'a, Result<Account, AuthError>> {
        Box::pin(self.ask(user, realm, client))
    }

    fn probe(&self) -> BoxFuture<'_, ()> {
        // All at once: one that hangs must not keep the others from being asked.
        let probes = self.backends.iter().map(|backend| backend.probe());
        Box::pin(join_all(probes).map(drop))
    }

    fn health(&self) -> Vec<Health> {
        self.backends.iter().flat_map(|backend| backend.health()).collect()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::{ExposeSecret, SecretString};

    use super::*;
    use crate::{
        auth::{Credential, HealthState},
        clock,
    };

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Gives the same answer to everybody, and says of its health what it was made with.
    struct Fixed(Result<Credential, AuthError>, Vec<Health>);

    impl Backend for Fixed {
        fn account<'a>(
            &'a self,
            _user: &'a str,
            _realm: &'a str,
            _client: IpAddr,
        ) -> BoxFuture<'a, Result<Account, AuthError>> {
            Box::pin(std::future::ready(self.0.clone().map(Account::from)))
        }

        fn health(&self) -> Vec<Health> {
            self.1.clone()
        }
    }

    #[test]
    fn the_health_of_each_has_its_name() {
        let answers = HealthState::Answers { last: clock::now() };
        let health = |name, state| Health { name, place: String::new(), option: "uri", state };
        let states = [
            vec![health("first", HealthState::Unasked)],
            vec![],
            vec![health("second", answers.clone())],
        ];
        let fixed = |health| Arc::new(Fixed(Err(AuthError::UnknownUser), health)) as _;
        let chain = Chain::new(states.map(fixed).into());
        let health: Vec<_> = chain.health().into_iter().map(|one| (one.name, one.state)).collect();
        assert_eq!(health, [("first", HealthState::Unasked), ("second", answers)]);
    }

    #[tokio::test]
    async fn only_an_unknown_user_falls_through() {
        let unknown = || Err(AuthError::UnknownUser);
        let down = || Err(AuthError::BackendUnavailable("refused".to_owned()));
        let knows = |password| Ok(Credential::Password(SecretString::from(password)));
        for (answers, expected) in [
            (vec![], Err("unknown user")),
            (vec![unknown(), unknown()], Err("unknown user")),
            (vec![unknown(), knows("2"), knows("3")], Ok("2")),
            (vec![knows("1"), down()], Ok("1")),
            (vec![unknown(), down(), knows("3")], Err("backend unavailable: refused")),
            (vec![down(), unknown()], Err("backend unavailable: refused")),
        ] {
            let chain =
                Chain::new(answers.into_iter().map(|a| Arc::new(Fixed(a, vec![])) as _).collect());
            let answer = match chain.account("alice", "example.com", CLIENT).await {
                Ok(account) => match &account.credentials[..] {
                    [Credential::Password(password)] => Ok(password.expose_secret().to_owned()),
                    _ => panic!("no backend here has such: {account:?}"),
                },
                Err(error) => Err(error.to_string()),
            };
            assert_eq!(answer.as_deref().map_err(String::as_str), expected);
        }
    }
}
