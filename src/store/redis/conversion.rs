//! Counts of sent and verified codes.

use std::collections::BTreeMap;

use super::RedisStore;
use super::counts::{pack_name, read_counts, read_name};
use super::library::Step;
use super::pack::{Packer, Unpacker};
use crate::domain::conversion::{Bucket, CodeCounts, ConversionBatch, Dimension, StoredCounts};
use crate::store::StoreError;

impl RedisStore {
    /// Not watched for faults: counts that wait harm no request.
    pub(super) async fn write_conversion(&self, batch: &ConversionBatch) -> Result<(), StoreError> {
        let head = Packer::new().bytes(&batch.writer.to_be_bytes()).u32(batch.sequence);
        let packed = batch.entries.iter().fold(head, |packed, entry| {
            packed
                .u32(entry.bucket)
                .u8(letter(entry.dimension.letter()))
                .u8(entry.dimension.part(&entry.name))
                .short(&pack_name(entry.dimension, &entry.name))
                .u32(entry.counts.sent)
                .u32(entry.counts.verified)
        });
        let call = self
            .call(Step::AddConversion, &[self.keys.conversion_writers()])
            .arg(self.settings().pack())
            .arg(packed.done());
        self.run_unwatched("add_conversion", &call, |answer| (answer == b"a").then_some(())).await
    }

    pub(super) async fn read_conversion(
        &self,
        dimension: Dimension,
        buckets: &[Bucket],
    ) -> Result<Vec<StoredCounts>, StoreError> {
        let head = Packer::new().u8(letter(dimension.letter())).u8(dimension.parts());
        let packed = buckets
            .iter()
            .fold(head, |packed, bucket| packed.u8(letter(bucket.width.letter())).u32(bucket.number));
        let call = self
            .call(Step::Conversion, &[self.keys.conversion_writers()])
            .arg(self.settings().pack())
            .arg(packed.done());
        self.run("conversion", &call, |answer| counts(answer, dimension, buckets)).await
    }
}

fn letter(letter: char) -> u8 {
    u8::try_from(letter).expect("it is ASCII")
}

fn counts(answer: &[u8], dimension: Dimension, buckets: &[Bucket]) -> Option<Vec<StoredCounts>> {
    let (mut words, mut sums) = (Unpacker::new(answer), BTreeMap::<(Bucket, String), CodeCounts>::new());
    while !words.is_empty() {
        let bucket = *buckets.get(usize::from(words.u8()?))?;
        let name = read_name(dimension, words.short()?)?;
        sums.entry((bucket, name)).or_default().add(read_counts(&mut words)?);
    }
    let counts = sums.into_iter().map(|((bucket, name), counts)| StoredCounts { bucket, name, counts });
    Some(counts.collect())
}
