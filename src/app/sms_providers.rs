//! The providers that text messages are sent with, and the routes between them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use crate::domain::routes::Routes;
use crate::provider::Provider;

/// The first poll for a receipt if the provider sends status callbacks.
const RECEIPT_DUE_WITH_CALLBACK: Duration = Duration::from_secs(300);
/// The same if it sends none.
const RECEIPT_DUE_WITHOUT_CALLBACK: Duration = Duration::from_secs(60);

pub(crate) struct SmsProviders {
    pub(crate) providers: Vec<ConfiguredProvider>,
    pub(crate) routes: Routes,
}

pub(crate) struct ConfiguredProvider {
    pub(crate) provider: Arc<dyn Provider>,
    /// An attempt in doubt waits this long for its receipt, if the provider cannot list its messages.
    pub(crate) receipt_wait: Duration,
    /// A receipt that has not come for this long is polled; `None` for a provider that reports no single message.
    pub(crate) poll_receipt_after: Option<Duration>,
    /// It sends nothing more.
    pub(crate) receipts_only: bool,
    /// The settings that an operator checks when the provider refuses the credentials.
    pub(crate) to_check: &'static str,
}

/// The wait for a receipt before the first poll.
pub(super) fn receipt_due(with_callbacks: bool) -> Duration {
    if with_callbacks { RECEIPT_DUE_WITH_CALLBACK } else { RECEIPT_DUE_WITHOUT_CALLBACK }
}

/// Until the flow knows several providers and their routes, a worker takes one.
pub(super) fn only_one_yet(providers: SmsProviders) -> anyhow::Result<ConfiguredProvider> {
    let SmsProviders { providers, routes } = providers;
    let mut sending = providers.into_iter().filter(|provider| !provider.receipts_only);
    match (sending.next(), sending.next(), routes.all()) {
        (Some(only), None, [_]) => Ok(only),
        _ => bail!("PROVIDERS_FILE must name one provider that sends, and one route"),
    }
}
