//! Names that a grant of several uses gives: a text with one part that differs from machine to machine.
//!
//! Pure. `vm-{n}` numbers machines; `web-{hostname}` takes the name that a machine asks for, within that frame: a name that fits the
//! frame already is taken as it is. The hub alone makes a name of it; whatever a machine asks for, nothing outside the frame
//! can come out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{AgentName, NameError};

/// The part that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Number,
    Hostname,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "{n}",
            Self::Hostname => "{hostname}",
        }
    }
}

/// A template of names: text with exactly one `{n}` or `{hostname}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NameTemplate {
    before: String,
    part: Part,
    after: String,
}

/// Why a text is no template, or gives no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It has no part that differs, or more than one.
    #[error("`{0}` is no template: write one {{n}} or one {{hostname}} in it, as in vm-{{n}} or web-{{hostname}}")]
    Parts(String),
    /// No name can come out of it.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The machine did not say what it is called.
    #[error(
        "the grant names machines after their host names, and this one gave none; set its host name, or `figspan-agent join --name ...`"
    )]
    NoHostname,
}

impl NameTemplate {
    /// Whether machines are numbered; otherwise they are named after what they ask for.
    pub fn is_numbered(&self) -> bool {
        self.part == Part::Number
    }

    /// The name with that number.
    pub fn numbered(&self, number: u32) -> Result<AgentName, TemplateError> {
        Ok(self.with(&number.to_string()).parse()?)
    }

    /// The name of a machine that asks to be called so.
    pub fn named(&self, wanted: Option<&str>) -> Result<AgentName, TemplateError> {
        let wanted = wanted.filter(|wanted| !wanted.is_empty()).ok_or(TemplateError::NoHostname)?;
        let inner = wanted.strip_prefix(&self.before).and_then(|rest| rest.strip_suffix(&self.after)).filter(|inner| !inner.is_empty());
        Ok(self.with(inner.unwrap_or(wanted)).parse()?)
    }

    fn with(&self, part: &str) -> String {
        format!("{}{part}{}", self.before, self.after)
    }
}

impl FromStr for NameTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let wrong = || TemplateError::Parts(text.chars().take(80).filter(|c| !c.is_control()).collect());
        let found = [Part::Number, Part::Hostname].into_iter().find_map(|part| Some((part, text.split_once(part.as_str())?)));
        let (part, (before, after)) = found.ok_or_else(wrong)?;
        if before.contains(['{', '}']) || after.contains(['{', '}']) {
            return Err(wrong());
        }
        let template = Self { before: before.to_owned(), part, after: after.to_owned() };
        // With a digit in its place, a template is checked like the names that it stands for.
        template.numbered(1)?;
        Ok(template)
    }
}

impl TryFrom<String> for NameTemplate {
    type Error = TemplateError;
    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl From<NameTemplate> for String {
    fn from(template: NameTemplate) -> Self {
        template.to_string()
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.with(self.part.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(text: &str) -> NameTemplate {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_and_host_names_fill_the_frame() {
        assert_eq!(template("vm-{n}").numbered(17).unwrap().as_str(), "vm-17");
        let web = template("web-{hostname}.eu1");
        assert_eq!(web.named(Some("a7")).unwrap().as_str(), "web-a7.eu1");
        assert_eq!(web.named(Some("web-a7.eu1")).unwrap().as_str(), "web-a7.eu1", "what fits is taken as it is");
        assert_eq!(web.named(None), Err(TemplateError::NoHostname));
        assert!(web.named(Some("../x")).is_err() && web.named(Some(&"a".repeat(63))).is_err());
    }

    #[test]
    fn a_template_has_one_part_and_gives_names() {
        for bad in [
            "",
            "vm-1",
            "vm-{n}-{n}",
            "{n}{hostname}",
            "vm-{name}",
            "{n}}",
            "VM-{n}",
            "-{n}",
            "a b{n}",
            &format!("{}{{n}}", "a".repeat(63)),
        ] {
            assert!(bad.parse::<NameTemplate>().is_err(), "{bad}");
        }
        assert_eq!(template("{hostname}").to_string(), "{hostname}");
    }

    proptest! {
        #[test]
        fn nothing_outside_the_frame_comes_out(wanted in ".{0,80}") {
            if let Ok(name) = template("web-{hostname}-x").named(Some(&wanted)) {
                prop_assert!(name.as_str().starts_with("web-") && name.as_str().ends_with("-x"));
            }
        }

        #[test]
        fn a_template_reads_back_as_written(text in "[a-z{}n]{0,12}") {
            if let Ok(template) = text.parse::<NameTemplate>() {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}
