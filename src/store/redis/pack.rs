//! Packs and reads values as `struct.pack` in the scripts does: big-endian numbers, bytes after their length.

use crate::domain::keyed_digest::Digest16;
use crate::domain::time::UnixMillis;

/// Six bytes: times and durations in milliseconds, to the year 10,889. The last value stands for no end.
pub(super) const NO_END: u64 = (1 << 48) - 1;

#[derive(Default)]
pub(super) struct Packer(Vec<u8>);

impl Packer {
    pub(super) fn new() -> Packer {
        Packer(Vec::with_capacity(256))
    }

    pub(super) fn u8(mut self, number: u8) -> Packer {
        self.0.push(number);
        self
    }

    pub(super) fn flag(self, flag: bool) -> Packer {
        self.u8(u8::from(flag))
    }

    /// A larger number is stored as the largest.
    pub(super) fn u16(mut self, number: u32) -> Packer {
        self.0.extend(u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, number: u32) -> Packer {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Milliseconds in four bytes: 49 days at most.
    pub(super) fn millis32(self, number: u64) -> Packer {
        self.u32(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// Six bytes.
    pub(super) fn u48(mut self, number: u64) -> Packer {
        self.0.extend(&number.min(NO_END).to_be_bytes()[2..]);
        self
    }

    /// Six bytes: one more than the number, or 0 for none.
    pub(super) fn optional48(self, number: Option<u64>) -> Packer {
        self.u48(number.map_or(0, |number| number.min(NO_END - 1) + 1))
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Packer {
        self.0.extend(bytes);
        self
    }

    pub(super) fn digest(self, digest: &Digest16) -> Packer {
        self.bytes(&digest.bytes())
    }

    /// Bytes after their length in one byte.
    pub(super) fn short(self, bytes: &[u8]) -> Packer {
        let length = u8::try_from(bytes.len()).expect("names of keys and purposes are short");
        self.u8(length).bytes(bytes)
    }

    /// Bytes after their length in two bytes.
    pub(super) fn long(self, bytes: &[u8]) -> Packer {
        let length = u16::try_from(bytes.len()).expect("ids and errors are short");
        self.bytes(&length.to_be_bytes()).bytes(bytes)
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The bytes left to read. Every method is `None` where the value ends too early.
pub(super) struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    pub(super) fn new(value: &'a [u8]) -> Unpacker<'a> {
        Unpacker(value)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.bytes(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|byte| byte[0])
    }

    pub(super) fn u16(&mut self) -> Option<u32> {
        self.number(2).and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn u24(&mut self) -> Option<u32> {
        self.number(3).and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number(4).and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn u48(&mut self) -> Option<u64> {
        self.number(6)
    }

    pub(super) fn time(&mut self) -> Option<UnixMillis> {
        self.u48().map(UnixMillis)
    }

    pub(super) fn digest(&mut self) -> Option<Digest16> {
        Some(Digest16::from_bytes(self.bytes(16)?.try_into().ok()?))
    }

    /// Bytes after their length in one byte.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    /// Text after its length in one byte.
    pub(super) fn short_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short()?).ok()
    }

    /// Bytes after their length in two bytes.
    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// Text after its length in two bytes.
    pub(super) fn long_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.long()?).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_reads_back() {
        let packed =
            Packer::new().u8(1).u16(70_000).u32(7).u48(NO_END + 5).optional48(Some(4)).optional48(None);
        let packed = packed.short(b"abc").flag(true).bytes(b"rest").done();
        let mut read = Unpacker::new(&packed);
        assert_eq!(
            (read.u8(), read.u16(), read.u32(), read.u48()),
            (Some(1), Some(65_535), Some(7), Some(NO_END))
        );
        assert_eq!(
            (read.u48(), read.u48(), read.short_text(), read.u8()),
            (Some(5), Some(0), Some("abc"), Some(1))
        );
        assert_eq!(read.rest(), b"rest");
    }

    #[test]
    fn a_value_that_ends_too_early_is_not_read() {
        assert_eq!(Unpacker::new(&[1, 2, 3, 4, 5]).u48(), None);
        assert_eq!(Unpacker::new(&[3, 1, 2]).short(), None);
        assert_eq!(Unpacker::new(&[0, 2, 0xff, 0xfe]).long_text(), None);
    }
}
