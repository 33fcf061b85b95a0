//! Reads the one name in a leaf certificate. Pure; what it reads may come from anybody.

use std::time::{Duration, SystemTime};

use figspan_proto::join::Pin;
use figspan_proto::name::{Role, SpiffeId};
use figspan_proto::permit::Permit;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{IdentityError, Roots, permit};

/// What a leaf certificate says about its holder. Whether to believe it is decided by the chain, not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The one name in it.
    pub id: SpiffeId,
    /// When it begins to be valid.
    pub not_before: SystemTime,
    /// When it ends to be valid.
    pub not_after: SystemTime,
    /// What the grant behind it allows, as far as the hub that signed it wrote that down. Agents' only.
    pub permit: Option<Permit>,
    /// The name of the CA that signed it, in DER.
    issuer: Vec<u8>,
}

impl Leaf {
    /// Reads a certificate in DER that must carry exactly one name, a figspan URI, and must not be a CA's.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| IdentityError::Certificate(error.to_string()))?;
        if !rest.is_empty() {
            return Err(IdentityError::Certificate(format!("{} bytes behind its end", rest.len())));
        }
        if certificate.is_ca() {
            return Err(IdentityError::IsCa);
        }
        let names = certificate.subject_alternative_name().map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let names = names.map_or(&[][..], |names| &names.value.general_names[..]);
        let id: SpiffeId = match names {
            [GeneralName::URI(uri)] => uri.parse()?,
            [_] => return Err(IdentityError::NotUri),
            names => return Err(IdentityError::Names(names.len())),
        };
        let permit = permit::read(&certificate)?;
        if permit.is_some() && matches!(id.role, Role::Hub(_)) {
            return Err(IdentityError::Permit("hubs have none".to_owned()));
        }
        let validity = certificate.validity();
        let (not_before, not_after) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        Ok(Self { id, not_before, not_after, permit, issuer: certificate.issuer().as_raw().to_vec() })
    }

    /// When a figspan CA signed it.
    pub fn issued(&self) -> SystemTime {
        crate::lifetime::issued_at(self.not_before, self.not_after)
    }

    /// The pin of the root that signed it; `None` when none of these did. Goes by names: only for leafs whose chain holds.
    pub fn root(&self, roots: &Roots) -> Option<Pin> {
        roots.named(&self.issuer)
    }
}

/// Times before 1970 make no sense in a certificate of ours; they read as 1970.
fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}
