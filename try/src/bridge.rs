//! Everything brought up together: workloads, hub, agents, joined; and taken down again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use figspan_ctl::{Client, Proof, Target};
use figspan_ledger::{Ledger, Workload};
use figspan_proto::admin::{ConfigStatus, CreateGrant, CreatedGrant, ResetWeight, SetWeight, Status, Uplink, WeightChange};
use figspan_proto::name::UplinkName;
use figspan_proto::weight::Weight;
use http::Method;
use tokio::time::Instant;

use crate::agents::AgentProcess;
use crate::args::Plan;
use crate::config::{self, Written};
use crate::hub::Hub;

/// Longest wait for the hub to be up, for agents to join, for a weight to be live on every shard.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const EVERY: Duration = Duration::from_millis(20);

/// A hub, its agents and their workloads.
pub(crate) struct Bridge {
    pub(crate) plan: Plan,
    pub(crate) client: Client,
    /// Where clients send requests.
    pub(crate) listen: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) agents: Vec<AgentProcess>,
    pub(crate) hub: Hub,
    /// Our own monolith, one for each agent; empty where the workloads were given.
    pub(crate) monoliths: Vec<Workload>,
    pub(crate) ledger: Arc<Ledger>,
    services: Vec<(UplinkName, Vec<String>)>,
    /// Our own `orders`; kept alive.
    _orders: Vec<Workload>,
    dir: PathBuf,
    /// Removes the directory, unless it was asked for.
    _scratch: Option<tempfile::TempDir>,
}

impl Bridge {
    /// Brings everything up and waits until every agent has joined. `written`: weights in the first hub.toml.
    pub(crate) async fn start(plan: Plan, written: Written) -> anyhow::Result<Self> {
        let (dir, scratch) = directory(&plan)?;
        let ledger = Arc::new(Ledger::default());
        let (mut monoliths, mut orders, mut uplinks, mut services) = (vec![], vec![], plan.uplinks.clone(), plan.services.clone());
        if plan.own {
            for agent in 1..=plan.agents {
                monoliths.push(Workload::start("monolith", &format!("vm-{agent}"), Arc::clone(&ledger))?);
            }
            orders.push(Workload::start("orders", "cluster", Arc::clone(&ledger))?);
            let addresses = |workloads: &[Workload]| workloads.iter().map(|workload| workload.address.to_string()).collect();
            uplinks.iter_mut().for_each(|(_, given)| *given = addresses(&monoliths));
            services.iter_mut().for_each(|(_, given)| *given = addresses(&orders));
        }
        let file = dir.join("hub.toml");
        write(&file, &config::hub(&plan, &dir, plan.listen, &services, written))?;
        let hub = Hub::start(&file).context("the hub did not start")?;
        let socket = dir.join("admin.sock");
        let client = Client::new(Target::Unix(socket.clone()), "figspan-try", &Proof::default())?;
        let (listen, tunnel) = (hub.listener(config::LISTENER)?, hub.tunnel());

        let mut agents = Vec::new();
        for number in 0..plan.agents {
            let name = format!("vm-{}", number + 1).parse().context("the names of agents are names")?;
            let own: Vec<_> =
                uplinks.iter().map(|(name, given)| (name.clone(), given[number % given.len()].clone(), plan.weight(name))).collect();
            let agent_dir = dir.join("agents").join(format!("vm-{}", number + 1));
            agents.push(AgentProcess::prepare(name, agent_dir.clone(), &config::agent(&agent_dir, tunnel, &own, plan.own))?);
        }
        let mut bridge =
            Self { plan, client, listen, socket, agents, hub, monoliths, ledger, services, _orders: orders, dir, _scratch: scratch };
        if !bridge.plan.uplinks.is_empty() {
            bridge.join().await?;
        }
        Ok(bridge)
    }

    async fn join(&mut self) -> anyhow::Result<()> {
        for number in 0..self.agents.len() {
            let token = if self.agents[number].has_joined() { None } else { Some(self.grant(number).await?) };
            self.agents[number].start(token.as_deref())?;
        }
        self.until_connected().await?;
        self.agents.iter().for_each(AgentProcess::joined);
        Ok(())
    }

    async fn grant(&self, number: usize) -> anyhow::Result<String> {
        let mut uplinks = Vec::new();
        for (name, _) in &self.plan.uplinks {
            uplinks.push(name.as_str().parse().context("a name is a pattern for itself")?);
        }
        let agent = Some(self.agents[number].name.clone());
        let grant = CreateGrant {
            agent,
            name_template: None,
            uplinks,
            services: Vec::new(),
            ttl_seconds: 120,
            uses: 1,
            hubs: vec![self.hub.tunnel().to_string()],
            dry_run: false,
        };
        let created: CreatedGrant = self.client.send(Method::POST, "/v1/grants", &grant).await?;
        Ok(created.token)
    }

    /// Waits until every agent is connected and every uplink known on all of them.
    pub(crate) async fn until_connected(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for agent in &mut self.agents {
                agent.check()?;
            }
            let uplinks: Vec<Uplink> = self.client.get("/v1/uplinks").await?;
            let joined = |uplink: &Uplink| uplink.endpoints.iter().filter(|endpoint| endpoint.tunnels > 0).count() == self.agents.len();
            let all = self.plan.uplinks.iter().all(|(name, _)| uplinks.iter().any(|uplink| uplink.name == *name && joined(uplink)));
            if all {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let logs: Vec<_> = self.agents.iter().map(|agent| format!("{}:\n{}", agent.name, agent.log_tail())).collect();
                bail!("not every agent connected within {PATIENCE:?}; their logs say:\n{}", logs.join("\n"));
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Takes back what an operator said about weights in an earlier run with the same --state-dir.
    pub(crate) async fn forget_overrides(&self) -> anyhow::Result<()> {
        let uplinks: Vec<Uplink> = self.client.get("/v1/uplinks").await?;
        for uplink in uplinks.iter().filter(|uplink| uplink.weight_override.is_some()) {
            let reset = ResetWeight { agent: None, reason: "figspan-try: begins anew".to_owned(), dry_run: false };
            let _: WeightChange = self.client.send(Method::DELETE, &format!("/v1/uplinks/{}/weight", uplink.name), &reset).await?;
        }
        Ok(())
    }

    /// Waits until every uplink is ready on every agent; says why not otherwise.
    pub(crate) async fn until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let uplinks: Vec<Uplink> = self.client.get("/v1/uplinks").await?;
            let waiting: Vec<_> = uplinks
                .iter()
                .flat_map(|uplink| uplink.endpoints.iter().map(move |endpoint| (uplink, endpoint)))
                .filter(|(_, endpoint)| !endpoint.accepts)
                .map(|(uplink, endpoint)| format!("{} on {}: {}", uplink.name, endpoint.agent, endpoint.reason))
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("not ready after {PATIENCE:?}: {}", waiting.join("; "));
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Writes other weights into hub.toml, has the hub load it, and waits until every shard works with it.
    pub(crate) async fn rewrite(&self, written: Written) -> anyhow::Result<()> {
        write(&self.dir.join("hub.toml"), &config::hub(&self.plan, &self.dir, self.plan.listen, &self.services, written))?;
        let config: ConfigStatus = self.client.send(Method::POST, "/v1/reload", &()).await?;
        if !config.errors.is_empty() {
            bail!("the hub refused hub.toml: {}", config.errors.join("; "));
        }
        let status: Status = self.client.get("/v1/status").await?;
        self.until_effective(status.generation).await
    }

    /// Sets an operator's weight and waits until every shard works with it.
    pub(crate) async fn weigh(&self, uplink: &UplinkName, weight: Weight, reason: &str) -> anyhow::Result<()> {
        let change = SetWeight { sessions_seconds: None, weight, agent: None, reason: reason.to_owned(), dry_run: false };
        let change: WeightChange = self.client.send(Method::PUT, &format!("/v1/uplinks/{uplink}/weight"), &change).await?;
        self.until_effective(change.generation.unwrap_or(0)).await
    }

    async fn until_effective(&self, generation: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status: Status = self.client.get("/v1/status").await?;
            if status.oldest_generation >= generation {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("a shard still works with generation {}, not {generation}", status.oldest_generation);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes everything down, agents first. Returns what did not end well.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for agent in &mut self.agents {
            faults.extend(agent.stop().await.err().map(|error| format!("{error:#}")));
        }
        self.hub.stop().await;
        faults
    }
}

/// The directory for state and logs, private to this user.
fn directory(plan: &Plan) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(dir) = &plan.state_dir {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
        return Ok((dir, None));
    }
    let scratch = tempfile::Builder::new().prefix("figspan-try-").tempdir().context("cannot make a temporary directory")?;
    Ok((scratch.path().to_owned(), Some(scratch)))
}

/// Replaces a file in one step, so that the hub's watcher never reads half of it.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file)).with_context(|| format!("cannot write {}", file.display()))
}
