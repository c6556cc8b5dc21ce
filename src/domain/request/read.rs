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
pub(super) struct Raw<'a>(Option<Json<'a>>);

impl<'a> Raw<'a> {
    pub(super) fn given(self) -> Option<Json<'a>> {
        self.0.filter(|value| !value.is_null())
    }

    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        self.0?.text()
    }

    pub(super) fn fault(self, field: &'static str, rule: &'static str) -> RequestError {
        RequestError::Field { field, rule, got: self.0.map_or(Shape::Nothing, Json::shape) }
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

    /// Absent if it is a string that is not Unicode, such as one that was cut inside an emoji.
    pub(super) fn or_cut(self) -> Raw<'a> {
        Raw(self.0.filter(|value| value.shape() != Shape::NotUnicode))
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

impl<'a> Fields<'a> {
    /// Fills the fields as far as the body can be read. Returns the first repeated one.
    fn read(&mut self, body: &'a [u8]) -> Result<Option<&'static str>, RequestError> {
        let mut repeated = None;
        for member in members(body) {
            let member = member?;
            let Some((field, slot)) = member.name.and_then(|name| self.slot(&name)) else {
                continue;
            };
            if slot.0.replace(member.value).is_some() {
                repeated = repeated.or(Some(field));
            }
        }
        Ok(repeated)
    }
}
