//! A client of TLS that shows and trusts just what it is told.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::authority::Pair;
use crate::process::DEADLINE;

/// What a client shakes hands with.
pub(super) struct Hands<'a> {
    pub(super) trusts: &'a Path,
    pub(super) shows: Option<&'a Pair>,
    pub(super) protocols: &'a [&'a str],
    pub(super) versions: &'a [&'static SupportedProtocolVersion],
}

/// A connection inside TLS.
pub(super) struct Tls(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl<'a> Hands<'a> {
    /// Any version, no certificate, no protocol.
    pub(super) fn trusting(trusts: &'a Path) -> Hands<'a> {
        Hands { trusts, shows: None, protocols: &[], versions: rustls::ALL_VERSIONS }
    }

    pub(super) fn showing(trusts: &'a Path, pair: &'a Pair) -> Hands<'a> {
        Hands { shows: Some(pair), ..Hands::trusting(trusts) }
    }

    /// Shakes hands, and exchanges the first bytes: who is refused learns it with them.
    pub(super) fn shake(&self, address: SocketAddr) -> io::Result<Tls> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.trusts).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(self.versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap().map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let mut connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Tls(BufReader::new(StreamOwned::new(connection, socket))))
    }
}

impl Tls {
    /// Sends bytes.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stream = self.0.get_mut();
        stream.write_all(bytes.as_ref())?;
        stream.flush()
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends a line; the line that answers it.
    pub(super) fn ask(&mut self, line: &str) -> io::Result<String> {
        self.send(format!("{line}\r\n"))?;
        self.line()
    }

    pub(super) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut taken = vec![0; bytes];
        self.0.read_exact(&mut taken).unwrap();
        taken
    }

    /// Says that nothing more comes.
    pub(super) fn half_close(&mut self) {
        let stream = self.0.get_mut();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    }

    /// All that comes until the server says that nothing more does.
    pub(super) fn rest(&mut self) -> io::Result<String> {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest)?;
        Ok(rest)
    }

    /// What was agreed on.
    pub(super) fn protocol(&self) -> Option<String> {
        let protocol = self.0.get_ref().conn.alpn_protocol();
        protocol.map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }

    pub(super) fn version(&self) -> rustls::ProtocolVersion {
        self.0.get_ref().conn.protocol_version().unwrap()
    }

    /// The certificate that the server showed.
    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
