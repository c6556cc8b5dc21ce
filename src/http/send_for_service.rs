//! `POST /api/v1/otp/send`: a code for any recipient, asked for by a back end.
//!
//! The fields and their rules are those of a request on the queue. A user or a client address counts only if the body
//! names it: the token is the service's, and the connection comes from its host.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;

use super::api::Api;
use super::body::Body;
use super::problem::Problem;
use super::received_result::SendResponse;
use super::recipient::named_channel;
use super::request_ids::idempotency_key;
use super::send::{NewRequest, rejected};
use crate::domain::address::Address;
use crate::domain::request::SendRequest;
use crate::domain::request::body::SendRequestBody;

const FIELDS: [&str; 9] =
    ["to", "channel", "purpose", "user_id", "user_name", "client_ip", "locale", "timezone", "template"];
/// Stands for the id while the fields are checked.
const NO_ID: &str = "-";

pub(super) async fn send_for_service(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<SendResponse, Problem> {
    let service = api.tokens.named_service(&headers, "otp:send").await?;
    let body = Body::read(&headers, &bytes)?;
    body.only(&FIELDS)?;
    let channel = named_channel(&body)?;
    let json = body.with("request_id", NO_ID);
    let request = SendRequest::decode(&json, None).map_err(|refused| Problem::invalid(refused.fault))?;
    // The caller waits for the answer and can mend the field, unless a cut name of a person is all that it has.
    if let Some(fault) = request.left_out.iter().find(|fault| !fault.is_cut_text()) {
        return Err(Problem::invalid(fault));
    }
    let channel = channel.unwrap_or_else(|| Address::channel_of(&request.to));
    let to = api.rules.recipient(channel, &request.to);
    let to = to.map_err(|rejection| rejected(&rejection.error, "`to`"))?;
    let binding = idempotency_key(&headers)?
        .map(|key| api.key_binding(&service, &to, key, &values(&request).each_ref().map(String::as_str)));
    let is_bound = match binding {
        Some(binding) => api.is_bound(binding).await?,
        None => false,
    };
    let text = |field: &Option<Cow<'_, str>>| field.as_deref().map(str::to_owned);
    api.send(&NewRequest {
        request_id: api.service_request_id(&service, channel, binding.map(|binding| binding.request)),
        to: &to,
        purpose: request.purpose.as_str(),
        client_ip: request.client_ip,
        fields: SendRequestBody {
            purpose: Some(request.purpose.as_str().to_owned()),
            user_id: text(&request.user_id),
            user_name: text(&request.user_name),
            locale: text(&request.locale),
            timezone: request.timezone.as_ref().map(|zone| zone.name().to_owned()),
            template: text(&request.template),
            ..SendRequestBody::default()
        },
        key: binding.filter(|_| !is_bound),
        to_in_errors: "`to`",
    })
    .await
}

/// The values by which two requests under one key are the same, the recipient apart. Absent and empty are the same.
fn values(request: &SendRequest<'_>) -> [String; 7] {
    let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
    [
        request.purpose.as_str().to_owned(),
        text(request.user_id.as_deref()),
        text(request.user_name.as_deref()),
        request.client_ip.map_or_else(String::new, |ip| ip.to_canonical().to_string()),
        // Language tags have no case (RFC 5646 §2.1.1).
        text(request.locale.as_deref()).to_ascii_lowercase().replace('_', "-"),
        text(request.timezone.as_ref().map(|zone| zone.name())),
        text(request.template.as_deref()),
    ]
}
