//! What may go into a mail header. A line break there would let an order write headers of its own, such as
//! a `Bcc:` to strangers; a comma in an address would add recipients.

/// The longest address that SMTP carries (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const LONGEST_ADDRESS: usize = 254;

/// Control characters have no place in a header; the two that end a line are among them.
pub(crate) fn check_header(value: &str) -> Result<(), &'static str> {
    match value.contains(char::is_control) {
        true => Err("has a line break or another control character, which a mail header must not have"),
        false => Ok(()),
    }
}

/// One bare address. Whether it exists is for the mail server to say; this only keeps out what could be
/// read as something else than one recipient.
pub(crate) fn check_recipient(address: &str) -> Result<(), &'static str> {
    check_header(address)?;
    if address.len() > LONGEST_ADDRESS {
        return Err("is longer than an e-mail address can be");
    }
    let is_special = |c: char| c.is_whitespace() || r#"()<>[]:;,\""#.contains(c);
    match address.split_once('@') {
        Some((local, domain))
            if !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && !address.contains(is_special) =>
        {
            Ok(())
        }
        Some(_) | None => Err("is not an e-mail address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_pass() {
        for address in ["a@b", "ada.park+pizza@example.com", "o'hara@example.org", "jörg@bücher.example"] {
            assert_eq!(check_recipient(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_not_one_address_is_refused() {
        for address in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "a@b@c",
            "a@b,c@d",
            "a@b;c@d",
            "Ada <ada@example.com>",
            "\"a b\"@example.com",
            "a@[127.0.0.1]",
            "a b@example.com",
            "a\u{2028}b@example.com",
        ] {
            assert!(check_recipient(address).is_err(), "{address:?}");
        }
        assert!(check_recipient(&format!("{}@example.com", "a".repeat(254))).is_err());
    }

    #[test]
    fn line_breaks_and_control_characters_are_refused_anywhere() {
        for c in ['\r', '\n', '\0', '\t', '\u{7f}', '\u{85}'] {
            for address in [format!("a@b.example{c}"), format!("{c}a@b.example"), format!("a@b{c}Bcc: x@y")] {
                assert!(check_header(&address).is_err(), "{address:?}");
                assert!(check_recipient(&address).is_err(), "{address:?}");
            }
        }
    }
}
