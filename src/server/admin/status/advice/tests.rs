//! What is said of clusters whose figures are made up.

use super::*;
use crate::server::admin::status::{Link, Memory, RingStatus};

fn member(name: &str, change: impl FnOnce(&mut NodeFigures)) -> Member {
    let mut figures = NodeFigures { ready: true, name: name.into(), ..NodeFigures::default() };
    change(&mut figures);
    Member::with_figures(name, Condition::Up, Some(figures))
}

fn problems(nodes: Vec<Member>, change: impl FnOnce(&mut ClusterStatus)) -> Vec<(Severity, String)> {
    let ring = RingStatus { agreed: true, members: nodes.len(), replicas: nodes.len(), ..RingStatus::default() };
    let mut status = ClusterStatus {
        cluster: "c".into(),
        seen_from: "a".into(),
        time_ms: 0,
        healthy: true,
        advice: Vec::new(),
        ring,
        nodes,
    };
    change(&mut status);
    let name = |advice: &Advice| advice.node.clone().unwrap_or_default();
    of(&status).iter().map(|advice| (advice.severity, format!("{}: {}", name(advice), advice.problem))).collect()
}

#[test]
fn nothing_is_wrong_with_nodes_that_are_well() {
    assert_eq!(problems(vec![member("a", |_| {}), member("b", |_| {})], |_| {}), []);
}

#[test]
fn options_that_all_should_have_alike_are_told_with_who_has_which() {
    let with = |name, mode: &str| {
        let options = [("quorum-mode", mode), ("replicas", "3")].map(|(name, value)| (name.into(), value.into()));
        member(name, |figures| figures.common_options = options.into())
    };
    let found = problems(vec![with("a", "sloppy"), with("b", "strict"), with("c", "sloppy")], |_| {});
    let told = ": Nodes differ in `quorum-mode`: sloppy on a, c; strict on b.";
    assert_eq!(found, [(Severity::Warning, told.into())]);
}

#[test]
fn a_cache_that_evicts_is_well() {
    let told = |policy: &str, evicted_keys| {
        let full = Memory { used_bytes: 95, max_bytes: 100, policy: policy.into(), ..Memory::default() };
        let node = member("full", |figures| (figures.memory, figures.recent.evicted_keys) = (full, evicted_keys));
        problems(vec![node], |_| {}).into_iter().map(|(severity, _)| severity).collect::<Vec<_>>()
    };
    assert_eq!(told("allkeys-lru", 9), [Severity::Info]);
    assert_eq!(told("volatile-lru", 9), [Severity::Warning], "who gives keys a lifetime loses some before");
    assert_eq!(told("volatile-lru", 0), [Severity::Info]);
    assert_eq!(told("noeviction", 0), [Severity::Critical]);
}

#[test]
fn each_thing_that_can_be_wrong_is_told_once_and_the_worst_first() {
    let full = |policy: &str| Memory { used_bytes: 95, max_bytes: 100, policy: policy.into(), ..Memory::default() };
    let burying = member("burying", |figures| {
        figures.memory = Memory { used_bytes: 95, tombstone_bytes: 26, ..full("noeviction") };
    });
    let ill = member("ill", |figures| {
        figures.ready = false;
        figures.not_ready = Some("no quorum".into());
        figures.workers_stuck = 1;
        figures.memory = full("noeviction");
        (figures.clients, figures.clients_max) = (95, 100);
        figures.latency.write.p99_us = 200_000;
        figures.slow_commands = 10;
        figures.recent.quorum_failures = 3;
        figures.recent.unknown_outcomes = UNKNOWN_MIN;
        figures.recent.hints_dropped = 1;
        figures.recent.peers_refused = 4;
        figures.members_unwritten = Some("No space left on device".into());
        figures.gossip_silence_s = GOSSIP_SILENCE_S;
        figures.stamps_ahead_ms = 3_600_000;
        figures.links = vec![Link { open: true, clock_ahead_ms: Some(-300.0), ..Link::default() }];
    });
    let evicting = member("evicting", |figures| {
        figures.memory = full("volatile-lru");
        figures.recent.evicted_keys = 9;
    });
    let mut gone = member("gone", |_| {});
    (gone.condition, gone.figures, gone.silent) = (Condition::Down, None, Some("refused".into()));
    gone.down_s = Some(125);
    let found = problems(vec![ill, evicting, burying, gone], |status| {
        status.ring.slots_unserved = 5;
        status.ring.agreed = false;
        status.ring.replicas = 5;
    });
    let count = |severity| found.iter().filter(|it| it.0 == severity).count();
    assert_eq!((count(Severity::Critical), count(Severity::Warning), count(Severity::Info)), (6, 10, 3), "{found:#?}");
    assert!(found.windows(2).all(|pair| pair[0].0 >= pair[1].0));
    assert!(
        found.contains(&(Severity::Warning, "gone: It has not answered for 2 min (refused).".into())),
        "{found:#?}"
    );
}

#[test]
fn a_node_that_waits_for_its_cluster_says_for_whom_and_how_to_go_on_without() {
    let status = |waiting: Option<String>| {
        let ring = RingStatus { agreed: true, waiting, ..RingStatus::default() };
        let (cluster, seen_from) = ("c".into(), "a".into());
        of(&ClusterStatus {
            cluster,
            seen_from,
            time_ms: 0,
            healthy: true,
            advice: Vec::new(),
            ring,
            nodes: Vec::new(),
        })
    };
    let told = status(Some("waiting for 1 more of b".into()));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].problem.ends_with("a cluster yet: waiting for 1 more of b.")
            && told[0].next_step.contains("RONDO.FOUND")
    );
    assert!(status(None)[0].problem.ends_with("a cluster yet."));
}

#[test]
fn a_node_that_is_being_given_up_is_to_be_waited_for() {
    let mut gone = member("gone", |_| {});
    (gone.condition, gone.figures, gone.silent) = (Condition::Down, None, Some("refused".into()));
    gone.given_up = true;
    assert_eq!(problems(vec![gone], |_| {}), [(Severity::Info, "gone: It is down, and being given up.".into())]);
}

#[test]
fn a_node_of_no_cluster_is_told_of_once() {
    let found = problems(Vec::new(), |status| status.ring.slots_unserved = 16_384);
    assert_eq!(found, [(Severity::Critical, ": The node that was asked is not a member of a cluster yet.".into())]);
}

#[test]
fn a_node_that_is_alone_hears_no_gossip() {
    let alone = member("alone", |figures| {
        figures.gossip_silence_s = 3_600;
        figures.links = vec![Link::default()];
    });
    assert_eq!(problems(vec![alone], |_| {}), []);
}

#[test]
fn a_zone_or_weight_that_is_not_in_force_is_told() {
    let told = |zone: &str, weight| {
        let options = Some(Placing { zone: zone.into(), weight });
        problems(vec![member("a", |figures| figures.placing_options = options)], |_| {})
    };
    assert_eq!(told("", 1.0), []);
    let expected = "a: Its options say zone \"b\" and weight 2.5; in force are zone \"\" and weight 1.";
    assert_eq!(told("b", 2.5), [(Severity::Info, expected.to_owned())]);
    assert_eq!((told("b", 1.0).len(), told("", 2.0).len()), (1, 1));
}

#[test]
fn one_large_value_is_no_slow_node() {
    let one = member("one", |figures| {
        figures.latency.write.p99_us = 200_000;
        figures.slow_commands = 1;
    });
    assert_eq!(problems(vec![one], |_| {}), []);
}

#[test]
fn one_write_of_unknown_outcome_is_no_ill_node() {
    let told = |outcomes| problems(vec![member("one", |figures| figures.recent.unknown_outcomes = outcomes)], |_| {});
    assert_eq!(told(1), [(Severity::Info, "one: The outcome of one write is not known.".into())]);
    assert_eq!(told(UNKNOWN_MIN - 1)[0].0, Severity::Info);
    assert_eq!(told(UNKNOWN_MIN)[0].0, Severity::Warning);
}

#[test]
fn a_clock_that_was_set_back_is_told_of_by_what_its_node_does() {
    let told = |stamps_ahead_ms| {
        let one = member("one", |figures| {
            figures.stamps_ahead_ms = stamps_ahead_ms;
            figures.links = vec![Link { open: true, ..Link::default() }];
        });
        problems(vec![one], |_| {}).into_iter().map(|(severity, _)| severity).collect::<Vec<_>>()
    };
    assert_eq!([1_000, 3_000, 11_000].map(told), [vec![], vec![Severity::Warning], vec![Severity::Critical]]);
}

#[test]
fn a_clock_that_is_ahead_is_told_of_before_what_follows_from_it() {
    let told = |ahead_ms: f64| {
        let one = member("one", |figures| {
            figures.not_ready = Some("no quorum".into());
            figures.links = vec![Link { open: true, clock_ahead_ms: Some(-ahead_ms), ..Link::default() }];
        });
        problems(vec![one], |_| {}).into_iter().map(|(severity, problem)| (severity, problem.contains("clock")))
    };
    assert!(told(300.0).eq([(Severity::Critical, false), (Severity::Warning, true)]));
    assert!(told(501.0).eq([(Severity::Critical, true), (Severity::Critical, false)]));
}

#[test]
fn how_long_is_told_in_the_largest_unit() {
    let told = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(for_people);
    assert_eq!(told, ["a moment", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
}

#[test]
fn what_passes_by_itself_is_not_alarming() {
    for condition in [Condition::Joining, Condition::Leaving, Condition::Filling, Condition::Catching] {
        let mut member = member("a", |_| {});
        member.condition = condition;
        let found = problems(vec![member], |_| {});
        assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), [Severity::Info], "{condition:?}");
    }
}
