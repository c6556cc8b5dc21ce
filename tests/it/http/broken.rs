//! A store that is in trouble.

use std::time::Duration;

use async_trait::async_trait;
use otpost::domain::block::{ByHand, Suppression};
use otpost::domain::challenge::ChallengeId;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::request_id::RequestId;
use otpost::domain::trail::Notes;
use otpost::domain::verdict::Verdict;
use otpost::store::check::{Begun, Check, CheckEnd};
use otpost::store::{
    Admission, Admit, Awaited, Handling, KillSwitch, Limits, Mark, Marked, Pulse, Recent, Settle, Settled,
    Store, StoreError, Story, Subject, Track, Tracked, Usage,
};

/// A store whose every step fails in the same way.
pub struct Broken(pub Fails);

#[derive(Clone, Copy)]
pub enum Fails {
    WithAnError,
    ByPanicking,
    ByNeverAnswering,
}

impl Broken {
    async fn fail<T>(&self) -> Result<T, StoreError> {
        match self.0 {
            Fails::WithAnError => {
                Err(StoreError::Unavailable("redis://otpost:hunter2@10.9.8.7 timed out".to_owned()))
            }
            Fails::ByPanicking => panic!("hunter2 at 10.9.8.7"),
            Fails::ByNeverAnswering => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Store for Broken {
    async fn admit(&self, _: &Admit<'_>) -> Result<Admission, StoreError> {
        self.fail().await
    }

    async fn mark(
        &self,
        _: &Handling<'_>,
        _: Option<u32>,
        _: Mark,
        _: Option<&Notes>,
    ) -> Result<Marked, StoreError> {
        self.fail().await
    }

    async fn settle(&self, _: &Settle<'_>) -> Result<Settled, StoreError> {
        self.fail().await
    }

    async fn verify(&self, _: &Check<'_>) -> Result<Verdict, StoreError> {
        self.fail().await
    }

    async fn begin_check(&self, _: &Check<'_>) -> Result<Begun, StoreError> {
        self.fail().await
    }

    async fn end_check(&self, _: &Check<'_>, _: CheckEnd) -> Result<Verdict, StoreError> {
        self.fail().await
    }

    async fn name_challenge(&self, _: &Subject<'_>, _: &ChallengeId, _: &str) -> Result<(), StoreError> {
        self.fail().await
    }

    async fn usage(&self, _: &Subject<'_>, _: Option<&RequestId>, _: &Limits) -> Result<Usage, StoreError> {
        self.fail().await
    }

    async fn track(&self, _: &Track<'_>) -> Result<Tracked, StoreError> {
        self.fail().await
    }

    async fn overdue(&self, _: Duration, _: u32) -> Result<Vec<Awaited>, StoreError> {
        self.fail().await
    }

    async fn pulse(&self, _: u64, _: bool) -> Result<Pulse, StoreError> {
        self.fail().await
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        self.fail().await
    }

    async fn set_kill_switch(&self, _: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        self.fail().await
    }

    async fn story(&self, _: &RequestId, _: Option<Digest16>) -> Result<Option<Story>, StoreError> {
        self.fail().await
    }

    async fn recent(&self, _: Digest16) -> Result<Vec<Recent>, StoreError> {
        self.fail().await
    }

    async fn suppressions(&self, _: u32) -> Result<Vec<Suppression>, StoreError> {
        self.fail().await
    }

    async fn suppress(&self, _: Digest16, _: &ByHand<'_>) -> Result<Suppression, StoreError> {
        self.fail().await
    }

    async fn lift_suppression(&self, _: Digest16) -> Result<Option<Suppression>, StoreError> {
        self.fail().await
    }

    fn may_have_forgotten(&self) -> bool {
        true
    }
}
