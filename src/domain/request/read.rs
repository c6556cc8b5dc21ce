//! One pass over a body: every known field of any type, also of a body that breaks off.

use std::borrow::Cow;

use super::error::{BODY_BYTES_MAX, RequestError};
use crate::domain::json::{Json, Shape, members};

pub(super) fn read_fields<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Result<(), RequestError> {
    let within = &body[..body.len().min(BODY_BYTES_MAX)];
    let read = fields.read(within);
    if within.len() < body.len() {
        return Err(RequestError::TooLarge { bytes: body.len() });
    }
    match read? {
        None => Ok(()),
        Some(field) => Err(RequestError::Repeated { field }),
    }
}

/// A field's value before any rule.
#[derive(Clone, Copy, Default)]
pub(super) struct Raw<'a> {
    value: Option<Json<'a>>,
    is_repeated: bool,
}

impl<'a> Raw<'a> {
    pub(super) fn given(self) -> Option<Json<'a>> {
        self.value.filter(|value| !value.is_null())
    }

    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        self.value?.text()
    }

    pub(super) fn fault(self, field: &'static str, rule: &'static str) -> RequestError {
        RequestError::Field { field, rule, got: self.value.map_or(Shape::Nothing, Json::shape) }
    }

    /// `null` counts as absent.
    pub(super) fn optional<T>(
        self,
        field: &'static str,
        rule: &'static str,
        read: impl FnOnce(Cow<'a, str>) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        let Some(value) = self.given() else {
            return Ok(None);
        };
        value.text().and_then(read).map(Some).ok_or_else(|| self.fault(field, rule))
    }

    pub(super) fn required<T>(
        self,
        field: &'static str,
        rule: &'static str,
        read: impl FnOnce(Cow<'a, str>) -> Option<T>,
    ) -> Result<T, RequestError> {
        self.optional(field, rule, read)?.ok_or_else(|| self.fault(field, rule))
    }

    /// As [`Raw::optional`], but what is no text, or given twice, counts as absent and is noted.
    pub(super) fn or_left_out<T>(
        self,
        field: &'static str,
        rule: &'static str,
        left_out: &mut Vec<RequestError>,
        read: impl FnOnce(Cow<'a, str>) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        if self.is_repeated {
            left_out.push(RequestError::Repeated { field });
            return Ok(None);
        }
        if self.given().is_some_and(|value| value.text().is_none()) {
            left_out.push(self.fault(field, rule));
            return Ok(None);
        }
        self.optional(field, rule, read)
    }
}

/// Declares the fields of the contract once: names, values and look-up by name.
macro_rules! fields {
    ($($name:ident),+) => {
        #[derive(Default)]
        pub(super) struct Fields<'a> {
            $(pub(super) $name: Raw<'a>,)+
        }

        /// The names of the contract's fields.
        pub(super) const FIELDS: &[&str] = &[$(stringify!($name),)+];

        impl<'a> Fields<'a> {
            fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Raw<'a>)> {
                match name {
                    $(stringify!($name) => Some((stringify!($name), &mut self.$name)),)+
                    _ => None,
                }
            }
        }
    };
}

fields!(
    request_id,
    to,
    purpose,
    user_id,
    user_name,
    client_ip,
    locale,
    timezone,
    template,
    code,
    requested_at,
    not_after,
    autofill
);

/// The fields that a request can do without: the text then takes its defaults.
const LEFT_OUT: [&str; 3] = ["user_name", "locale", "timezone"];

impl<'a> Fields<'a> {
    /// Fills the fields as far as the body can be read. Returns the first repeated one that matters.
    fn read(&mut self, body: &'a [u8]) -> Result<Option<&'static str>, RequestError> {
        let mut repeated = None;
        for member in members(body) {
            let member = member?;
            let Some((field, slot)) = member.name.and_then(|name| self.slot(&name)) else {
                continue;
            };
            slot.is_repeated = slot.value.replace(member.value).is_some();
            if slot.is_repeated && !LEFT_OUT.contains(&field) {
                repeated = repeated.or(Some(field));
            }
        }
        Ok(repeated)
    }
}
