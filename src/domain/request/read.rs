//! One pass over a body: every known field of any type, also of a body that breaks off.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::error::{BODY_BYTES_MAX, RequestError, Shape};

pub(super) fn read_fields<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Result<(), RequestError> {
    let within = &body[..body.len().min(BODY_BYTES_MAX)];
    let mut json = serde_json::Deserializer::from_slice(within);
    let read = FieldsSeed(fields).deserialize(&mut json).and_then(|repeated| json.end().map(|()| repeated));
    if within.len() < body.len() {
        return Err(RequestError::TooLarge { bytes: body.len() });
    }
    match read {
        Ok(None) => Ok(()),
        Ok(Some(field)) => Err(RequestError::Repeated { field }),
        Err(error) if error.is_data() => Err(RequestError::NotAnObject),
        Err(error) => Err(RequestError::NotJson { line: error.line(), column: error.column() }),
    }
}

/// A field's value before any rule: text, or the shape of another type.
#[derive(Clone)]
pub(super) enum Raw<'a> {
    Text(Cow<'a, str>),
    Other(Shape),
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Raw::Other(Shape::Nothing)
    }
}

impl<'a> Raw<'a> {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) => Some(text),
            Raw::Other(_) => None,
        }
    }

    fn shape(&self) -> Shape {
        match self {
            Raw::Text(text) => Shape::Text(text.chars().count()),
            Raw::Other(shape) => *shape,
        }
    }

    fn fault(&self, field: &'static str, rule: &'static str) -> RequestError {
        RequestError::Field { field, rule, got: self.shape() }
    }

    /// `null` counts as absent.
    pub(super) fn optional<T>(
        &self,
        field: &'static str,
        rule: &'static str,
        read: impl FnOnce(&Cow<'a, str>) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        match self {
            Raw::Other(Shape::Nothing | Shape::Null) => Ok(None),
            Raw::Text(text) => read(text).map(Some).ok_or_else(|| self.fault(field, rule)),
            Raw::Other(_) => Err(self.fault(field, rule)),
        }
    }

    pub(super) fn required<T>(
        &self,
        field: &'static str,
        rule: &'static str,
        read: impl FnOnce(&Cow<'a, str>) -> Option<T>,
    ) -> Result<T, RequestError> {
        self.optional(field, rule, read)?.ok_or_else(|| self.fault(field, rule))
    }
}

/// Declares the fields of the contract once: names, values and look-up by name.
macro_rules! fields {
    ($($name:ident),+) => {
        #[derive(Default)]
        pub(super) struct Fields<'a> {
            $(pub(super) $name: Raw<'a>,)+
            pub(super) autofill: Option<Value>,
        }

        /// The names of the contract's fields.
        pub(super) const FIELDS: &[&str] = &[$(stringify!($name),)+ "autofill"];

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
    not_after
);

/// Fills [`Fields`] as far as the body can be read; answers the first repeated field.
struct FieldsSeed<'f, 'a>(&'f mut Fields<'a>);

impl<'a> DeserializeSeed<'a> for FieldsSeed<'_, 'a> {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for FieldsSeed<'_, 'a> {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut repeated = None;
        while let Some(name) = map.next_key_seed(KeySeed)? {
            if name == "autofill" {
                if self.0.autofill.replace(map.next_value()?).is_some() {
                    repeated = repeated.or(Some("autofill"));
                }
            } else if let Some((field, slot)) = self.0.slot(&name) {
                if slot.shape() != Shape::Nothing {
                    repeated = repeated.or(Some(field));
                }
                map.next_value_seed(RawSeed(slot))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(repeated)
    }
}

struct KeySeed;

impl<'a> DeserializeSeed<'a> for KeySeed {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for KeySeed {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Reads a value of any type; of other types than text only the shape.
struct RawSeed<'f, 'a>(&'f mut Raw<'a>);

impl RawSeed<'_, '_> {
    fn shape<E>(self, shape: Shape) -> Result<(), E> {
        *self.0 = Raw::Other(shape);
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for RawSeed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for RawSeed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        *self.0 = Raw::Text(Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        *self.0 = Raw::Text(Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.shape(Shape::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.shape(Shape::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.shape(Shape::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.shape(Shape::Number)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.shape(Shape::Null)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<(), S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.shape(Shape::Array)
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.shape(Shape::Object)
    }
}
