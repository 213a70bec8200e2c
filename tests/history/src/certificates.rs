//! Certificates: those of the servers and clients of a course, in a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rpc_runtime::tls::{self, ClientTls, Identity, Roots, ServerTls};

/// The certificates of a course: both sides prove who they are.
#[derive(Clone, Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// Makes them, and writes them to `folder`.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let ca = tls::dev().map_err(io::Error::other)?;
        ca.write_to(&folder).map_err(io::Error::other)?;
        Ok(Self(folder))
    }

    /// Takes those that are in `folder`.
    pub fn of(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Configures a server.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub fn server(&self) -> io::Result<ServerTls> {
        let tls = ServerTls::builder(self.identity("server")).client_roots(self.roots());
        tls.build().map_err(io::Error::other)
    }

    /// Configures a client.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub fn client(&self) -> io::Result<ClientTls> {
        let tls = ClientTls::builder()
            .roots(self.roots())
            .identity(self.identity("client"));
        tls.build().map_err(io::Error::other)
    }

    fn identity(&self, name: &str) -> Identity {
        let path = |ending: &str| self.0.join(format!("{name}.{ending}"));
        Identity::pem_files(path("pem"), path("key"))
    }

    fn roots(&self) -> Roots {
        Roots::pem_file(self.0.join("ca.pem"))
    }
}
