//! Money as people read it: `29.50 EUR`, `2950 JPY`.

/// `minor` counts the currency's minor unit: cents for EUR, but whole yen for JPY, which has none.
pub(crate) fn format(minor: u64, currency: &str) -> String {
    // By hand: three of them for each order, and `format!` would take a tenth of the order's time.
    let mut text = minor.to_string();
    let decimals = decimals(currency);
    if decimals > 0 {
        let missing = (decimals + 1).saturating_sub(text.len());
        text.insert_str(0, &"0000"[..missing]);
        text.insert(text.len() - decimals, '.');
    }
    text.push(' ');
    text.push_str(currency);
    text
}

/// The exponents of ISO 4217 that are not 2.
fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn cents_become_two_decimals() {
        assert_eq!(format(2950, "EUR"), "29.50 EUR");
        assert_eq!(format(5, "USD"), "0.05 USD");
        assert_eq!(format(0, "EUR"), "0.00 EUR");
        assert_eq!(format(super::super::GREATEST_CENTS, "EUR"), "90071992547409.91 EUR");
    }

    #[test]
    fn a_currency_has_the_decimals_of_iso_4217() {
        assert_eq!(format(2950, "JPY"), "2950 JPY");
        assert_eq!(format(2950, "KWD"), "2.950 KWD");
        assert_eq!(format(7, "KWD"), "0.007 KWD");
        assert_eq!(format(7, "CLF"), "0.0007 CLF");
        assert_eq!(format(2950, "CLF"), "0.2950 CLF");
    }
}
