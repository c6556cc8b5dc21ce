//! Suppressed countries, with more than one shard. They are outside the shards, so each process keeps a copy, which every heartbeat
//! renews: admission knows a new one a heartbeat late.

use std::collections::HashMap;
use std::pin::pin;

use super::RedisStore;
use super::keys::Key;
use super::library::Step;
use super::pack::{NO_END, Packer, Unpacker};
use super::settings::country_of;
use super::shard_state::CountrySuppression;
use crate::domain::suppression::NewSuppression;
use crate::domain::time::millis;
use crate::store::{NewReceipt, StoreError};

fn read(answer: &[u8]) -> Option<HashMap<String, CountrySuppression>> {
    let (mut words, mut suppressed) = (Unpacker::new(answer), HashMap::new());
    while !words.is_empty() {
        let country = words.short_text()?.to_owned();
        suppressed.insert(country, CountrySuppression { provider_code: words.u32()?, until: words.u48()? });
    }
    Some(suppressed)
}

impl RedisStore {
    /// Also makes sure that the places under the cap over all sends can be read.
    pub(super) async fn read_countries(&self) -> Result<(), StoreError> {
        let keys = [self.keys.countries(), self.keys.blocks(), self.keys.refunded_places()];
        let call = self.call(Step::SuppressedCountries, &keys).arg(self.settings().pack());
        let suppressed = self.run_unwatched("suppressed_countries", &call, read).await?;
        *self.countries.lock() = Some(suppressed);
        Ok(())
    }

    /// The suppression of a country that is known here. Redis compares its end with the time.
    pub(super) async fn country_suppression(
        &self,
        country: Option<&str>,
    ) -> Result<Option<CountrySuppression>, StoreError> {
        let Some(country) = country else { return Ok(None) };
        let is_read = self.countries.lock().is_some();
        if !is_read {
            self.faults.watch(pin!(self.read_countries())).await?;
        }
        Ok(self.countries.lock().as_ref().and_then(|suppressed| suppressed.get(country).copied()))
    }

    /// Suppresses a country before its receipt is recorded, if that will suppress it: a repeat must not undo an operator's removal.
    pub(super) async fn suppress_country_by_receipt(
        &self,
        receipt: &NewReceipt<'_>,
        suppression: Option<&NewSuppression<'_>>,
        keys: &[Key],
    ) -> Result<(), StoreError> {
        let Some((country, suppression)) = country_of(suppression).zip(suppression) else { return Ok(()) };
        let strength = if suppression.duration.is_none() { 2 } else { 1 };
        let call = self
            .call(Step::ReceiptSuppresses, keys)
            .arg(self.settings().pack())
            .arg(Packer::new().u8(strength).bytes(receipt.stored_message_id().as_bytes()).done());
        let suppresses = self.run("record_receipt", &call, |answer| match answer {
            b"y" => Some(true),
            b"n" => Some(false),
            _ => None,
        });
        if suppresses.await? { self.suppress_country(country, suppression).await } else { Ok(()) }
    }

    /// One that ends later stays.
    pub(super) async fn suppress_country(
        &self,
        country: &str,
        suppression: &NewSuppression<'_>,
    ) -> Result<(), StoreError> {
        let duration = suppression.duration.map_or(NO_END, millis);
        let call = self
            .call(Step::SuppressCountry, &[self.keys.countries()])
            .arg(self.settings().pack())
            .arg(Packer::new().u32(suppression.provider_code).u48(duration).bytes(country.as_bytes()).done());
        let suppressed = self.run("suppress_country", &call, read).await?;
        *self.countries.lock() = Some(suppressed);
        Ok(())
    }
}
