//! What a connection reads from files: certificates, our key, credentials. They are renewed while a node runs, so they are read again for
//! each try, and what is wrong with them then is the reason why there is no connection.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_nats::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use async_nats::rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use async_nats::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use async_nats::rustls::sign::CertifiedKey;
use async_nats::rustls::{
    self, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use async_nats::{Auth, AuthError};

use super::ConnectError;
use crate::config::Tls;
use crate::exposure::warn_of;

/// What was wrong with a file that can be done without for a while, at the last handshake that asked for it, and when that was.
#[derive(Debug, Clone, Default)]
pub(super) struct Problem(Arc<Mutex<Option<(Instant, String)>>>);

impl Problem {
    /// What a handshake since then has found. An older one says nothing of why a later try failed.
    pub(super) fn since(&self, begin: Option<Instant>) -> Option<String> {
        let problem = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, text) = problem.as_ref()?;
        begin.is_none_or(|begin| *at >= begin).then(|| text.clone())
    }

    pub(super) fn set(&self, text: Option<String>) {
        let problem = text.map(|text| (Instant::now(), text));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// The certificates and the key of the settings, as the files have them at each handshake.
#[derive(Debug)]
struct Files {
    tls: Tls,
    provider: Arc<CryptoProvider>,
    /// Our last pair that fitted: a renewal replaces one file after the other.
    pair: Mutex<Option<Arc<CertifiedKey>>>,
    problem: Problem,
}

/// Encryption with these settings. Their files are read now, so that what is wrong with them fails the start.
pub(super) fn encryption(tls: &Tls, problem: &Problem) -> Result<ClientConfig, ConnectError> {
    // Named, because a program with several providers linked in has no default one and the short form would panic.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let files = Arc::new(Files {
        tls: tls.clone(),
        provider: Arc::clone(&provider),
        pair: Mutex::new(None),
        problem: problem.clone(),
    });
    files.roots()?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls { reason: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&files) as Arc<dyn ServerCertVerifier>);
    let mut config = match files.renew_pair()? {
        Some(_) => {
            tls.client_key.iter().for_each(|path| warn_of("tls.client_key", path));
            builder.with_client_cert_resolver(files)
        }
        None => builder.with_no_client_auth(),
    };
    // A session that goes on shows no certificates, neither the server's nor ours.
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl Files {
    /// The system's certificates and ours: the client's own option would take ours instead, and one file only.
    fn roots(&self) -> Result<RootCertStore, ConnectError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for path in &self.tls.root_certificates {
            for certificate in certificates("tls.root_certificates", path)? {
                roots.add(certificate).map_err(|error| ConnectError::Pem {
                    field: "tls.root_certificates",
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            }
        }
        Ok(roots)
    }

    /// Our certificate and key; none where the settings name none.
    fn renew_pair(&self) -> Result<Option<Arc<CertifiedKey>>, ConnectError> {
        let Tls { client_certificate, client_key, .. } = &self.tls;
        let (Some(certificate), Some(key_file)) = (client_certificate, client_key) else {
            return Ok(None);
        };
        let chain = certificates("tls.client_certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| pem("tls.client_key", key_file, error))?;
        let pair = CertifiedKey::from_der(chain, key, &self.provider)
            .map_err(|error| ConnectError::ClientCertificate { reason: error.to_string() })?;
        let pair = Arc::new(pair);
        *self.pair.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pair));
        Ok(Some(pair))
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

/// As the client's own verifier, with the authorities that the files have now.
impl ServerCertVerifier for Files {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.roots().map_err(|error| Error::General(error.to_string()))?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| {
                Error::General(format!(
                    "no certificate can be checked: {error}: set tls.root_certificates"
                ))
            })?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl ResolvesClientCert for Files {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match self.renew_pair() {
            Ok(pair) => {
                self.problem.set(None);
                pair
            }
            Err(error) => {
                self.problem.set(Some(error.to_string()));
                self.pair.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Says who we are with the credentials file as it is now.
pub(super) fn sign(path: &Path, nonce: &[u8]) -> Result<Auth, AuthError> {
    let (jwt, seed) = credentials(path).map_err(AuthError::new)?;
    let mut auth = Auth::new();
    auth.signature = Some(seed.sign(nonce).map_err(AuthError::new)?);
    auth.jwt = Some(jwt);
    Ok(auth)
}

/// The JWT and the seed of a credentials file: the lines that have a line of dashes before and behind them.
pub(super) fn credentials(path: &Path) -> Result<(String, nkeys::KeyPair), ConnectError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConnectError::CredsUnreadable { path: path.to_owned(), source })?;
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_word = |line: &str| {
        line.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '='))
            && !line.starts_with("---")
    };
    let framed = lines.windows(3).filter(|three| {
        three[0].starts_with("---") && is_word(three[1]) && three[2].starts_with("---")
    });
    let words: Vec<_> = framed.map(|three| three[1]).collect();
    let invalid =
        |source: std::io::Error| ConnectError::CredsInvalid { path: path.to_owned(), source };
    let [jwt, seed, ..] = words[..] else {
        return Err(invalid(std::io::Error::other("it lacks one of them")));
    };
    let seed =
        nkeys::KeyPair::from_seed(seed).map_err(|error| invalid(std::io::Error::other(error)))?;
    Ok((jwt.to_owned(), seed))
}

fn certificates(
    field: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| pem(field, path, error))?;
    if found.is_empty() {
        let reason = "there is no certificate in it".to_owned();
        return Err(ConnectError::Pem { field, path: path.to_owned(), reason });
    }
    Ok(found)
}

fn pem(field: &'static str, path: &Path, error: rustls::pki_types::pem::Error) -> ConnectError {
    let mut reason = error.to_string();
    if let rustls::pki_types::pem::Error::Io(source) = error {
        reason.clear();
        write!(reason, "{source}").expect("writing to a string does not fail");
    }
    ConnectError::Pem { field, path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_holds_a_token_and_a_seed_between_lines_of_dashes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.creds");
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\na.b-c_d.e=\r\n------END NATS USER JWT------\r\n\r\n**** IMPORTANT ****\r\n\r\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\r\n"
        );
        std::fs::write(&path, &text).expect("a file");
        let (jwt, pair) = credentials(&path).expect("credentials");
        assert_eq!((jwt.as_str(), pair.seed().expect("a seed")), ("a.b-c_d.e=", seed.clone()));
        for broken in ["", "a.b.c", &text[..text.len() / 2], &text.replace(&seed, "SUnonsense")] {
            std::fs::write(&path, broken).expect("a file");
            let error = credentials(&path).map(|_| ()).expect_err("no credentials").to_string();
            assert!(error.contains("x.creds") && !error.contains("nonsense"), "{error}");
        }
    }
}
