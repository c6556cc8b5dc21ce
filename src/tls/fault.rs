//! The reasons for which a server and we make no TLS connection, each with a sentence for the operator.
//!
//! The sentences name settings, never a value of one. A library's own texts are not shown: they name the host.

use std::io;

use rustls::{AlertDescription, CertificateError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    UnknownIssuer,
    /// Not that of the file that a setting names, nor one of the system's.
    OtherIssuer,
    WrongName,
    Expired,
    NotValidYet,
    BadSignature,
    /// The server's certificate has another fault.
    Unusable,
    /// The server got no client certificate.
    ClientCertificateRequired,
    ClientCertificateRefused,
    /// The two sides did not agree on a connection, or one of them has no TLS.
    Handshake,
}

/// The words for a server in sentences.
pub struct ServerWords {
    pub server: &'static str,
    pub url: &'static str,
    pub ca: &'static str,
    /// The setting of the client certificate; `None` if there is none.
    pub client_certificate: Option<&'static str>,
}

impl TlsFault {
    pub const ALL: [TlsFault; 10] = [
        TlsFault::UnknownIssuer,
        TlsFault::OtherIssuer,
        TlsFault::WrongName,
        TlsFault::Expired,
        TlsFault::NotValidYet,
        TlsFault::BadSignature,
        TlsFault::Unusable,
        TlsFault::ClientCertificateRequired,
        TlsFault::ClientCertificateRefused,
        TlsFault::Handshake,
    ];

    /// `None`: the error is none of TLS.
    pub fn of(error: &io::Error) -> Option<TlsFault> {
        let cause = error.get_ref()?;
        match cause.downcast_ref::<Beside>() {
            Some(Beside(error)) => TlsFault::of(error).map(TlsFault::beside_file),
            None => cause.downcast_ref().map(of_rustls),
        }
    }

    fn beside_file(self) -> TlsFault {
        if self == TlsFault::UnknownIssuer { TlsFault::OtherIssuer } else { self }
    }

    /// The label of metrics, log lines and the status.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsFault::UnknownIssuer | TlsFault::OtherIssuer => "certificate_issuer",
            TlsFault::WrongName => "certificate_name",
            TlsFault::Expired => "certificate_expired",
            TlsFault::NotValidYet => "certificate_not_valid_yet",
            TlsFault::BadSignature => "certificate_signature",
            TlsFault::Unusable => "certificate_unusable",
            TlsFault::ClientCertificateRequired => "client_certificate_required",
            TlsFault::ClientCertificateRefused => "client_certificate_refused",
            TlsFault::Handshake => "tls",
        }
    }

    /// The fault and its remedy.
    pub fn sentence(self, words: &ServerWords) -> String {
        let ServerWords { server, url, ca, client_certificate } = words;
        match self {
            TlsFault::UnknownIssuer => {
                format!("the certificate of {server} has an unknown issuer: name the issuer's file in {ca}")
            }
            TlsFault::OtherIssuer => {
                format!(
                    "the certificate of {server} has an unknown issuer: {ca} names the file of another; correct it"
                )
            }
            TlsFault::WrongName => {
                format!(
                    "the certificate of {server} is for another host: correct the host in {url}, or the certificate"
                )
            }
            TlsFault::Expired => {
                format!("the certificate of {server} has expired: renew it, or correct the clock here")
            }
            TlsFault::NotValidYet => {
                format!(
                    "the certificate of {server} is not valid yet: correct the clock here, or the certificate"
                )
            }
            TlsFault::BadSignature => {
                format!(
                    "the certificate of {server} has a wrong signature: replace it, or its issuer's file in {ca}"
                )
            }
            TlsFault::Unusable => format!("the certificate of {server} cannot be used: replace it"),
            TlsFault::ClientCertificateRequired | TlsFault::ClientCertificateRefused
                if client_certificate.is_none() =>
            {
                format!(
                    "{server} requires a client certificate, for which there is no setting: let it require none"
                )
            }
            TlsFault::ClientCertificateRequired => {
                format!(
                    "{server} requires a client certificate: set {}",
                    client_certificate.unwrap_or_default()
                )
            }
            TlsFault::ClientCertificateRefused => {
                let setting = client_certificate.unwrap_or_default();
                format!(
                    "{server} refuses our client certificate: renew that of {setting}, or let {server} trust its issuer"
                )
            }
            TlsFault::Handshake => {
                format!("no TLS connection: the port in {url} must have TLS 1.2 or 1.3")
            }
        }
    }
}

/// The error of a connection that trusted the file of a setting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Beside(io::Error);

/// Marks the error of a connection that trusted the file of a setting. Its kind stays.
pub(super) fn beside_file(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Beside(error))
}

fn of_rustls(error: &rustls::Error) -> TlsFault {
    match error {
        rustls::Error::InvalidCertificate(fault) => of_certificate(fault),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        _ => TlsFault::Handshake,
    }
}

fn of_certificate(fault: &CertificateError) -> TlsFault {
    match fault {
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotValidYet,
        CertificateError::BadSignature => TlsFault::BadSignature,
        _ => TlsFault::Unusable,
    }
}

/// A server may refuse a certificate after our side of the handshake is over (RFC 8446 §4.4.2.4).
fn of_alert(alert: AlertDescription) -> TlsFault {
    match alert {
        AlertDescription::CertificateRequired => TlsFault::ClientCertificateRequired,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => TlsFault::ClientCertificateRefused,
        _ => TlsFault::Handshake,
    }
}
