//! The part of crm_mon's XML that applies here: the DC, its quorum, and the nodes.

use std::io;

use quick_xml::Writer;
use quorate_client::Answer;

use crate::Failure;

/// The version of the schema for these elements and attributes (Pacemaker 2.1.5).
const SCHEMA: &str = "2.25";

type Document = Writer<Vec<u8>>;

/// Formats the status as `crm_mon -1 --output-as=xml` does. Features that do not exist here
/// (standby, maintenance, fencing, resources) have the values of a cluster that uses none of them.
pub(super) fn document(answer: &Answer, updated: &str) -> Result<String, Failure> {
    result(|xml| {
        xml.create_element("summary").write_inner_content(|xml| summary(xml, answer, updated))?;
        xml.create_element("nodes").write_inner_content(|xml| nodes(xml, answer))?;
        status(xml, "0", "OK").write_empty()?;
        Ok(())
    })
}

/// Returns the output of crm_mon where no cluster runs.
pub(super) fn not_connected(why: &str) -> Result<String, Failure> {
    result(|xml| {
        status(xml, "102", "Not connected").write_inner_content(|xml| {
            xml.create_element("errors").write_inner_content(|xml| {
                xml.create_element("error").write_text_content(quick_xml::events::BytesText::new(why))?;
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    })
}

fn result(content: impl FnOnce(&mut Document) -> io::Result<()>) -> Result<String, Failure> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.create_element("pacemaker-result")
        .with_attributes([("api-version", SCHEMA), ("request", "quorate status --format xml")])
        .write_inner_content(content)
        .map_err(|error| Failure::new(format!("cannot write the answer as XML: {error}")))?;
    let mut text = String::from_utf8_lossy(&xml.into_inner()).into_owned();
    text.push('\n');
    Ok(text)
}

fn status<'a>(
    xml: &'a mut Document,
    code: &'a str,
    message: &'a str,
) -> quick_xml::writer::ElementWriter<'a, Vec<u8>> {
    xml.create_element("status").with_attributes([("code", code), ("message", message)])
}

fn summary(xml: &mut Document, answer: &Answer, updated: &str) -> io::Result<()> {
    let status = &answer.status;
    let mut element = |name: &str, attributes: &[(&str, &str)]| {
        let attributes = attributes.iter().copied();
        xml.create_element(name).with_attributes(attributes).write_empty().map(|_| ())
    };
    element("stack", &[("type", "quorate")])?;
    match status.dc {
        Some(dc) => element(
            "current_dc",
            &[
                ("present", "true"),
                ("version", env!("CARGO_PKG_VERSION")),
                ("name", &status.name(dc)),
                ("id", &dc.to_string()),
                ("with_quorum", truth(status.quorate)),
                ("mixed_version", "false"),
            ],
        )?,
        None => element("current_dc", &[("present", "false")])?,
    }
    element("last_update", &[("time", updated), ("origin", &answer.name)])?;
    element("nodes_configured", &[("number", &status.nodes.len().to_string())])?;
    element("resources_configured", &[("number", "0"), ("disabled", "0"), ("blocked", "0")])
}

fn nodes(xml: &mut Document, answer: &Answer) -> io::Result<()> {
    for node in &answer.status.nodes {
        let id = node.id.to_string();
        let is_dc = answer.status.dc == Some(node.id);
        let attributes = [
            ("name", node.name.as_str()),
            ("id", &id),
            ("online", truth(node.online)),
            ("standby", "false"),
            ("standby_onfail", "false"),
            ("maintenance", "false"),
            ("pending", truth(node.online && !answer.status.settled)),
            ("unclean", "false"),
            ("shutdown", "false"),
            ("expected_up", "true"),
            ("is_dc", truth(is_dc)),
            ("resources_running", "0"),
            ("type", "member"),
        ];
        xml.create_element("node").with_attributes(attributes).write_empty()?;
    }
    Ok(())
}

fn truth(it_is: bool) -> &'static str {
    if it_is { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{inquorate, quorate};

    const NODE: &str = r#"standby="false" standby_onfail="false" maintenance="false" pending="false" unclean="false" shutdown="false" expected_up="true""#;

    #[test]
    fn the_elements_are_those_of_crm_mon() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            document(&quorate(), "Sun Nov 22 07:03:13 2026").unwrap_or_else(|failure| panic!("{failure}")),
            format!(
                r#"<pacemaker-result api-version="2.25" request="quorate status --format xml">
  <summary>
    <stack type="quorate"/>
    <current_dc present="true" version="{version}" name="n1" id="1" with_quorum="true" mixed_version="false"/>
    <last_update time="Sun Nov 22 07:03:13 2026" origin="n1"/>
    <nodes_configured number="3"/>
    <resources_configured number="0" disabled="0" blocked="0"/>
  </summary>
  <nodes>
    <node name="n1" id="1" online="true" {NODE} is_dc="true" resources_running="0" type="member"/>
    <node name="n2" id="2" online="false" {NODE} is_dc="false" resources_running="0" type="member"/>
    <node name="n3" id="3" online="true" {NODE} is_dc="false" resources_running="0" type="member"/>
  </nodes>
  <status code="0" message="OK"/>
</pacemaker-result>
"#
            )
        );
    }

    #[test]
    fn names_and_reasons_are_escaped() {
        let mut answer = inquorate();
        answer.status.nodes[0].name = "a<b>&\"c\"".into();
        let text = document(&answer, "now").unwrap_or_else(|failure| panic!("{failure}"));
        assert!(
            text.contains(r#" name="a&lt;b&gt;&amp;&quot;c&quot;" id="1" with_quorum="false""#),
            "{text}"
        );
        let text = not_connected("no <node>").unwrap_or_else(|failure| panic!("{failure}"));
        assert!(text.contains("<error>no &lt;node&gt;</error>"), "{text}");
        assert!(text.contains(r#"<status code="102" message="Not connected">"#), "{text}");
    }
}
