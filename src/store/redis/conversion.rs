//! Counts of sent and verified codes, and amounts spent.

use std::collections::BTreeMap;

use super::RedisStore;
use super::counts::{pack_name, read_counts, read_name, read_spend};
use super::library::Step;
use super::pack::{Packer, Unpacker};
use super::step_call::Call;
use crate::domain::conversion::{Bucket, CodeCounts, Dimension, StoredCounts};
use crate::domain::conversion_batch::ConversionBatch;
use crate::domain::spend::{SpendCounts, SpendGroup, StoredSpend};
use crate::store::StoreError;

impl RedisStore {
    /// Not watched for faults: counts that wait harm no request.
    pub(super) async fn write_conversion(&self, batch: &ConversionBatch) -> Result<(), StoreError> {
        let head = Packer::new().bytes(&batch.writer.to_be_bytes()).u32(batch.sequence);
        let packed = batch.entries.iter().fold(head, |packed, entry| {
            let packed =
                pack_head(packed, entry.bucket, entry.dimension.letter(), entry.dimension, &entry.name);
            packed.u32(entry.counts.sent).u32(entry.counts.verified)
        });
        let packed = batch.spend.iter().fold(packed, |packed, entry| {
            let packed =
                pack_head(packed, entry.bucket, entry.group.letter(), entry.group.names(), &entry.name);
            packed.u32(entry.counts.messages).u48(entry.counts.amount.micros())
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
        let call = self.buckets_call(dimension.letter(), dimension, buckets);
        let read = |answer: &[u8]| sums(answer, dimension, buckets, read_counts, CodeCounts::add);
        let sums = self.run("conversion", &call, read).await?;
        let counts = sums.into_iter().map(|((bucket, name), counts)| StoredCounts { bucket, name, counts });
        Ok(counts.collect())
    }

    pub(super) async fn read_spend(
        &self,
        group: SpendGroup,
        buckets: &[Bucket],
    ) -> Result<Vec<StoredSpend>, StoreError> {
        let call = self.buckets_call(group.letter(), group.names(), buckets);
        let read = |answer: &[u8]| sums(answer, group.names(), buckets, read_spend, SpendCounts::add);
        let sums = self.run("spend", &call, read).await?;
        let counts = sums.into_iter().map(|((bucket, name), counts)| StoredSpend { bucket, name, counts });
        Ok(counts.collect())
    }

    fn buckets_call(&self, of: char, dimension: Dimension, buckets: &[Bucket]) -> Call<'_> {
        let head = Packer::new().u8(letter(of)).u8(dimension.parts());
        let packed = buckets
            .iter()
            .fold(head, |packed, bucket| packed.u8(letter(bucket.width.letter())).u32(bucket.number));
        self.call(Step::Conversion, &[self.keys.conversion_writers()])
            .arg(self.settings().pack())
            .arg(packed.done())
    }
}

fn pack_head(packed: Packer, bucket: u32, of: char, dimension: Dimension, name: &str) -> Packer {
    packed.u32(bucket).u8(letter(of)).u8(dimension.part(name)).short(&pack_name(dimension, name))
}

fn letter(letter: char) -> u8 {
    u8::try_from(letter).expect("it is ASCII")
}

/// By bucket and name.
fn sums<C: Default>(
    answer: &[u8],
    dimension: Dimension,
    buckets: &[Bucket],
    read: impl Fn(&mut Unpacker<'_>) -> Option<C>,
    add: impl Fn(&mut C, C),
) -> Option<BTreeMap<(Bucket, String), C>> {
    let (mut words, mut sums) = (Unpacker::new(answer), BTreeMap::new());
    while !words.is_empty() {
        let bucket = *buckets.get(usize::from(words.u8()?))?;
        let name = read_name(dimension, words.short()?)?;
        add(sums.entry((bucket, name)).or_default(), read(&mut words)?);
    }
    Some(sums)
}
