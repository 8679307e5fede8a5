//! The two bodies of an e-mail: plain text, and HTML with everything from outside escaped.

use std::borrow::Cow;
use std::fmt::{self, Display};

use crate::language::{Language, Notice};
use crate::{Line, Order};

pub(crate) fn text(language: &Language, notice: Notice, order: &Order<'_>) -> String {
    fmt::from_fn(|out| write_text(out, language, notice, order)).to_string()
}

fn write_text(
    out: &mut fmt::Formatter<'_>,
    language: &Language,
    notice: Notice,
    order: &Order<'_>,
) -> fmt::Result {
    writeln!(out, "{}\n", greeting(language, order))?;
    writeln!(out, "{}", language.lead(notice))?;
    if let Some(reason) = language.decline_reason(order.decline_reason.as_deref()) {
        writeln!(out, "{reason}")?;
    }
    writeln!(out)?;
    for line in &order.lines {
        writeln!(out, "{} x {}: {}", line.quantity, one_line(title(line)), one_line(&line.line_total))?;
    }
    writeln!(out, "{}: {}\n", language.total, one_line(&order.total))?;
    writeln!(out, "{}: {}", language.transaction, one_line(&order.transaction_id))
}

pub(crate) fn html(language: &Language, notice: Notice, order: &Order<'_>) -> String {
    fmt::from_fn(|out| write_html(out, language, notice, order)).to_string()
}

fn write_html(
    out: &mut fmt::Formatter<'_>,
    language: &Language,
    notice: Notice,
    order: &Order<'_>,
) -> fmt::Result {
    let subject = language.subject(notice, &order.order_id);
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"{}\">", language.code)?;
    writeln!(out, "<head><meta charset=\"utf-8\"><title>{}</title></head>\n<body>", Escaped(&subject))?;
    writeln!(out, "<p>{}</p>", Escaped(&greeting(language, order)))?;
    writeln!(out, "<p>{}</p>", Escaped(language.lead(notice)))?;
    if let Some(reason) = language.decline_reason(order.decline_reason.as_deref()) {
        writeln!(out, "<p>{}</p>", Escaped(reason))?;
    }
    writeln!(out, "<table>")?;
    for line in &order.lines {
        let (quantity, title, total) = (line.quantity, Escaped(title(line)), Escaped(&line.line_total));
        writeln!(out, "<tr><td>{quantity} × {title}</td><td align=\"right\">{total}</td></tr>")?;
    }
    writeln!(
        out,
        "<tr><th align=\"left\">{}</th><th align=\"right\">{}</th></tr>\n</table>",
        Escaped(language.total),
        Escaped(&order.total)
    )?;
    writeln!(out, "<p>{}: {}</p>", Escaped(language.transaction), Escaped(&order.transaction_id))?;
    writeln!(out, "</body>\n</html>")
}

fn greeting(language: &Language, order: &Order<'_>) -> String {
    match order.customer.name.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => language.greeting.replace("{name}", &one_line(name)),
        None => language.nameless_greeting.into(),
    }
}

fn title<'a>(line: &'a Line<'_>) -> &'a str {
    line.name.as_deref().unwrap_or(&line.sku)
}

/// A name with line breaks could otherwise add whole paragraphs to a letter that we sign.
fn one_line(value: &str) -> Cow<'_, str> {
    match value.contains(char::is_control) {
        true => value.replace(char::is_control, " ").into(),
        false => value.into(),
    }
}

/// Text that shows as itself in HTML, in element content and in quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_escaped_and_other_text_is_left_alone() {
        assert_eq!(Escaped("").to_string(), "");
        assert_eq!(Escaped("Crème brûlée × 2").to_string(), "Crème brûlée × 2");
        assert_eq!(
            Escaped(r#"<img src="x" onerror='f()'> & é"#).to_string(),
            "&lt;img src=&quot;x&quot; onerror=&#39;f()&#39;&gt; &amp; é"
        );
    }

    #[test]
    fn what_was_escaped_already_is_escaped_again() {
        assert_eq!(Escaped("&lt;").to_string(), "&amp;lt;");
    }
}
