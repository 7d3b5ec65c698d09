//! Page tokens of ListLocalAssets: the place of the last asset, bound to the
//! kind that was asked for. Opaque to clients.

use crate::store::Place;

/// Form of the token; another form is another number.
const FORM: u8 = 1;

/// Token for the page after `place`.
pub(super) fn make(place: &Place, asked_kind: i32) -> String {
    let mut bytes = vec![FORM];
    bytes.extend(asked_kind.to_be_bytes());
    bytes.extend(place.0.to_be_bytes());
    bytes.extend(place.1.as_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Place in a token; `None` for the first page.
pub(super) fn parse(token: &str, asked_kind: i32) -> Result<Option<Place>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = unhex(token).ok_or("is not one that was given out")?;
    let (header, key) = bytes.split_at_checked(9).ok_or("is not one that was given out")?;
    let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[0] != FORM {
        return Err("is not one that was given out");
    }
    if number(1) != asked_kind {
        return Err("belongs to a list of another kind");
    }
    let key = std::str::from_utf8(key).map_err(|_| "is not one that was given out")?;
    Ok(Some((number(5), key.to_owned())))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_place_and_no_other_list() {
        let place = (5, "dpkg/größe:all".to_owned());
        let token = make(&place, 5);
        assert_eq!(parse(&token, 5), Ok(Some(place)));
        assert_eq!(parse("", 5), Ok(None));
        assert!(parse(&token, 4).is_err());
        for wrong in [
            "x",
            "zz",
            "01",
            "0",
            &token[..token.len() - 1],
            &format!("02{}", &token[2..]),
            "01000000050000000580",
        ] {
            assert!(parse(wrong, 5).is_err(), "{wrong}");
        }
    }
}
