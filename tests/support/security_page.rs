//! A server with the configuration that docs/security.md gives, as it stands there.
// Each test program uses a part of this and would call the rest dead.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;

use nkeys::KeyPair;
use tempfile::TempDir;
use waypost::{Auth, Tls};

use super::support::nats_server::NatsServer;

const PAGE: &str = include_str!("../../docs/security.md");
/// The page's users, and the variables in which its configuration expects their passwords and keys.
const USERS: [(&str, &str); 3] = [("x", "X"), ("y", "Y"), ("operator", "OPERATOR")];
const PASSWORDS: [&str; 3] = ["the-password-of-x", "wholly different", "the-operators-password"];
/// Of the third one.
const BCRYPT: &str = "$2a$04$sXiaXj7Dh0wlVrOdFWPjde3qDQXq0StuWTOEMJimOnFqrSXpaqUdK";

/// The code block of the page that is of this kind.
pub fn block(kind: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n```{kind}\n")).expect("a block of this kind");
    rest.split_once("\n```").expect("its end").0
}

/// How users log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Passwords,
    Nkeys,
}

/// The server, encrypted, and what its users need.
pub struct Guarded {
    pub server: NatsServer,
    /// Holds the certificates.
    pub folder: TempDir,
    logins: [Auth; 3],
}

impl Guarded {
    pub fn start(way: Way) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, pem) in [
            ("server.pem", include_str!("tls/server.pem")),
            ("server-key.pem", include_str!("tls/server-key.pem")),
            ("ca.pem", include_str!("tls/ca.pem")),
        ] {
            std::fs::write(folder.path().join(name), pem).expect("a file");
        }
        let pairs = USERS.map(|_| KeyPair::new_user());
        let (users, variables, logins) = match way {
            Way::Passwords => {
                let given =
                    [PASSWORDS[0].to_owned(), format!("\"{}\"", PASSWORDS[1]), BCRYPT.to_owned()];
                ("nats-passwords", variables("PASSWORD", given), [0, 1, 2].map(password))
            }
            Way::Nkeys => {
                let given = pairs.each_ref().map(KeyPair::public_key);
                ("nats-nkeys", variables("NKEY", given), pairs.each_ref().map(seed))
            }
        };
        let text = [block("nats-permissions"), block(users), &tls_block(folder.path())].join("\n");
        let server = NatsServer::with_config_and_variables(text, variables);
        Self { server, folder, logins }
    }

    /// What this user logs in with.
    pub fn auth(&self, user: &str) -> Auth {
        let index = USERS.iter().position(|(name, _)| *name == user).expect("a user of the page");
        self.logins[index].clone()
    }

    /// Encryption, with the authority that signed the server's certificate.
    pub fn tls(&self) -> Tls {
        let root_certificates = vec![self.folder.path().join("ca.pem")];
        Tls { required: true, root_certificates, ..Tls::default() }
    }
}

/// The page's, with the certificates where they are here.
fn tls_block(folder: &Path) -> String {
    let folder = folder.to_str().expect("text");
    block("nats-tls").replace("/etc/nats", folder)
}

fn variables(kind: &str, values: [String; 3]) -> Vec<(String, String)> {
    USERS.iter().zip(values).map(|((_, name), value)| (format!("{name}_{kind}"), value)).collect()
}

fn password(index: usize) -> Auth {
    let (user, password) = (Some(USERS[index].0.to_owned()), Some(PASSWORDS[index].to_owned()));
    Auth { user, password, ..Auth::default() }
}

fn seed(pair: &KeyPair) -> Auth {
    Auth { nkey: Some(pair.seed().expect("a new pair has its seed")), ..Auth::default() }
}
