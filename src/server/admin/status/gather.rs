//! The whole cluster from one node: asks every other member for its figures, over HTTP, all at once.
//!
//! Answers are kept for [`KEPT`], and one gathering serves everybody who asks meanwhile, so that many open pages cost
//! the cluster no more than one. A member that does not answer in time is shown without figures, and with the reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::local::digest;
use super::{ClusterStatus, Condition, Member, NodeFigures, RingStatus, advice, figures};
use crate::base::ids::{NodeId, SLOT_COUNT};
use crate::ring::{Row, RowState};
use crate::server::admin::Admin;
use crate::server::admin::fetch::fetch;
use crate::server::state::snapshot::ClusterSnapshot;

/// How long an answer serves everybody who asks.
const KEPT: Duration = Duration::from_millis(500);
/// How long a member may take.
const ANSWER_DEADLINE: Duration = Duration::from_millis(700);
/// Members that are asked at the same time.
const ASKED_MAX: usize = 32;

/// See the head of the file.
#[derive(Default)]
pub struct Gatherer {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<(Instant, Arc<ClusterStatus>)>,
}

type Answers = BTreeMap<NodeId, Result<NodeFigures, String>>;

impl Gatherer {
    /// The cluster now, or as it was up to half a second ago.
    pub async fn status(&self, admin: &Admin) -> Arc<ClusterStatus> {
        let mut state = self.state.lock().await;
        if let Some((_, status)) = state.last.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return status.clone();
        }
        let snapshot = admin.shared.node.snapshot.load_full();
        let members: Vec<&Row> = snapshot.rows.iter().filter(|row| row.state.is_member()).collect();
        let mut answers = ask_others(&snapshot, &members).await;
        answers.insert(snapshot.this, Ok(figures(admin)));
        let status = Arc::new(assemble(admin, &snapshot, &members, answers));
        state.last = Some((Instant::now(), status.clone()));
        status
    }
}

async fn ask_others(snapshot: &ClusterSnapshot, members: &[&Row]) -> Answers {
    let (mut answers, mut asked) = (Answers::new(), JoinSet::new());
    for row in members.iter().filter(|row| row.id != snapshot.this) {
        if asked.len() == ASKED_MAX {
            take_answer(asked.join_next().await, &mut answers);
        }
        let (id, host, port) = (row.id, row.host.clone(), row.admin_port);
        asked.spawn(async move { (id, ask(&host, port).await) });
    }
    while let Some(answer) = asked.join_next().await {
        take_answer(Some(answer), &mut answers);
    }
    answers
}

type Joined = Option<Result<(NodeId, Result<NodeFigures, String>), tokio::task::JoinError>>;

fn take_answer(answer: Joined, answers: &mut Answers) {
    if let Some(Ok((id, answer))) = answer {
        answers.insert(id, answer);
    }
}

async fn ask(host: &str, port: u16) -> Result<NodeFigures, String> {
    if port == 0 {
        return Err("its admin-port is off".into());
    }
    let body = fetch(host, port, "/status/node", ANSWER_DEADLINE).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|error| format!("its figures make no sense: {error}"))
}

fn assemble(admin: &Admin, snapshot: &ClusterSnapshot, rows: &[&Row], mut answers: Answers) -> ClusterStatus {
    let node = &admin.shared.node;
    let settings = node.config.settings();
    let now_ms = node.store.clock.now_ms();
    let (conditions, slot_counts) = (conditions(admin, snapshot, rows), slot_counts(snapshot));
    let giving_up: BTreeSet<String> =
        answers.values().flatten().flat_map(|figures| figures.giving_up.iter().cloned()).collect();
    let mut nodes: Vec<Member> = Vec::with_capacity(rows.len());
    for row in rows {
        let answer = answers.remove(&row.id).unwrap_or_else(|| Err("it was not asked".into()));
        let condition = conditions.get(&row.id).copied().unwrap_or(Condition::Down);
        let down_since = snapshot.down_since.get(&row.id).filter(|_| condition == Condition::Down);
        let (slots_held, slots_coordinated) = slot_counts.get(&row.id).copied().unwrap_or_default();
        nodes.push(Member {
            id: row.id.to_string(),
            name: row.shown_name(),
            host: row.host.clone(),
            port: row.port,
            cluster_port: row.cluster_port,
            admin_port: row.admin_port,
            peer_addr: row.peer_addr.to_string(),
            zone: row.zone.clone(),
            weight: row.weight,
            condition,
            down_s: down_since.map(|since| now_ms.saturating_sub(*since) / 1_000),
            given_up: giving_up.contains(&row.id.to_string()),
            slots_held,
            slots_coordinated,
            silent: answer.as_ref().err().cloned(),
            figures: answer.ok(),
        });
    }
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let digests: Vec<&String> = nodes.iter().filter_map(|it| it.figures.as_ref()).map(|it| &it.ring_digest).collect();
    let ring = RingStatus {
        digest: digest(snapshot.figures.digest),
        agreed: digests.windows(2).all(|pair| pair.first() == pair.last()),
        members: nodes.len(),
        up: nodes.iter().filter(|it| it.condition == Condition::Up).count(),
        replicas: settings.replicas,
        write_quorum: settings.write_quorum,
        read_quorum: settings.read_quorum,
        quorum_mode: settings.quorum_mode.name().into(),
        slots_unserved: SLOT_COUNT - snapshot.map.slots_served(),
        waiting: node.cluster.get().and_then(|cluster| cluster.awaited()),
    };
    let mut status = ClusterStatus {
        cluster: settings.cluster_name.clone(),
        seen_from: snapshot.this.to_string(),
        time_ms: now_ms,
        healthy: true,
        advice: Vec::new(),
        ring,
        nodes,
    };
    status.advice = advice::of(&status);
    status.healthy = status.advice.iter().all(|it| it.severity == super::Severity::Info);
    status
}

/// What this node believes of each member.
fn conditions(admin: &Admin, snapshot: &ClusterSnapshot, rows: &[&Row]) -> HashMap<NodeId, Condition> {
    let view = admin.shared.view.load();
    let mut conditions = HashMap::new();
    for row in rows {
        let peer = view.peers.iter().flatten().find(|peer| peer.id == row.id);
        let usable = row.id == snapshot.this || peer.is_some_and(|peer| peer.is_usable());
        let condition = match row.state {
            _ if !usable => Condition::Down,
            RowState::Joining => Condition::Joining,
            RowState::Leaving => Condition::Leaving,
            _ if !row.warm => Condition::Filling,
            _ if peer.is_some_and(|peer| !peer.hints.is_empty()) => Condition::Catching,
            _ => Condition::Up,
        };
        conditions.insert(row.id, condition);
    }
    conditions
}

/// Slots held and slots coordinated, by node.
fn slot_counts(snapshot: &ClusterSnapshot) -> HashMap<NodeId, (usize, usize)> {
    let mut counts: HashMap<NodeId, (usize, usize)> = HashMap::new();
    for run in &snapshot.map.runs {
        for (place, id) in run.nodes.iter().enumerate() {
            let (held, coordinated) = counts.entry(*id).or_default();
            *held += run.len();
            *coordinated += if place == 0 && run.served { run.len() } else { 0 };
        }
    }
    counts
}
