//! Finds the certificates in a file: PEM (RFC 7468), DER, kubeconfig.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Most certificates of one file.
const MAX_BLOCKS: usize = 512;

/// "TRUSTED" is OpenSSL's, with its own data after the certificate.
const LABELS: [&[u8]; 3] = [b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"];

/// A certificate in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// `None` when its base64 is damaged or its end is missing.
    pub(super) der: Option<Vec<u8>>,
}

/// The certificates of a PEM or DER file, in their order. Blocks of other kinds,
/// private keys among them, are passed over as they stand.
pub(super) fn pem_certificates(text: &[u8]) -> Vec<Block> {
    // A SEQUENCE, as DER begins; no text does.
    if text.starts_with(&[0x30]) && text.get(1).is_some_and(|length| length & 0x80 != 0) {
        return vec![Block { der: Some(text.to_vec()) }];
    }
    let mut blocks = Vec::new();
    let mut body: Option<Vec<u8>> = None;
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if let Some(label) = border(line, b"-----BEGIN ") {
            body = LABELS.contains(&label).then(Vec::new);
        } else if border(line, b"-----END ").is_some() {
            if let Some(body) = body.take() {
                blocks.push(Block { der: STANDARD.decode(body).ok() });
                if blocks.len() == MAX_BLOCKS {
                    break;
                }
            }
        } else if let Some(body) = &mut body {
            body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }
    // A file that is just being written.
    if body.is_some() && blocks.len() < MAX_BLOCKS {
        blocks.push(Block { der: None });
    }
    blocks
}

/// Label in `-----BEGIN LABEL-----`.
fn border<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(b"-----")
}

/// The certificates in `client-certificate-data` of a kubeconfig; the key and
/// the token beside it are not decoded.
pub(super) fn kubeconfig_certificates(text: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii_start();
        // The first field of a list's element has a dash before it.
        let line = line.strip_prefix(b"- ").unwrap_or(line);
        let Some(value) = line.strip_prefix(b"client-certificate-data:") else { continue };
        let value: Vec<u8> = value
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace() && !b"\"'".contains(byte))
            .collect();
        match STANDARD.decode(value) {
            Ok(pem) => blocks.extend(pem_certificates(&pem)),
            Err(_) => blocks.push(Block { der: None }),
        }
        if blocks.len() >= MAX_BLOCKS {
            break;
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ders(text: &[u8]) -> Vec<Option<Vec<u8>>> {
        pem_certificates(text).into_iter().map(|block| block.der).collect()
    }

    #[test]
    fn only_certificates_are_decoded() {
        let text = b"subject=x\n-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\r\n\
            -----BEGIN CERTIFICATE-----\r\nYWJj\r\nZGVm\r\n-----END CERTIFICATE-----\r\n\
            -----BEGIN EC PARAMETERS-----\nYWJj\n-----END EC PARAMETERS-----\n\
            -----BEGIN TRUSTED CERTIFICATE-----\n!\n-----END TRUSTED CERTIFICATE-----\n\
            -----BEGIN CERTIFICATE-----\nYWJj\n";
        assert_eq!(ders(text), [Some(b"abcdef".to_vec()), None, None]);
        assert_eq!(ders(b"0\x82\x01\x02rest"), [Some(b"0\x82\x01\x02rest".to_vec())]);
        for nothing in
            [&b""[..], b"0", b"0text", b"-----BEGIN -----\n-----END -----", b"-----END CERTIFICATE-----"]
        {
            assert!(ders(nothing).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn a_kubeconfig_shows_its_certificate_alone() {
        let pem = STANDARD.encode("-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n");
        let text = format!(
            "users:\n- name: x\n  user:\n    client-certificate-data: {pem}\n    client-key-data: {pem}\n\
             - client-certificate-data: \"{pem}\"\n  certificate-authority-data: {pem}\n    token: {pem}\n\
             client-certificate-data: ###\n"
        );
        let found = kubeconfig_certificates(text.as_bytes());
        let der = || Block { der: Some(b"abc".to_vec()) };
        assert_eq!(found, [der(), der(), Block { der: None }]);
    }
}
