//! Decimal digits of all scripts, as people paste them.

/// The zeros of the runs of ten digits in Unicode's category Nd. Each run is ascending and complete (Unicode §4.6).
const ZEROS: [u32; 76] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50,
    0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40,
    0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x10D40,
    0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x116D0, 0x116DA,
    0x11730, 0x118E0, 0x11950, 0x11BF0, 0x11C50, 0x11D50, 0x11DA0, 0x11F50, 0x16130, 0x16A60, 0x16AC0,
    0x16B50, 0x16D70, 0x1CCF0, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0,
    0x1E5F1, 0x1E950, 0x1FBF0,
];

/// The value of a decimal digit of any script; `None` for other characters.
pub fn decimal_digit(character: char) -> Option<u8> {
    if character.is_ascii() {
        return character.is_ascii_digit().then(|| character as u8 - b'0');
    }
    let point = u32::from(character);
    let zero = ZEROS[..ZEROS.partition_point(|&zero| zero <= point)].last()?;
    u8::try_from(point - zero).ok().filter(|&digit| digit <= 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_every_script_have_their_value() {
        for digits in
            ["0123456789", "٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९", "０１２３４５６７８９", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"]
        {
            let read: Option<Vec<u8>> = digits.chars().map(decimal_digit).collect();
            assert_eq!(read, Some((0..=9).collect()), "{digits}");
        }
        for other in ['a', '+', '/', ':', '²', '½', '①', '〇', '一', 'Ⅳ'] {
            assert_eq!(decimal_digit(other), None, "{other}");
        }
    }

    #[test]
    fn every_digit_of_the_table_is_numeric_and_the_table_is_sorted() {
        assert!(ZEROS.is_sorted());
        for zero in ZEROS {
            for digit in 0..10 {
                let character = char::from_u32(zero + digit).expect("a character");
                assert_eq!(decimal_digit(character).map(u32::from), Some(digit));
                assert!(character.is_numeric(), "{zero:x}");
            }
        }
    }
}
