//! Keys for the peers' mutual TLS: one CA, one certificate for each end.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// The name in both certificates.
pub const NAME: &str = "peer.bench";

/// Writes `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`, and `both.pem` (certificate and key) of each.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "figspan-bench CA");
    fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for (role, purpose) in [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, NAME);
        params.extended_key_usages = vec![purpose];
        let leaf = params.signed_by(&key, &issuer)?.pem();
        fs::write(folder.join(format!("{role}.pem")), &leaf)?;
        fs::write(folder.join(format!("{role}.key")), key.serialize_pem())?;
        fs::write(folder.join(format!("{role}-both.pem")), leaf + &key.serialize_pem())?;
    }
    Ok(())
}
