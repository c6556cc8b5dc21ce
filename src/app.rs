//! Runs a process from its start to its shutdown. The files of `app/` build its parts from the settings.
//!
//! Only this layer names adapters.

pub(crate) mod brokers;
mod certificates;
pub mod config_check;
mod descriptors;
mod dev_banner;
mod listen;
pub(crate) mod policy;
pub(crate) mod provider_adapters;
pub(crate) mod provider_file;
mod provider_selection;
mod signals;
mod sms_providers;
pub(crate) mod status;
pub(crate) mod stores;
pub(crate) mod texts;
mod traces;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::descriptors::{OPS_LIMITS, connection_limits, raise_descriptor_limit};
use self::listen::listen;
use self::provider_adapters::{configured, email_account, sms_account};
use self::provider_selection::{email_provider, handset, sms_provider};
use self::sms_providers::SmsProviders;
use self::wiring::{ChannelWorker, Wiring, role_name};
use crate::config::{DevProvider, Role, Settings};
use crate::domain::channel::Channel;
use crate::domain::phone;
use crate::flow::consumer_loop::ConsumerLoop;
use crate::flow::maintenance::ReceiptPolling;
use crate::flow::queue_watch::watch_queues;
use crate::flow::receipts::ReceiptProcessor;
use crate::flow::store_watch::StoreWatch;
use crate::http;
use crate::http::page::{Handset, Page};
use crate::telemetry::{self, events};

/// The longest wait for HTTP answers at shutdown, unless the grace period is shorter. No answer takes longer.
const HTTP_DRAIN: Duration = http::ANSWER_WITHIN;

struct Process {
    role: Role,
    settings: Settings,
    wiring: Wiring,
    receipts: Arc<ReceiptProcessor>,
    handset: Option<Arc<Handset>>,
    stop: CancellationToken,
}

/// One worker for each channel; none in a process that only answers HTTP.
struct Workers {
    sms: Option<ChannelWorker>,
    email: Option<ChannelWorker>,
}

/// Starts the parts of a role, and runs until a signal stops the process or a part fails.
pub async fn run(role: Role, settings: Settings, dev_provider: DevProvider) -> anyhow::Result<()> {
    settings.notices.iter().for_each(|notice| events::notice(notice));
    config_check::expired_test_numbers(&settings).iter().for_each(|notice| events::notice(notice));
    raise_descriptor_limit();
    let stop = signals::stop_on_signal()?;
    let warm_up = tokio::task::spawn_blocking(phone::warm_up);
    traces::start(&settings)?;
    let wiring = Wiring::new(&settings)?;
    let receipts = wiring.receipt_processor(&settings)?;
    let handset = handset(role, dev_provider, &settings);
    let process = Process { role, settings, wiring, receipts, handset, stop };
    let workers = process.workers(dev_provider).await?;
    let http_listener = match role {
        Role::Worker => None,
        _ => Some(listen("HTTP_ADDR", process.settings.http_addr, role, &process.settings)?),
    };
    let ops_listener = listen("OPS_ADDR", process.settings.ops_addr, role, &process.settings)?;
    warm_up.await.context("warming up")?;
    if let (Role::Dev, Some(listener)) = (role, &http_listener) {
        let (http, ops) = (listener.local_addr()?, ops_listener.local_addr()?);
        dev_banner::print(&process.settings, http, ops, &process.wiring, process.handset.is_some());
    }
    let sms_gateway = workers.sms.as_ref().map(|worker| worker.gateway.clone());
    let mut background = JoinSet::new();
    background.spawn(telemetry::log_repeats());
    if process.wiring.broker_in_memory {
        background.spawn(watch_queues(process.wiring.queues()));
    }
    let watch = process.store_watch(&mut background).await;
    let readiness_watch = watch.clone().filter(|_| role == Role::Http);
    let scaler = (role != Role::Worker).then(|| process.wiring.scaler(&process.settings));
    let ops_router = http::ops_router(process.wiring.readiness(sms_gateway, readiness_watch), scaler);
    let ops = http::serve(ops_listener, ops_router, OPS_LIMITS, CancellationToken::new());
    let http = match http_listener {
        Some(listener) => {
            let router = process.router(&listener, &workers, &mut background).await?;
            let limits = connection_limits(role, &process.settings);
            Some(http::serve(listener, router, limits, process.stop.clone()))
        }
        None => None,
    };
    events::started(role_name(role), env!("CARGO_PKG_VERSION"));
    // After that line: a fault of the store is then logged once, in the order that operators know.
    let key_watch = process.wiring.key_watch();
    background.spawn(async move { key_watch.run().await });
    let (conversion, defence) = (process.wiring.conversion.clone(), process.wiring.defence.clone());
    background.spawn({
        let (conversion, defence) = (conversion.clone(), defence.clone());
        async move {
            tokio::join!(conversion.run(), defence.run());
        }
    });
    process.publish_audit(&mut background);
    let drain = HTTP_DRAIN.min(process.settings.shutdown_grace);
    let http = run_http(http, &process.wiring.checks, drain, &process.stop);
    tokio::select! {
        (worked, answered) = async { tokio::join!(process.run_workers(workers), http) } => {
            background.abort_all();
            if let Some(watch) = watch {
                watch.end().await;
            }
            tokio::join!(conversion.end(), defence.end());
            process.wiring.close().await;
            events::stopped(worked?);
            answered
        }
        stopped = ops => stopped.context("serving OPS_ADDR"),
        Some(_) = background.join_next() => bail!("a task in the background ended unexpectedly"),
    }
}

impl Process {
    async fn workers(&self, dev_provider: DevProvider) -> anyhow::Result<Workers> {
        if self.role == Role::Http {
            return Ok(Workers { sms: None, email: None });
        }
        let Process { settings, receipts, wiring, .. } = self;
        let handset = self.handset.as_ref();
        let sms = sms_provider(settings, dev_provider, receipts, handset).await?;
        let email = email_provider(settings, dev_provider, receipts, handset).await?;
        let email = SmsProviders::only(configured(email, Channel::Email, settings));
        let (sms, email) = (sms.sending(Channel::Sms, settings), email.sending(Channel::Email, settings));
        let replies = wiring.reply_publisher();
        Ok(Workers {
            sms: Some(wiring.worker(settings, self.role, Channel::Sms, sms, replies.clone())?),
            email: Some(wiring.worker(settings, self.role, Channel::Email, email, replies)?),
        })
    }

    /// Workers publish the records of operators' acts.
    fn publish_audit(&self, background: &mut JoinSet<()>) {
        if self.role != Role::Http {
            let audit = self.wiring.audit_publisher();
            background.spawn(async move { audit.run().await });
        }
    }

    /// A process that only answers HTTP has no heartbeat of a worker, so it is ready by this one.
    async fn store_watch(&self, background: &mut JoinSet<()>) -> Option<Arc<StoreWatch>> {
        if !matches!(self.role, Role::Http | Role::Serve) || self.wiring.store_in_memory {
            return None;
        }
        let watch = self.wiring.store_watch();
        if self.role == Role::Http {
            watch.begin().await;
        }
        let watching = watch.clone();
        background.spawn(async move { watching.run().await });
        Some(watch)
    }

    /// The HTTP API with the webhooks and, in `otpost dev`, the page.
    async fn router(
        &self,
        listener: &TcpListener,
        workers: &Workers,
        background: &mut JoinSet<()>,
    ) -> anyhow::Result<http::Routes> {
        let Process { settings, wiring, .. } = self;
        // The first of several.
        let provider = |worker: &Option<ChannelWorker>| {
            worker.as_ref().and_then(|worker| worker.gateway.providers.adapters().next().cloned())
        };
        let (sms, email) = match (provider(&workers.sms), provider(&workers.email)) {
            (None, None) => (sms_account(settings)?, email_account(settings)?),
            of_workers => of_workers,
        };
        let inspector = wiring.inspector(settings, self.role, sms, email);
        let api = wiring.api(settings, self.role, inspector).await?;
        let webhooks = wiring.webhooks(settings, &self.receipts)?;
        // Published keys are fetched in the background: until the first answer a token is refused as not checkable.
        background.spawn(api.tokens.refresh_keys());
        Ok(match &self.handset {
            Some(handset) => {
                let page = Page::new(handset.clone(), settings, listener.local_addr()?, self.stop.clone());
                http::router_with_page(api, Some(webhooks), page)
            }
            None => http::router(api, Some(webhooks)),
        })
    }

    /// Returns the number of handlers that shutdown interrupted.
    async fn run_workers(&self, Workers { sms, email }: Workers) -> anyhow::Result<usize> {
        let polling = self
            .settings
            .receipt_wait
            .map(|wait_max| ReceiptPolling { processor: self.receipts.clone(), wait_max });
        let sms = run_worker(sms, polling, &self.settings, &self.stop);
        // The channels share only the process: a provider of e-mails that hangs holds no slot of a text message.
        let email = run_worker(email, None, &self.settings, &self.stop);
        let (sms, email) = tokio::join!(sms, email);
        Ok(sms? + email?)
    }
}

/// Returns the number of handlers that shutdown interrupted. A consumer or a maintenance task that ends without a stop
/// ends the process: one that consumes no requests must not look healthy.
async fn run_worker(
    worker: Option<ChannelWorker>,
    polling: Option<ReceiptPolling>,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<usize> {
    let Some(ChannelWorker { gateway, consumer }) = worker else { return Ok(0) };
    let concurrency = usize::from(settings.concurrency);
    let worker = ConsumerLoop::new(gateway.clone(), concurrency, settings.shutdown_grace, stop.clone());
    let worker = worker.pausing_when(gateway.gate.paused());
    // Requests in flight depend on the kill switch during the drain, so maintenance stops after the worker.
    let maintenance_stop = CancellationToken::new();
    gateway.load_kill_switch().await;
    let mut maintenance = tokio::spawn({
        let maintenance_stop = maintenance_stop.clone();
        async move { gateway.run_maintenance(polling, maintenance_stop).await }
    });
    let unfinished = tokio::select! {
        unfinished = worker.run(consumer) => unfinished,
        ended = &mut maintenance => {
            stop.cancel();
            ended.context("maintenance")?;
            bail!("maintenance ended unexpectedly");
        }
    };
    maintenance_stop.cancel();
    maintenance.await.context("maintenance")?;
    if !stop.is_cancelled() {
        stop.cancel();
        bail!("the consumer of requests ended unexpectedly");
    }
    Ok(unfinished)
}

/// Answers until the stop, and then finishes what is in progress: answers to callers, and code checks.
async fn run_http(
    http: Option<impl Future<Output = std::io::Result<()>>>,
    checks: &TaskTracker,
    drain: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(http) = http else { return Ok(()) };
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let finished = async {
        http.await.context("serving HTTP_ADDR")?;
        checks.close();
        checks.wait().await;
        Ok(())
    };
    tokio::select! {
        finished = finished => finished,
        () = overdue => Ok(()),
    }
}

#[cfg(test)]
mod tests;
