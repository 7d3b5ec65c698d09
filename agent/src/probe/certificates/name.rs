//! Distinguished names as text (RFC 4514), as `openssl x509 -nameopt RFC2253`
//! prints them.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::X509Name;

/// Short names of attributes: those of RFC 4514, then those that OpenSSL knows.
const ATTRIBUTES: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "street"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.97", "organizationIdentifier"),
];

/// The name as one line, its last part first.
pub(super) fn format_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let mut attributes: Vec<String> = rdn
                .iter()
                .map(|attribute| {
                    let oid = attribute.attr_type().to_id_string();
                    let short = ATTRIBUTES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
                    match (short, text_of(attribute.attr_value())) {
                        (Some(short), Some(text)) => format!("{short}={}", escape(&text)),
                        // RFC 4514, 2.4: what has no text is shown as its bytes.
                        (short, _) => {
                            format!("{}={}", short.unwrap_or(&oid), hexadecimal(attribute.attr_value()))
                        }
                    }
                })
                .collect();
            attributes.reverse();
            attributes.join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// The common name of highest rank, as plain text.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().last().and_then(|attribute| text_of(attribute.attr_value()))
}

fn text_of(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        // Latin 1 in practice (OpenSSL reads it so).
        Tag::T61String => Some(bytes.iter().map(|&byte| char::from(byte)).collect()),
        Tag::BmpString => {
            let units = bytes.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            Some(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        Tag::UniversalString => {
            let code = |unit: &[u8]| u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]]);
            let character = |unit| char::from_u32(code(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
            Some(bytes.chunks_exact(4).map(character).collect())
        }
        _ => None,
    }
}

/// RFC 4514, 2.4.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (place, character) in text.chars().enumerate() {
        let special = ",+\"\\<>;".contains(character)
            || (place == 0 && "# ".contains(character))
            || (place == last && character == ' ');
        if special {
            escaped.push('\\');
        }
        if character.is_control() {
            // OpenSSL writes these so; they would be lost otherwise.
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                let _ = write!(escaped, "\\{byte:02X}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// `#` and the whole DER of the value.
fn hexadecimal(value: &Any<'_>) -> String {
    let mut der = vec![u8::try_from(value.tag().0).unwrap_or(0x1f) & 0x1f];
    if value.header.is_constructed() {
        der[0] |= 0x20;
    }
    match value.data.len() {
        short @ 0..0x80 => der.push(u8::try_from(short).unwrap_or(0)),
        long => {
            let bytes: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
            der.push(0x80 | u8::try_from(bytes.len()).unwrap_or(0));
            der.extend(bytes);
        }
    }
    der.extend_from_slice(value.data);
    let mut text = String::from("#");
    for byte in der {
        let _ = write!(text, "{byte:02X}");
    }
    text
}
