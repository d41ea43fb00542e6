//! Every way to log in, with a server that wants it, and what must never be seen of it.
// Each test program uses a part of this and would call the rest dead.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;

use nkeys::KeyPair;
use waypost::Auth;

/// One way.
pub struct Login {
    pub name: &'static str,
    /// What the server's configuration says.
    pub server: String,
    /// What stands in an address before the host.
    pub in_address: String,
    pub auth: Auth,
    pub secrets: Vec<String>,
}

/// A configuration that lets none of them in.
pub const NOBODY: &str = "authorization { user: somebody, password: else }";

/// All of them; the credentials file is made in this folder.
pub fn all(folder: &Path) -> Vec<Login> {
    let none = || (String::new(), Auth::default());
    let some = |text: &str| Some(text.to_owned());
    let login = |name, server: &str, (in_address, auth): (String, Auth), secrets: &[&str]| Login {
        name,
        server: server.to_owned(),
        in_address,
        auth,
        secrets: secrets.iter().map(|secret| (*secret).to_owned()).collect(),
    };
    let user_server = "authorization { user: bob, password: \"Swordfish-83\" }";
    let token_server = "authorization { token: \"Tok-4711-Tok\" }";
    let user = Auth { user: some("bob"), password: some("Swordfish-83"), ..Auth::default() };
    let (pair, jwt_pair) = (KeyPair::new_user(), KeyPair::new_user());
    let seed = |pair: &KeyPair| pair.seed().expect("a new pair has its seed");
    let nkey_server = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key());
    let nkey = Auth { nkey: Some(seed(&pair)), ..Auth::default() };
    let jwt = "eyJhbGciOiJlZDI1NTE5In0.eyJzZWNyZXQiOjF9.c2lnbmF0dXJl";
    let creds_file = folder.join("bob.creds");
    let creds = creds(jwt, &seed(&jwt_pair));
    std::fs::write(&creds_file, creds).expect("a file");
    let creds = Auth { creds_file: Some(creds_file), ..Auth::default() };
    let token = Auth { token: some("Tok-4711-Tok"), ..Auth::default() };
    vec![
        login("password", user_server, (String::new(), user), &["Swordfish-83"]),
        login("token", token_server, (String::new(), token), &["Tok-4711-Tok"]),
        login("nkey", &nkey_server, (String::new(), nkey), &[&seed(&pair)]),
        // A server without operators checks no signature: it lets everybody in, with a valid form.
        login("creds", "", (none().0, creds), &[&seed(&jwt_pair), jwt, "c2lnbmF0dXJl"]),
        login(
            "user in an address",
            user_server,
            ("bob:Swordfish%2D83@".to_owned(), none().1),
            &["Swordfish-83", "Swordfish%2D83", "Swordfish"],
        ),
        login(
            "token in an address",
            token_server,
            ("Tok-4711-Tok@".to_owned(), none().1),
            &["Tok-4711"],
        ),
    ]
}

/// A credentials file, as `nsc` makes them.
pub fn creds(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// That none of the secrets is in any of these texts.
#[track_caller]
pub fn assert_silent<'a>(secrets: &[String], texts: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    for (name, text) in texts {
        for secret in secrets {
            let found = text.windows(secret.len()).position(|part| part == secret.as_bytes());
            if let Some(at) = found {
                let around =
                    &text[at.saturating_sub(300)..(at + secret.len() + 60).min(text.len())];
                panic!("{secret} in {name}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// Names and contents of all files in a folder.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                std::fs::read(entry.path()).unwrap_or_default(),
            )
        })
        .collect()
}
