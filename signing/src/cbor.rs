//! Deterministic CBOR (RFC 8949, section 4.2.1), written and *required* on reading.
//!
//! One value has one encoding: integers, lengths and floats in their shortest form, no indefinite lengths, map keys in
//! bytewise order and never twice, nothing left over. So bytes can be compared instead of values, and a signature over
//! bytes is a signature over what they mean.

use std::fmt;

/// How deep items may nest. Nothing of ours nests deeper than 8.
const DEPTH_MAX: usize = 32;

/// Why bytes are not deterministic CBOR of the expected shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("the data ends in the middle of a value")]
    Truncated,
    /// Bytes follow the last item.
    #[error("{0} bytes are left over")]
    Leftover(usize),
    /// Well-formed CBOR that a deterministic encoder would not write.
    #[error("not deterministic CBOR: {0}")]
    NotDeterministic(&'static str),
    /// Not CBOR at all.
    #[error("not well-formed CBOR: {0}")]
    Malformed(&'static str),
    /// CBOR of another shape.
    #[error("expected {expected} in {place}")]
    Unexpected {
        /// What should be there.
        expected: &'static str,
        /// In which structure.
        place: &'static str,
    },
    /// A value outside of what the format allows.
    #[error("{place}: {why}")]
    Value {
        /// In which structure.
        place: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl CborError {
    /// A value outside of what the format allows.
    pub fn value(place: &'static str, why: impl fmt::Display) -> Self {
        Self::Value { place, why: why.to_string() }
    }
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Writes deterministic CBOR. Map keys are the caller's to write in order; the reader would refuse them otherwise.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        let big_endian = argument.to_be_bytes();
        match argument {
            0..=23 => self.bytes.push(major | big_endian[7]),
            24..=0xff => self.bytes.extend([major | 24, big_endian[7]]),
            0x100..=0xffff => {
                self.bytes.push(major | 25);
                self.bytes.extend(&big_endian[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.bytes.push(major | 26);
                self.bytes.extend(&big_endian[4..]);
            }
            _ => {
                self.bytes.push(major | 27);
                self.bytes.extend(big_endian);
            }
        }
    }

    /// An unsigned integer.
    pub fn unsigned(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            // -1 - value, which is the complement in two's complement
            Err(_) => self.head(NEGATIVE, !value.cast_unsigned()),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.head(BYTES, value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// The head of a byte string of this length, whose bytes are written elsewhere.
    pub fn bytes_head(&mut self, length: u64) {
        self.head(BYTES, length);
    }

    /// A text string.
    pub fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// The head of an array of this many items.
    pub fn array(&mut self, items: usize) {
        self.head(ARRAY, items as u64);
    }

    /// The head of a map of this many pairs.
    pub fn map(&mut self, pairs: usize) {
        self.head(MAP, pairs as u64);
    }

    /// The head of a record of this many fields, and its first field: the version of its format.
    pub fn versioned_record(&mut self, fields: usize, format: u64) {
        self.map(fields);
        self.unsigned(1);
        self.unsigned(format);
    }

    /// A tag; its item follows.
    pub fn tag(&mut self, tag: u64) {
        self.head(TAG, tag);
    }

    /// `null`.
    pub fn null(&mut self) {
        self.bytes.push(0xf6);
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xf5 } else { 0xf4 });
    }
}

/// Reads deterministic CBOR and refuses everything else.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Ends; refuses leftover bytes.
    pub fn finish(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Leftover(self.rest.len())) }
    }

    /// The bytes that are not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CborError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Major type, additional information and argument of the next item. For a float the argument is its bits.
    fn head(&mut self) -> Result<(u8, u8, u64), CborError> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => return Ok((major, info, u64::from(info))),
            24..=27 => {
                self.take(1 << (info - 24))?.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
            }
            28..=30 => return Err(CborError::Malformed("reserved additional information")),
            _ if matches!(major, UNSIGNED | NEGATIVE | TAG) => {
                return Err(CborError::Malformed("indefinite length of something without a length"));
            }
            _ if major == SIMPLE => return Err(CborError::Malformed("a break without a beginning")),
            _ => return Err(CborError::NotDeterministic("indefinite length")),
        };
        let shortest = match info {
            24 => argument >= 24,
            25 => argument > 0xff,
            26 => argument > 0xffff,
            _ => argument > 0xffff_ffff,
        };
        if major != SIMPLE && !shortest {
            return Err(CborError::NotDeterministic("an integer or length is not in its shortest form"));
        }
        Ok((major, info, argument))
    }

    fn expect(&mut self, major: u8, expected: &'static str, place: &'static str) -> Result<u64, CborError> {
        let (found, _, argument) = self.head()?;
        if found == major { Ok(argument) } else { Err(CborError::Unexpected { expected, place }) }
    }

    fn length(&mut self, major: u8, expected: &'static str, place: &'static str) -> Result<usize, CborError> {
        let length = self.expect(major, expected, place)?;
        // Every item takes at least a byte, so a longer array or string cannot be whole; this also bounds what a
        // caller allocates for it.
        usize::try_from(length).ok().filter(|length| *length <= self.rest.len()).ok_or(CborError::Truncated)
    }

    /// An unsigned integer.
    pub fn unsigned(&mut self, place: &'static str) -> Result<u64, CborError> {
        self.expect(UNSIGNED, "an unsigned integer", place)
    }

    /// An unsigned integer of a narrower type.
    pub fn narrow<T: TryFrom<u64>>(&mut self, place: &'static str) -> Result<T, CborError> {
        let value = self.unsigned(place)?;
        T::try_from(value).map_err(|_| CborError::value(place, "the number is too large"))
    }

    /// An integer.
    pub fn integer(&mut self, place: &'static str) -> Result<i64, CborError> {
        let (major, _, argument) = self.head()?;
        let value =
            i64::try_from(argument).map_err(|_| CborError::value(place, "the number is too large"))?;
        match major {
            UNSIGNED => Ok(value),
            NEGATIVE => Ok(-1 - value),
            _ => Err(CborError::Unexpected { expected: "an integer", place }),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, place: &'static str) -> Result<&'a [u8], CborError> {
        let length = self.length(BYTES, "a byte string", place)?;
        self.take(length)
    }

    /// A byte string of a fixed length.
    pub fn fixed<const N: usize>(&mut self, place: &'static str) -> Result<[u8; N], CborError> {
        self.bytes(place)?
            .try_into()
            .map_err(|_| CborError::value(place, format_args!("the byte string is not {N} bytes long")))
    }

    /// A text string.
    pub fn text(&mut self, place: &'static str) -> Result<&'a str, CborError> {
        let length = self.length(TEXT, "a text string", place)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError::Malformed("a text that is not UTF-8"))
    }

    /// The number of items of an array; the items follow.
    pub fn array(&mut self, place: &'static str) -> Result<usize, CborError> {
        self.length(ARRAY, "an array", place)
    }

    /// The number of pairs of a map whose keys are text; read the pairs with [`Reader::ordered_key`].
    pub fn map(&mut self, place: &'static str) -> Result<usize, CborError> {
        self.length(MAP, "a map", place)
    }

    /// A text key that must come after the one before it (bytewise order of the encodings).
    pub fn ordered_key(
        &mut self,
        previous: &mut Option<&'a str>,
        place: &'static str,
    ) -> Result<&'a str, CborError> {
        let key = self.text(place)?;
        let order = |text: &str| (text.len(), text.to_owned());
        if previous.is_some_and(|previous| order(previous) >= order(key)) {
            return Err(CborError::NotDeterministic("map keys are not in order, or one is there twice"));
        }
        *previous = Some(key);
        Ok(key)
    }

    /// A record: a map with exactly the integer keys 1 to `fields`, in order.
    pub fn record(&mut self, fields: u64, place: &'static str) -> Result<(), CborError> {
        if self.map(place)? as u64 != fields {
            return Err(CborError::value(place, format_args!("not exactly {fields} fields")));
        }
        Ok(())
    }

    /// A record whose first field is the version of its format.
    pub fn versioned_record(
        &mut self,
        fields: u64,
        format: u64,
        place: &'static str,
    ) -> Result<(), CborError> {
        self.record(fields, place)?;
        self.field(1, place)?;
        if self.unsigned(place)? == format {
            Ok(())
        } else {
            Err(CborError::value(place, "another format version"))
        }
    }

    /// The key of a record's next field.
    pub fn field(&mut self, key: u64, place: &'static str) -> Result<(), CborError> {
        if self.unsigned(place)? == key {
            Ok(())
        } else {
            Err(CborError::value(place, format_args!("field {key} is missing or out of order")))
        }
    }

    /// A tag of this number; its item follows.
    pub fn tag(&mut self, tag: u64, place: &'static str) -> Result<(), CborError> {
        if self.expect(TAG, "a tag", place)? == tag {
            Ok(())
        } else {
            Err(CborError::value(place, format_args!("the tag is not {tag}")))
        }
    }

    /// The number of whichever tag is next; its item follows.
    pub fn any_tag(&mut self, place: &'static str) -> Result<u64, CborError> {
        self.expect(TAG, "a tag", place)
    }

    /// Whether the next item is `null`, which is then read.
    pub fn is_null(&mut self) -> bool {
        match self.rest.split_first() {
            Some((0xf6, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// `true` or `false`.
    pub fn bool(&mut self, place: &'static str) -> Result<bool, CborError> {
        match self.head()? {
            (SIMPLE, 20, _) => Ok(false),
            (SIMPLE, 21, _) => Ok(true),
            _ => Err(CborError::Unexpected { expected: "true or false", place }),
        }
    }

    /// Any one item, checked in all its parts.
    pub fn skip(&mut self) -> Result<(), CborError> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), CborError> {
        if depth > DEPTH_MAX {
            return Err(CborError::Malformed("values nest too deeply"));
        }
        let (major, info, argument) = self.head()?;
        let length = || usize::try_from(argument).map_err(|_| CborError::Truncated);
        match major {
            UNSIGNED | NEGATIVE => Ok(()),
            BYTES => self.take(length()?).map(|_| ()),
            TEXT => match std::str::from_utf8(self.take(length()?)?) {
                Ok(_) => Ok(()),
                Err(_) => Err(CborError::Malformed("a text that is not UTF-8")),
            },
            ARRAY => (0..argument).try_for_each(|_| self.skip_nested(depth + 1)),
            MAP => {
                let mut previous: Option<&[u8]> = None;
                for _ in 0..argument {
                    let before = self.rest;
                    self.skip_nested(depth + 1)?;
                    let key = &before[..before.len() - self.rest.len()];
                    if previous.is_some_and(|previous| previous >= key) {
                        return Err(CborError::NotDeterministic(
                            "map keys are not in order, or one is there twice",
                        ));
                    }
                    previous = Some(key);
                    self.skip_nested(depth + 1)?;
                }
                Ok(())
            }
            TAG => self.skip_nested(depth + 1),
            _ => check_simple(info, argument),
        }
    }
}

/// Whether bytes are exactly one deterministically encoded item.
pub fn check(bytes: &[u8]) -> Result<(), CborError> {
    let mut reader = Reader::new(bytes);
    reader.skip()?;
    reader.finish()
}

fn check_simple(info: u8, bits: u64) -> Result<(), CborError> {
    match info {
        24 if bits < 32 => Err(CborError::Malformed("a simple value that has a shorter form")),
        26 => {
            let value = f32::from_bits(bits as u32);
            if fits_half(value) {
                Err(CborError::NotDeterministic("a float is not in its shortest form"))
            } else {
                Ok(())
            }
        }
        27 => {
            let value = f64::from_bits(bits);
            if value.is_nan() || f64::from(value as f32).to_bits() == bits {
                Err(CborError::NotDeterministic("a float is not in its shortest form"))
            } else {
                Ok(())
            }
        }
        25 if bits & 0x7c00 == 0x7c00 && bits & 0x3ff != 0 && bits != 0x7e00 => {
            Err(CborError::NotDeterministic("a not-a-number other than 0xf97e00"))
        }
        _ => Ok(()),
    }
}

/// Whether a single-precision float has a half-precision form without loss (RFC 8949, section 4.2.1).
fn fits_half(value: f32) -> bool {
    if value.is_nan() || value.is_infinite() || value == 0.0 {
        return true;
    }
    let magnitude = value.abs();
    // Half precision: 11 significant bits, largest 65504, smallest subnormal 2^-24.
    let ulp = if magnitude < 2.0_f32.powi(-14) {
        2.0_f32.powi(-24)
    } else {
        let exponent = i32::try_from(value.to_bits() >> 23 & 0xff).unwrap_or(0) - 127;
        2.0_f32.powi(exponent - 10)
    };
    magnitude <= 65_504.0 && (magnitude / ulp).fract() == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_hex(hex: &str) -> Result<(), CborError> {
        check(&data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap())
    }

    /// RFC 8949, appendix A, in its order: hexadecimal encoding, and whether it is the deterministic one.
    const APPENDIX_A: &[(&str, bool)] = &[
        ("00", true),
        ("01", true),
        ("0a", true),
        ("17", true),
        ("1818", true),
        ("1819", true),
        ("1864", true),
        ("1903e8", true),
        ("1a000f4240", true),
        ("1b000000e8d4a51000", true),
        ("1bffffffffffffffff", true),
        ("c249010000000000000000", true),
        ("3bffffffffffffffff", true),
        ("c349010000000000000000", true),
        ("20", true),
        ("29", true),
        ("3863", true),
        ("3903e7", true),
        ("f90000", true),
        ("f98000", true),
        ("f93c00", true),
        ("fb3ff199999999999a", true),
        ("f93e00", true),
        ("f97bff", true),
        ("fa47c35000", true),
        ("fa7f7fffff", true),
        ("fb7e37e43c8800759c", true),
        ("f90001", true),
        ("f90400", true),
        ("f9c400", true),
        ("fbc010666666666666", true),
        ("f97c00", true),
        ("f97e00", true),
        ("f9fc00", true),
        ("fa7f800000", false),
        ("fa7fc00000", false),
        ("faff800000", false),
        ("fb7ff0000000000000", false),
        ("fb7ff8000000000000", false),
        ("fbfff0000000000000", false),
        ("f4", true),
        ("f5", true),
        ("f6", true),
        ("f7", true),
        ("f0", true),
        ("f8ff", true),
        ("c074323031332d30332d32315432303a30343a30305a", true),
        ("c11a514b67b0", true),
        ("c1fb41d452d9ec200000", true),
        ("d74401020304", true),
        ("d818456449455446", true),
        ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", true),
        ("40", true),
        ("4401020304", true),
        ("60", true),
        ("6161", true),
        ("6449455446", true),
        ("62225c", true),
        ("62c3bc", true),
        ("63e6b0b4", true),
        ("64f0908591", true),
        ("80", true),
        ("83010203", true),
        ("8301820203820405", true),
        ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", true),
        ("a0", true),
        ("a201020304", true),
        ("a26161016162820203", true),
        ("826161a161626163", true),
        ("a56161614161626142616361436164614461656145", true),
        ("5f42010243030405ff", false),
        ("7f657374726561646d696e67ff", false),
        ("9fff", false),
        ("9f018202039f0405ffff", false),
        ("9f01820203820405ff", false),
        ("83018202039f0405ff", false),
        ("83019f0203ff820405", false),
        ("9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", false),
        ("bf61610161629f0203ffff", false),
        ("826161bf61626163ff", false),
        ("bf6346756ef563416d7421ff", false),
    ];

    #[test]
    fn rfc_8949_appendix_a() {
        for (hex, deterministic) in APPENDIX_A {
            match check_hex(hex) {
                Ok(()) => assert!(deterministic, "{hex} was taken"),
                Err(CborError::NotDeterministic(_)) => assert!(!deterministic, "{hex} was refused"),
                Err(error) => panic!("{hex}: {error}"),
            }
        }
    }

    /// RFC 8949, appendix F: examples of data that is not well-formed.
    #[test]
    fn rfc_8949_appendix_f_is_refused() {
        let truncated = [
            "18",
            "19",
            "1a",
            "1b",
            "1901",
            "1a0102",
            "1b01020304050607",
            "38",
            "58",
            "78",
            "98",
            "9a01ff00",
            "b8",
            "d8",
            "f8",
            "f900",
            "fa0000",
            "fb000000",
            "41",
            "61",
            "5affffffff00",
            "5bffffffffffffffff010203",
            "7affffffff00",
            "7b7fffffffffffffff010203",
            "81",
            "818181818181818181",
            "8200",
            "a1",
            "a20102",
            "a100",
            "a2000000",
            "c0",
        ];
        for hex in truncated {
            assert!(check_hex(hex).is_err(), "{hex} was taken");
        }
        let malformed = [
            "1c", "1d", "1e", "3c", "3d", "3e", "5c", "5d", "5e", "7c", "7d", "7e", "9c", "9d", "9e", "bc",
            "bd", "be", "dc", "dd", "de", "fc", "fd", "fe", "f800", "f801", "f818", "f81f", "ff", "81ff",
            "8200ff", "a1ff", "a1ff00", "a100ff", "a20000ff", "1f", "3f", "df",
        ];
        for hex in malformed {
            assert!(matches!(check_hex(hex), Err(CborError::Malformed(_))), "{hex}: {:?}", check_hex(hex));
        }
        for hex in
            ["5f4100", "7f6100", "9f", "9f0102", "bf", "bf01020102", "819f", "9f8000", "5f00ff", "bf00ff"]
        {
            assert!(check_hex(hex).is_err(), "{hex} was taken");
        }
    }

    #[test]
    fn other_forms_of_the_same_value_are_refused() {
        for hex in [
            "1800",
            "190017",
            "1a00000000",
            "1b0000000000000001",
            "5800",
            "a2020101 02",
            "a201010102",
            "6180",
        ] {
            assert!(check_hex(&hex.replace(' ', "")).is_err(), "{hex} was taken");
        }
        for (hex, float) in
            [("fa3fc00000", "1.5"), ("fb4008000000000000", "3"), ("f97e01", "NaN"), ("fa33800000", "2^-24")]
        {
            assert!(matches!(check_hex(hex), Err(CborError::NotDeterministic(_))), "{float}");
        }
        assert_eq!(check_hex("0000"), Err(CborError::Leftover(1)));
        assert!(check_hex(&"81".repeat(100_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(
            integer: i64, unsigned: u64, bytes: Vec<u8>, text: String, flag: bool, tag: u64,
        ) {
            let mut writer = Writer::new();
            writer.array(7);
            writer.integer(integer);
            writer.unsigned(unsigned);
            writer.bytes(&bytes);
            writer.text(&text);
            writer.bool(flag);
            writer.tag(tag);
            writer.null();
            writer.map(0);
            let written = writer.into_bytes();
            check(&written).unwrap();
            let mut reader = Reader::new(&written);
            assert_eq!(reader.array("").unwrap(), 7);
            assert_eq!(reader.integer("").unwrap(), integer);
            assert_eq!(reader.unsigned("").unwrap(), unsigned);
            assert_eq!(reader.bytes("").unwrap(), bytes);
            assert_eq!(reader.text("").unwrap(), text);
            assert_eq!(reader.bool("").unwrap(), flag);
            assert_eq!(reader.any_tag("").unwrap(), tag);
            assert!(reader.is_null());
            assert_eq!(reader.map("").unwrap(), 0);
            reader.finish().unwrap();
        }
    }
}
