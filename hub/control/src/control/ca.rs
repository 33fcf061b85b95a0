//! Operators and the CA: how it stands, and the two steps of its change.

use std::sync::Arc;

use figspan_proto::admin::{BeginCaChange, Ca, CaChange, FinishCaChange, Problem};
use figspan_proto::control::plain;
use figspan_proto::name::AgentName;

use super::Control;
use crate::core::Core;
use crate::events::Note;
use crate::problem;
use crate::trust::{Trust, TrustError};

/// Agents named in a refusal; the rest is counted.
const NAMED: usize = 10;

impl Control {
    /// The CA, and how a change of it stands.
    pub async fn ca(&self) -> Result<Ca, Problem> {
        let (untold, on_old_root) = self.ask(|core| (core.without_roots(), core.on_old_root())).await?;
        let trust = &self.0.context.trust;
        let changing = trust.changing();
        Ok(Ca {
            given: trust.is_given(),
            changing,
            roots: trust.roots_view(),
            certificate_lifetime: trust.lifetime().as_secs(),
            safe_to_finish: changing && untold.is_empty(),
            untold,
            on_old_root,
        })
    }

    /// Starts a change of the CA: a second root is made, told to all agents, and trusted from now on. The old one still issues.
    pub async fn begin_ca_change(&self, change: BeginCaChange, who: &str) -> Result<CaChange, Problem> {
        let BeginCaChange { reason, dry_run } = change;
        self.0.context.trust.may_begin().map_err(refused)?;
        if !dry_run {
            self.change_ca(who, "began a change of the CA", &reason, Trust::begin_change).await?;
        }
        Ok(CaChange { ca: self.ca().await?, left_behind: Vec::new(), dry_run })
    }

    /// Issues from the new CA from now on; the old root stays trusted until its last leaf has ended. Refused while agents may
    /// not know the new root, unless forced: those would have to join again.
    pub async fn finish_ca_change(&self, change: FinishCaChange, who: &str) -> Result<CaChange, Problem> {
        let FinishCaChange { force, reason, dry_run } = change;
        self.0.context.trust.may_finish().map_err(refused)?;
        let left_behind = self.ask(|core| core.without_roots()).await?;
        if !left_behind.is_empty() && !force {
            let detail = format!(
                "{} agents may not know the new root and would have to join again: {}; wait for them, revoke them, or force it",
                left_behind.len(),
                some(&left_behind)
            );
            return Err(problem::conflict("cannot finish the CA change", detail));
        }
        if !dry_run {
            let did = match left_behind.as_slice() {
                [] => "finished the change of the CA".to_owned(),
                left => format!("finished the change of the CA by force, leaving behind {} ({})", left.len(), some(left)),
            };
            self.change_ca(who, &did, &reason, Trust::finish_change).await?;
        }
        Ok(CaChange { ca: self.ca().await?, left_behind, dry_run })
    }

    async fn change_ca(&self, who: &str, did: &str, reason: &str, step: fn(&Trust) -> Result<(), TrustError>) -> Result<(), Problem> {
        let context = Arc::clone(&self.0.context);
        let (who, did, reason) = (plain(who), did.to_owned(), plain(reason));
        let work = async move {
            let trusted = Arc::clone(&context);
            let old = context.trust.pins().join(", ");
            let stepped = tokio::task::spawn_blocking(move || step(&trusted.trust)).await.map_err(|_| problem::ending())?;
            stepped.map_err(refused)?;
            let new = context.trust.pins().join(", ");
            context.writer.ask(Core::tell_roots_to_all).await?;
            let note = Note::new("ca", &context.trust_domain, &who, format!("{who} {did}: {reason}"));
            context.events.record_on_disk(note.change(old, new)).await;
            Ok(())
        };
        self.0.context.to_the_end(work).await?
    }
}

fn refused(error: TrustError) -> Problem {
    problem::conflict("cannot change the CA", error)
}

fn some(names: &[AgentName]) -> String {
    let mut text = names.iter().take(NAMED).map(AgentName::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}
