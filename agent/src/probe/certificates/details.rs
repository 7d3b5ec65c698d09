//! What is reported of a certificate (RFC 5280).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use contracts::v1::CertificateDetails;
use prost_types::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::name::{common_name, format_name};

/// Names of algorithms of signatures, as OpenSSL has them.
const SIGNATURES: [(&str, &str); 21] = [
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "rsassaPss"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption"),
    ("1.2.840.10040.4.3", "dsaWithSHA1"),
    ("2.16.840.1.101.3.4.3.1", "dsa_with_SHA224"),
    ("2.16.840.1.101.3.4.3.2", "dsa_with_SHA256"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.3.101.112", "ED25519"),
    ("1.3.101.113", "ED448"),
    ("1.2.156.10197.1.501", "SM2-with-SM3"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
];

/// Names of keys without parameters.
const KEYS: [(&str, &str); 9] = [
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
];

/// Curves of elliptic keys (RFC 5480, RFC 5639, SEC 2).
const CURVES: [(&str, &str); 8] = [
    ("1.3.132.0.33", "P-224"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
];

/// Seconds of the years 1 to 9999, the times that the contracts allow.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// What people call it (its common name, else its first alternative name), and
/// the rest; `None` for what is no certificate.
pub(super) fn parse_certificate(
    path: &str,
    index: u32,
    der: &[u8],
) -> Option<(Option<String>, CertificateDetails)> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let own = &der[..der.len() - rest.len()];
    let (alternative_names, usages) = (alternative_names(&certificate), usages(&certificate));
    let signature = certificate.signature_algorithm.algorithm.to_id_string();
    let called = common_name(certificate.subject()).or_else(|| alternative_names.first().cloned());
    let details = CertificateDetails {
        path: path.to_owned(),
        index,
        subject: format_name(certificate.subject()),
        issuer: format_name(certificate.issuer()),
        serial: serial(certificate.raw_serial()),
        not_before_time: timestamp(certificate.validity().not_before),
        not_after_time: timestamp(certificate.validity().not_after),
        alternative_names,
        key: key(certificate.public_key()),
        signature_algorithm: named(&SIGNATURES, signature),
        fingerprint_sha256: hexadecimal(&Sha256::digest(own)),
        is_ca: certificate.is_ca(),
        usages,
    };
    Some((called, details))
}

fn named(names: &[(&str, &str)], oid: String) -> String {
    names.iter().find(|(known, _)| *known == oid).map_or(oid, |(_, name)| (*name).to_owned())
}

fn timestamp(time: ASN1Time) -> Option<Timestamp> {
    let seconds = time.timestamp();
    SECONDS.contains(&seconds).then_some(Timestamp { seconds, nanos: 0 })
}

/// As OpenSSL writes it, in small letters. A serial number should be positive
/// (RFC 5280, 4.1.2.2), but some are not.
fn serial(bytes: &[u8]) -> String {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude = bytes.to_vec();
    if negative {
        // Two's complement.
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (value, overflow) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (value, overflow);
        }
    }
    let significant =
        magnitude.iter().position(|&byte| byte != 0).unwrap_or(magnitude.len().saturating_sub(1));
    let digits = hexadecimal(&magnitude[significant..]);
    if negative { format!("-{digits}") } else { digits }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    let oid = info.algorithm.algorithm.to_id_string();
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", bits(rsa.modulus)),
        Ok(PublicKey::EC(_)) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            let curve = curve.map(|oid| named(&CURVES, oid.to_id_string()));
            format!("EC {}", curve.as_deref().unwrap_or("with its own parameters"))
        }
        _ => named(&KEYS, oid),
    }
}

fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|&byte| byte != 0).map_or(&[][..], |first| &number[first..]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let mut names: Vec<String> = extension.value.general_names.iter().filter_map(general_name).collect();
    names.sort();
    names.dedup();
    names
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    Some(match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => format!("IP:{}", Ipv4Addr::new(*a, *b, *c, *d)),
            bytes => format!("IP:{}", Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        },
        GeneralName::DirectoryName(name) => format!("DirName:{}", format_name(name)),
        GeneralName::RegisteredID(oid) => format!("RID:{}", oid.to_id_string()),
        GeneralName::OtherName(oid, _) => format!("othername:{}", oid.to_id_string()),
        GeneralName::X400Address(_) | GeneralName::EDIPartyName(_) | GeneralName::Invalid(..) => return None,
    })
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.extended_key_usage() else { return Vec::new() };
    let usage = extension.value;
    let known = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let mut usages: Vec<String> =
        known.iter().filter(|(is_given, _)| *is_given).map(|(_, name)| (*name).to_owned()).collect();
    usages.extend(usage.other.iter().map(Oid::to_id_string));
    usages.sort();
    usages.dedup();
    usages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_as_openssl_writes_them() {
        for (bytes, expected) in [
            (&[0x00, 0xff][..], "ff"),
            (&[0x0a, 0x1b], "0a1b"),
            (&[0], "00"),
            (&[], ""),
            (&[0xff], "-01"),
            (&[0x80, 0x00], "-8000"),
        ] {
            assert_eq!(serial(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn bits_are_counted_from_the_first_that_is_set() {
        for (number, expected) in [(&[][..], 0), (&[0], 0), (&[0, 0x80, 0], 16), (&[1, 0], 9)] {
            assert_eq!(bits(number), expected);
        }
    }
}
