//! A throw-away CA for local use.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{fault::TlsError, identity::Identity, roots::Roots};
use crate::net::os::create_private;

/// Makes a CA that lives as long as this process, for programs and tests on one machine.
///
/// Its key is never written anywhere. Do not use it for anything that others reach.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// # struct Hello;
/// # impl rpc_runtime::server::Service for Hello {
/// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
/// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
/// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
/// # }
/// use rpc_runtime::{Client, Server, tls::{self, ClientTls, ServerTls}};
///
/// let ca = tls::dev()?;
/// let server = Server::builder()
///     .service(Hello)
///     .listener("tls://localhost:0")
///     .tls(ServerTls::builder(ca.server()?).build()?)
///     .bind()
///     .await?;
/// let address = server.addresses()[0].clone();
/// let serving = tokio::spawn(server.serve());
///
/// let tls = ClientTls::builder().roots(ca.roots()).build()?;
/// let client: Client = Client::builder(address).tls(tls).connect().await?;
/// # drop(client);
/// # serving.abort();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// No random numbers.
pub fn dev() -> Result<DevCa, TlsError> {
    let mut params = CertificateParams::default();
    // Each has a name of its own: TLS looks for the CA of a certificate by its name, and would take another one of the same name for it.
    let name = format!("throw-away CA {:016x} for development", fastrand::u64(..));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(failed)?;
    let pem = pem("CERTIFICATE", params.self_signed(&key).map_err(failed)?.der());
    Ok(DevCa {
        pem,
        issuer: Issuer::new(params, key),
    })
}

/// A throw-away CA for local use; [`dev`] makes one.
#[derive(Debug)]
pub struct DevCa {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl DevCa {
    /// Returns the CA, for those who trust it.
    pub fn roots(&self) -> Roots {
        Roots::pem(&self.pem)
    }

    /// Makes the certificate of a server on this machine: for `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    ///
    /// No random numbers.
    pub fn server(&self) -> Result<Identity, TlsError> {
        self.server_at(&["localhost", "127.0.0.1", "::1"])
    }

    /// Makes the certificate of a server at other names or IP addresses.
    ///
    /// # Errors
    ///
    /// A name is not of ASCII; no random numbers.
    pub fn server_at(&self, names: &[&str]) -> Result<Identity, TlsError> {
        let (chain, key) = self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, "server")?;
        Ok(Identity::pem(chain, key))
    }

    /// Makes the certificate of a client that is called `name`.
    ///
    /// # Errors
    ///
    /// The name is not of ASCII; no random numbers.
    pub fn client(&self, name: &str) -> Result<Identity, TlsError> {
        let (chain, key) = self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, name)?;
        Ok(Identity::pem(chain, key))
    }

    /// Writes `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key` to a folder, for several programs on this
    /// machine.
    ///
    /// Only this user can read the keys. Existing files are replaced.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write_to(&self, folder: impl AsRef<Path>) -> Result<(), TlsError> {
        let folder = folder.as_ref();
        let server = self.sign(
            &["localhost", "127.0.0.1", "::1"],
            ExtendedKeyUsagePurpose::ServerAuth,
            "server",
        )?;
        let client = self.sign(&["client"], ExtendedKeyUsagePurpose::ClientAuth, "client")?;
        for (name, text) in [
            ("ca.pem", &self.pem),
            ("server.pem", &server.0),
            ("server.key", &server.1),
            ("client.pem", &client.0),
            ("client.key", &client.1),
        ] {
            let path = folder.join(name);
            write_private(&path, text).map_err(|error| {
                TlsError::configuration(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    /// Signs a certificate; returns its chain and its key in PEM.
    fn sign(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        subject: &str,
    ) -> Result<(String, String), TlsError> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((
            pem("CERTIFICATE", certificate.der()),
            pem("PRIVATE KEY", key.serialized_der()),
        ))
    }
}

/// Writes DER as PEM.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // A line of 64 characters has 48 bytes.
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// Writes a file that only this user can read, even if it was there with another mode.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_private(path)?;
    file.write_all(text.as_bytes())
}

fn failed(error: rcgen::Error) -> TlsError {
    TlsError::configuration(format!("cannot make a certificate: {error}"))
}
