//! Names that a grant leaves open: what a machine asks for, or what a template makes of it.
//!
//! Pure. Promises that such a grant gives a name that nobody has or had: whoever holds one can never take another's place with it.

use figspan_proto::join::RefusedReason;
use figspan_proto::name::{AgentName, NameError};
use figspan_proto::template::NameTemplate;

use super::{Denial, Ledger};

/// Numbers that are tried at most. Far above the agents that one hub serves, and below what a look through them may take.
const MAX_NUMBER: u32 = 100_000;

impl Ledger {
    /// The name for whoever redeems a grant that names nobody.
    pub(super) fn open_name(&self, template: Option<&NameTemplate>, wanted: Option<&str>) -> Result<AgentName, Denial> {
        match template {
            Some(template) if template.is_numbered() => self.next_number(template),
            Some(template) => self.free(template.named(wanted).map_err(|error| denial(error.to_string()))?),
            None => {
                let wanted = wanted
                    .ok_or_else(|| denial("the grant leaves the name open; say which (`figspan-agent join --name ...`)".to_owned()))?;
                self.free(wanted.parse().map_err(|error: NameError| denial(error.to_string()))?)
            }
        }
    }

    fn free(&self, name: AgentName) -> Result<AgentName, Denial> {
        if self.is_taken(&name) {
            let mend = format!("take another, or have a grant made for it: `figspanctl grant create {name}`");
            return Err(denial(format!("the name {name} is taken; {mend}")));
        }
        Ok(name)
    }

    /// The lowest number whose name nobody has or had.
    fn next_number(&self, template: &NameTemplate) -> Result<AgentName, Denial> {
        for number in 1..=MAX_NUMBER {
            let name = template.numbered(number).map_err(|error| denial(error.to_string()))?;
            if !self.is_taken(&name) {
                return Ok(name);
            }
        }
        Err(denial(format!("{MAX_NUMBER} names of {template} are taken; make a grant with another template")))
    }

    fn is_taken(&self, name: &AgentName) -> bool {
        self.agents.contains_key(name) || self.revoked.contains_key(name)
    }
}

fn denial(why: String) -> Denial {
    Denial(RefusedReason::Name, why)
}
