//! A described request and the client of its host.

use minijinja::Value;
use reqwest::{Client, Request};

use super::authentication::Authentication;
use super::request::RequestTemplate;
use super::template::CannotFill;
use crate::clock::Clock;
use crate::domain::time::UnixMillis;
use crate::provider::http_client::{self, Answer, failure};

/// No secret of its own, but a request that it fills may hold a code: no `Debug`.
pub(super) struct Endpoint {
    client: Client,
    template: RequestTemplate,
}

impl Endpoint {
    pub(super) fn new(client: Client, template: RequestTemplate) -> Endpoint {
        Endpoint { client, template }
    }

    pub(super) fn template(&self) -> &RequestTemplate {
        &self.template
    }

    pub(super) fn request(
        &self,
        values: &Value,
        authentication: &Authentication,
        now: UnixMillis,
    ) -> Result<Request, CannotFill> {
        authentication.complete(self.template.fill(values)?, now)
    }

    pub(super) async fn exchange(
        &self,
        request: Request,
        body_bytes_max: usize,
    ) -> Result<Answer, reqwest::Error> {
        http_client::exchange(&self.client, request, body_bytes_max).await
    }

    /// Asks the vendor something about an account or a message. The problem names no address.
    pub(super) async fn ask(
        &self,
        values: impl FnOnce(UnixMillis) -> Value,
        authentication: &Authentication,
        body_bytes_max: usize,
    ) -> Result<Answer, String> {
        let now = Clock::System.now();
        let request = self.request(&values(now), authentication, now);
        let request =
            request.map_err(|CannotFill| "a template of the request cannot be filled".to_owned())?;
        let answer = self.exchange(request, body_bytes_max).await;
        answer.map_err(|error| failure::transport_detail(&error).to_owned())
    }
}
