//! Checks of typed codes: against our own digests, or by the provider that made the code.

use super::error::StoreError;
use super::request_record::RequestState;
use crate::domain::conversion::CodeSend;
use crate::domain::defence::CountedScopes;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Limits;
use crate::domain::request_id::RequestId;
use crate::domain::trace_context::TraceContext;
use crate::domain::verdict::Verdict;

#[derive(Clone, Copy, Debug)]
pub struct CodeCheck<'a> {
    pub recipient: Digest16,
    pub purpose: &'a str,
    /// 64 random bits. A check that is repeated because its answer was lost keeps them.
    pub check_id: u64,
    /// The id of each of our code keys, with the keyed digest of the typed code under it.
    pub digests: &'a [(&'a str, Digest16)],
    pub limits: &'a Limits,
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is read at once")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckAnswer {
    Verified {
        /// `None`: it has no record.
        request: Option<CodeRequest>,
        /// A record of the recipient that could not be read: it may be that of the request.
        unreadable: Option<StoreError>,
    },
    NotVerified(Verdict),
}

/// The request that a verified code belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRequest {
    pub id: RequestId,
    pub correlation_id: Option<String>,
    pub trace: Option<TraceContext>,
    pub user: Option<Digest16>,
    /// The network of the client that asked for the code, where the pumping defence counts.
    pub network: Option<Digest16>,
    /// The send by the oldest request that has the code, which began its life; `None` if that one sent nothing.
    pub first_send: Option<CodeSend>,
    /// The scopes in which that send counts; `None`: in all, as a worker of an earlier version admitted it.
    pub counted: Option<CountedScopes>,
    /// One of the requests that have the code is to a test number, whose code is known without a message: nothing was proven.
    pub test: bool,
    /// The caller chose the code of one of the requests that have it, and knows it without a message: nothing was proven.
    pub callers_code: bool,
}

impl CodeRequest {
    /// Chooses from the requests that have the code, newest first: the first that sent it, or may have. If none did, the
    /// person knows the code from the caller that chose it: then the first that tried.
    pub(super) fn choose(
        requests: impl IntoIterator<Item = (RequestId, RequestState)>,
        purpose: &str,
    ) -> Option<CodeRequest> {
        let (mut sent, mut unsent, mut first_send, mut counted) = (None, None, None, None);
        let (mut test, mut callers_code) = (false, false);
        for (id, state) in requests {
            let (recorded_purpose, history, send) = match state {
                RequestState::InProgress { purpose, history, .. } => {
                    let send = CodeSend::of_request_in_progress(&history);
                    (purpose, history, send)
                }
                RequestState::Completed(outcome) => {
                    let send = CodeSend::of_outcome(&outcome);
                    (outcome.purpose, outcome.history, send)
                }
            };
            if recorded_purpose != purpose {
                continue;
            }
            // An older one replaces it.
            (first_send, counted) = (send, history.counted);
            test |= history.is_test();
            callers_code |= history.callers_code;
            let RequestHistory { correlation_id, trace, user, network, .. } = history;
            let chosen = if send.is_some() { &mut sent } else { &mut unsent };
            chosen.get_or_insert((id, correlation_id, trace, user, network));
        }
        let (id, correlation_id, trace, user, network) = sent.or(unsent)?;
        let request =
            CodeRequest { id, correlation_id, trace, user, network, first_send, counted, test, callers_code };
        Some(request)
    }
}

/// The first half of a check by a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderCheckStart {
    /// The check is counted. Ask the provider, about the verification with this SID if it is known.
    Ask(Option<String>),
    /// The verdict needs no provider.
    Decided(Verdict),
}

/// The end of the provider's part of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderCheckEnd {
    Right,
    /// The answer was lost, and the provider shows that a right code was checked. Another unfinished check with the same SID
    /// could have been the right one.
    ApprovedAfterLostAnswer,
    Wrong,
    /// The provider did not compare the code, so the check no longer counts.
    NotCompared,
}
