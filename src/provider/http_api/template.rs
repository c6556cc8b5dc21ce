//! Texts with values in them: `{{ expression }}`, as minijinja reads it.
//!
//! Only expressions over the given variables: no statement, no function, no file and no product, so that a template can
//! neither loop nor grow. Its variables and its syntax are checked at the start.

use std::borrow::Cow;
use std::sync::LazyLock;

use minijinja::{Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value};

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("utf16_hex", |text: &str| -> Result<String, Error> {
        // A chain of filters grows by four each.
        if text.encode_utf16().count() > RENDERED_BYTES_MAX / 4 {
            return Err(Error::new(ErrorKind::InvalidOperation, "the text is too long"));
        }
        Ok(text.encode_utf16().map(|unit| format!("{unit:04X}")).collect())
    });
    environment
});

const BYTES_MAX: usize = 4 * 1024;
/// More than the longest text, in hexadecimal digits.
const RENDERED_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Template(Vec<Part>);

enum Part {
    Literal(Box<str>),
    Value { expression: Expression<'static, 'static>, names: Vec<String> },
}

/// A template that cannot be filled with the values of a message. It holds nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CannotFill;

impl Template {
    /// The problem has the form of "must …" or "names …".
    pub(super) fn parse(text: &str, variables: &[&str]) -> Result<Template, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("must have at most {BYTES_MAX} bytes"));
        }
        if text.contains("{%") || text.contains("{#") {
            return Err("must have no statement and no comment: only {{ … }}".to_owned());
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((literal, after)) = rest.split_once("{{") {
            let (source, after) =
                after.split_once("}}").ok_or_else(|| "must have }} after each {{".to_owned())?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            parts.push(value(source.trim(), variables)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Template(parts))
    }

    pub(super) fn uses(&self, name: &str) -> bool {
        let is_used = |part: &Part| match part {
            Part::Literal(_) => false,
            Part::Value { names, .. } => names.iter().any(|known| known == name),
        };
        self.0.iter().any(is_used)
    }

    /// The value of a template that is one expression, which keeps its type.
    pub(super) fn only_value(&self, values: &Value) -> Option<Result<Value, CannotFill>> {
        match &self.0[..] {
            [Part::Value { expression, .. }] => Some(expression.eval(values.clone()).map_err(cannot_fill)),
            _ => None,
        }
    }

    /// The text; `None` if the template is one expression whose value is `none`.
    pub(super) fn text(&self, values: &Value) -> Result<Option<String>, CannotFill> {
        match self.only_value(values) {
            Some(value) => {
                let value = value?;
                if value.is_none() { Ok(None) } else { shown(&value).map(|text| Some(text.into_owned())) }
            }
            None => self.filled(values, |text| Cow::Borrowed(text)).map(Some),
        }
    }

    /// The text, with each value escaped.
    pub(super) fn filled(
        &self,
        values: &Value,
        escape: impl Fn(&str) -> Cow<'_, str>,
    ) -> Result<String, CannotFill> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Value { expression, .. } => {
                    let value = expression.eval(values.clone()).map_err(cannot_fill)?;
                    text.push_str(&escape(&shown(&value)?));
                }
            }
        }
        if text.len() > RENDERED_BYTES_MAX { Err(CannotFill) } else { Ok(text) }
    }
}

fn value(source: &str, variables: &[&str]) -> Result<Part, String> {
    if source.contains('*') {
        return Err("must have no *, which could make a text of any length".to_owned());
    }
    let expression = ENVIRONMENT.compile_expression_owned(source.to_owned()).map_err(|error| {
        let detail = error.detail().unwrap_or("it is no expression").to_owned();
        format!("cannot be read as a template: {detail}")
    })?;
    let mut names: Vec<String> = expression.undeclared_variables(false).into_iter().collect();
    names.sort_unstable();
    match names.iter().find(|name| !variables.contains(&name.as_str())) {
        Some(unknown) => {
            let known = variables.join(", ");
            Err(format!("names `{unknown}`, which is no variable here; there are {known}"))
        }
        None => Ok(Part::Value { expression, names }),
    }
}

/// A text, a number or a truth value.
fn shown(value: &Value) -> Result<Cow<'_, str>, CannotFill> {
    match value.as_str() {
        Some(text) => Ok(Cow::Borrowed(text)),
        None if value.is_number() => Ok(Cow::Owned(value.to_string())),
        None => match bool::try_from(value.clone()) {
            Ok(truth) => Ok(Cow::Borrowed(if truth { "true" } else { "false" })),
            Err(_) => Err(CannotFill),
        },
    }
}

fn cannot_fill(_: Error) -> CannotFill {
    CannotFill
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    const VARIABLES: [&str; 3] = ["text", "seconds", "unicode"];

    fn filled(template: &str) -> Result<Option<String>, CannotFill> {
        let values = context! { text => "año", seconds => 600, unicode => true };
        Template::parse(template, &VARIABLES).expect("a template").text(&values)
    }

    #[test]
    fn values_stand_in_a_text() {
        for (template, expected) in [
            ("plain", Some("plain")),
            ("{{ text }}", Some("año")),
            ("<{{ text }}|{{ seconds }}>", Some("<año|600>")),
            ("{{ 'unicode' if unicode else none }}", Some("unicode")),
            ("{{ none if unicode else 'x' }}", None),
            ("{{ text | utf16_hex }}", Some("006100F1006F")),
            ("{{ 8 if unicode else 0 }}", Some("8")),
            ("{{ unicode }}", Some("true")),
        ] {
            assert_eq!(filled(template), Ok(expected.map(str::to_owned)), "{template}");
        }
        assert_eq!(filled("a{{ none }}"), Err(CannotFill));
        assert_eq!(filled("{{ [text] }}"), Err(CannotFill));
    }

    #[test]
    fn a_template_reaches_nothing_but_its_variables_and_cannot_loop() {
        for (template, problem) in [
            ("{{ secret }}", "names `secret`"),
            ("{{ range(9) }}", "names `range`"),
            ("{{ 'x' * 99999999 }}", "no *"),
            ("{% for c in text %}x{% endfor %}", "no statement"),
            ("{% include 'x' %}", "no statement"),
            ("{# x #}", "no statement"),
            ("{{ text", "}} after each {{"),
            ("{{ }}", "cannot be read"),
            ("{{ text | }}", "cannot be read"),
        ] {
            let refused = Template::parse(template, &VARIABLES).err().expect(template);
            assert!(refused.contains(problem), "{template}: {refused}");
        }
        assert_eq!(filled("{{ text | nothing }}"), Err(CannotFill));
        let chain = "| utf16_hex ".repeat(300);
        assert_eq!(filled(&format!("{{{{ text {chain}}}}}")), Err(CannotFill));
        assert!(Template::parse(&"x".repeat(5_000), &VARIABLES).is_err());
    }
}
