#!/usr/bin/env python3
"""Writes dashboards/*.json from the panels below: one place for titles, units, help and expressions.

    grafana/build.py            writes them
    grafana/build.py --check    fails when they are not what this script would write (a test runs it)

Every panel asks only metrics of src/base/metrics/METRICS.md; tests/observe asks a real Prometheus for every one.
Within expressions $S stands for the selector of the dashboard's nodes and $R for the window of a rate.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
LATENCY = "rondo_command_latency_seconds"


def on_nodes(expression):
    """Metrics carry `instance`; which cluster an instance belongs to says the variable."""
    return expression.replace("$S", 'instance=~"$instance"').replace("$R", "$__rate_interval")


def quantile(q, by="class"):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({LATENCY}_bucket{{$S}}[$R])))"


def rate(metric, by="", labels=""):
    how = f" by ({by})" if by else ""
    return f"sum{how} (rate({metric}{{$S{labels}}}[$R]))"


HIT_RATIO = f"{rate('rondo_keyspace_hits_total')} / ({rate('rondo_keyspace_hits_total')} + {rate('rondo_keyspace_misses_total')})"


def stat(title, unit, help_text, expression, steps):
    """A number that is coloured by `steps`: (from value, colour), the first from minus infinity."""
    return {"type": "stat", "title": title, "unit": unit, "help": help_text, "targets": [(expression, "")], "steps": steps}


def graph(title, unit, help_text, *targets, stacked=False, log=False):
    """Lines over time; each target is (expression, legend)."""
    return {
        "type": "timeseries", "title": title, "unit": unit, "help": help_text, "targets": targets,
        "stacked": stacked, "log": log,
    }


GOOD_IF_ZERO = [(None, "green"), (1, "red")]

HEALTH = [
    stat("Members", "short", "Nodes that own slots or are about to.", "max(sum by (instance) (rondo_members{$S}))",
         [(None, "blue")]),
    stat("Members down", "short", "Nodes that another node cannot reach, or that have not caught up.",
         "max(rondo_members_down{$S})", GOOD_IF_ZERO),
    stat("Ready", "percentunit", "Share of the nodes whose slots can reach their quorums.", "avg(rondo_ready{$S})",
         [(None, "red"), (1, "green")]),
    stat("Rings in force", "short", "1 when all nodes agree on who owns which slots.",
         "count(count by (digest) (rondo_ring_info{$S}))", [(None, "green"), (2, "red")]),
    stat("Slots unserved", "short", "Hash slots that no node can run the commands of.", "max(rondo_slots_unserved{$S})",
         GOOD_IF_ZERO),
    stat("Quorum failures", "cps", "Commands refused because too few replicas answered.",
         rate("rondo_quorum_failures_total"), [(None, "green"), (0.01, "red")]),
    stat("Hit ratio", "percentunit", "Keys found, of those looked for.", HIT_RATIO, [(None, "blue")]),
    stat("Restarts in an hour", "short", "How often nodes were started anew.",
         "sum(changes(rondo_start_time_seconds{$S}[1h]))", [(None, "green"), (1, "orange"), (4, "red")]),
]

RED = [
    graph("Rate by class", "cps", "Commands answered, a second.", (rate(f"{LATENCY}_count", "class"), "{{class}}")),
    graph("Errors by code", "cps", "Error replies by the first word of their text.",
          (rate("rondo_errors_total", "code"), "{{code}}")),
    graph("Error ratio", "percentunit", "Error replies, of all replies.",
          (f"{rate('rondo_error_replies_total')} / {rate(LATENCY + '_count')}", "errors")),
    graph("Duration of reads", "s", "From the arrival of a command to its reply, waiting for replicas included.",
          *[(f"histogram_quantile({q}, sum by (le) (rate({LATENCY}_bucket{{$S,class=\"read\"}}[$R])))", name)
            for q, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))], log=True),
    graph("Duration of writes", "s", "From the arrival of a command to its reply, waiting for replicas included.",
          *[(f"histogram_quantile({q}, sum by (le) (rate({LATENCY}_bucket{{$S,class=\"write\"}}[$R])))", name)
            for q, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))], log=True),
    graph("Busiest commands", "cps", "Commands run, a second.",
          ("topk(10, " + rate("rondo_commands_total", "command") + ")", "{{command}}")),
]

CACHE = [
    graph("Hit ratio", "percentunit", "Keys found, of those looked for.", (HIT_RATIO, "hits")),
    graph("Memory", "bytes", "Keys and values, what they may take (maxmemory, 0 for no limit), and the whole process.",
          ("sum(rondo_memory_used_bytes{$S})", "used"), ("sum(rondo_memory_max_bytes{$S})", "maxmemory"),
          ("sum(rondo_memory_resident_bytes{$S})", "resident"),
          ("sum(rondo_tombstone_bytes{$S})", "deletions remembered, of used")),
    graph("Evicted and expired", "cps", "Keys given up for want of memory, and keys whose time was up.",
          (rate("rondo_evicted_keys_total"), "evicted"), (rate("rondo_expired_keys_total"), "expired")),
    graph("Keys", "short", "Keys held, all replicas counted, and those of them with a deadline.",
          ("sum(rondo_keys{$S})", "keys"), ("sum(rondo_keys_expiring{$S})", "with a deadline")),
]

RING = [
    graph("Slots coordinated", "short", "Hash slots whose commands a node runs.",
          ('rondo_slots{$S,role="coordinated"}', "{{instance}}"), stacked=True),
    graph("Slots held", "short", "Hash slots that a node has a copy of.",
          ('rondo_slots{$S,role="held"}', "{{instance}}")),
    graph("Members by state", "short", "As the nodes see it.", ("max by (state) (rondo_members{$S})", "{{state}}")),
    graph("Keys handed over", "cps", "Keys sent whole from node to node: joins, leaves, hints, refilling.",
          (rate("rondo_transferred_keys_total", "direction"), "{{direction}}")),
]

QUORUM = [
    graph("Quorum failures", "cps", "Commands refused because too few replicas answered.",
          (rate("rondo_quorum_failures_total", "operation"), "{{operation}}"),
          (rate("rondo_unknown_outcomes_total"), "unknown outcomes")),
    graph("Conflicts and repairs", "cps", "Versions that had not seen each other, and keys mended.",
          (rate("rondo_conflicts_total"), "conflicts"), (rate("rondo_read_repairs_total"), "read repairs"),
          (rate("rondo_anti_entropy_repairs_total"), "anti-entropy repairs")),
    graph("Hints", "cps", "Writes kept for replicas that are down: stored, delivered, given up.",
          (rate("rondo_hints_stored_total"), "stored"), (rate("rondo_hints_replayed_total"), "replayed"),
          (rate("rondo_hints_dropped_total"), "dropped")),
    graph("Hints pending", "short", "Writes kept and not delivered yet.", ("rondo_hints_pending{$S}", "{{instance}}")),
    graph("Forwarding", "cps", "Commands sent on to the coordinator of their key, and those not answered.",
          (rate("rondo_forwarded_commands_total"), "forwarded"), (rate("rondo_forward_failures_total"), "failed")),
    graph("Anti-entropy", "cps", "Comparisons in the background, slots that they found to differ, deletions forgotten.",
          (rate("rondo_anti_entropy_rounds_total"), "rounds"),
          (rate("rondo_anti_entropy_differing_slots_total"), "differing slots"),
          (rate("rondo_tombstones_collected_total"), "deletions forgotten")),
    graph("Deletions remembered", "short", "Deleted keys, remembered until every replica holds the deletion.",
          ("rondo_tombstones{$S}", "{{instance}}")),
    graph("Refused peer messages", "cps", "Messages whose stamp lies too far in the future.",
          (rate("rondo_clock_refusals_total"), "clock")),
]

PEERS = [
    graph("Links open", "short", "Whether the links to another node are open.",
          ("rondo_peer_up{$S}", "{{instance}} to {{peer}}")),
    graph("Round trip", "s", "The shortest of the last round trips.",
          ("rondo_peer_round_trip_seconds{$S}", "{{instance}} to {{peer}}")),
    graph("Clock ahead", "s", "How far the other's clock is ahead.",
          ("rondo_peer_clock_ahead_seconds{$S}", "{{instance}} to {{peer}}")),
    graph("Sent to peers", "Bps", "On the links for replicas.",
          (rate("rondo_link_sent_bytes_total", "instance, peer"), "{{instance}} to {{peer}}")),
    graph("Queued for peers", "bytes", "Not sent, or not acknowledged.",
          ("rondo_link_queued_bytes{$S}", "{{instance}} to {{peer}}")),
    graph("Gossip silence", "s", "How long gossip has brought a node nothing: UDP may be blocked.",
          ("rondo_gossip_silence_seconds{$S}", "{{instance}}")),
    graph("Links lost", "cps", "How often a link broke.",
          (rate("rondo_link_breaks_total", "instance, peer"), "{{instance}} to {{peer}}")),
]

HOST = [
    graph("CPU", "percentunit", "Cores in use.", (rate("rondo_cpu_seconds_total", "instance, mode"), "{{instance}} {{mode}}")),
    graph("Clients", "short", "Connected, and how many may be.",
          ("rondo_connected_clients{$S}", "{{instance}}"), ("min(rondo_max_clients{$S})", "maxclients")),
    graph("Network", "Bps", "From and to clients.", (rate("rondo_net_input_bytes_total", "instance"), "{{instance}} in"),
          (rate("rondo_net_output_bytes_total", "instance"), "{{instance}} out")),
    graph("Resident memory", "bytes", "Of the process.", ("rondo_memory_resident_bytes{$S}", "{{instance}}")),
]

NODE_HEALTH = [
    stat("Up for", "s", "Since the process was started.", "rondo_uptime_seconds{$S}", [(None, "blue")]),
    stat("Ready", "short", "1 when its slots can reach their quorums.", "rondo_ready{$S}", [(None, "red"), (1, "green")]),
    stat("Workers stuck", "short", "Threads that have not turned for seconds.", "rondo_workers_stuck{$S}", GOOD_IF_ZERO),
    stat("Workers", "short", "Threads that serve clients.", "rondo_workers{$S}", [(None, "blue")]),
    stat("Keys", "short", "Keys held.", "sum(rondo_keys{$S})", [(None, "blue")]),
    stat("Slots coordinated", "short", "Hash slots whose commands it runs.", 'rondo_slots{$S,role="coordinated"}',
         [(None, "blue")]),
    stat("Clients", "percentunit", "Connected, of those that may be.",
         "rondo_connected_clients{$S} / rondo_max_clients{$S}", [(None, "green"), (0.9, "red")]),
    stat("Hints pending", "short", "Writes that it keeps for others.", "rondo_hints_pending{$S}", [(None, "green"), (1, "orange")]),
]

NODE_COMMANDS = [
    graph("Time spent by command", "percentunit", "Seconds of work a second, waiting for replicas not included.",
          ("topk(10, " + rate("rondo_commands_duration_seconds_total", "command") + ")", "{{command}}"), stacked=True),
    graph("Failed and refused commands", "cps", "Ran and replied with an error; refused before they ran.",
          (rate("rondo_commands_failed_total", "command"), "{{command}} failed"),
          (rate("rondo_commands_rejected_total", "command"), "{{command}} refused")),
    graph("p99 by class", "s", "Waiting for replicas included.", (quantile(0.99), "{{class}}"), log=True),
]

NODE_CONNECTIONS = [
    graph("New and refused clients", "cps", "Connections accepted, and refused because of maxclients.",
          (rate("rondo_connections_accepted_total"), "accepted"), (rate("rondo_connections_rejected_total"), "refused")),
    graph("Clients closed", "cps", "Malformed input, replies that nobody reads, and wrong passwords.",
          (rate("rondo_protocol_errors_total"), "protocol errors"),
          (rate("rondo_output_limit_disconnects_total"), "output limit"), (rate("rondo_auth_failures_total"), "wrong passwords")),
    graph("Blocked clients", "short", "Waiting in a blocking command.", ("rondo_blocked_clients{$S}", "blocked")),
]


def variable(name, label, query, many):
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
        "definition": query, "query": {"query": query, "refId": "Variables"}, "hide": 0,
        "multi": many, "includeAll": many, **({"current": {"text": "All", "value": "$__all"}} if many else {}),
    }


def variables(many):
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0},
        variable("cluster", "Cluster", "label_values(rondo_info, cluster)", False),
        variable("instance", "Node", 'label_values(rondo_info{cluster="$cluster"}, instance)', many),
    ]


def panel(number, spec, grid):
    targets = [
        {"datasource": SOURCE, "refId": chr(ord("A") + at), "expr": on_nodes(expression), "legendFormat": legend or "__auto"}
        for at, (expression, legend) in enumerate(spec["targets"])
    ]
    made = {
        "id": number, "type": spec["type"], "title": spec["title"], "description": spec["help"], "datasource": SOURCE,
        "gridPos": grid, "targets": targets,
    }
    if spec["type"] == "stat":
        steps = [{"value": value, "color": color} for value, color in spec["steps"]]
        defaults = {"unit": spec["unit"], "color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    else:
        custom = {"fillOpacity": 10, "showPoints": "never", "lineWidth": 1}
        if spec["stacked"]:
            custom["stacking"] = {"mode": "normal"}
        if spec["log"]:
            custom["scaleDistribution"] = {"type": "log", "log": 10}
        defaults = {"unit": spec["unit"], "min": 0, "custom": custom}
        if spec["log"] or "ahead" in spec["title"]:
            del defaults["min"]
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    made["fieldConfig"] = {"defaults": defaults, "overrides": []}
    return made


def dashboard(uid, title, about, many, rows, other):
    panels, number, y = [], 0, 0
    for name, specs in rows:
        number += 1
        panels.append({"id": number, "type": "row", "title": name, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        width, height = (3, 4) if specs[0]["type"] == "stat" else (8, 8)
        for at, spec in enumerate(specs):
            number += 1
            x, line = at * width % 24, at * width // 24
            panels.append(panel(number, spec, {"x": x, "y": y + line * height, "w": width, "h": height}))
        y += -(-len(specs) * width // 24) * height
    link = {"type": "link", "title": other[1], "url": f"/d/{other[0]}?${{cluster:queryparam}}&${{datasource:queryparam}}",
            "keepTime": True, "targetBlank": False}
    return {
        "uid": uid, "title": title, "description": about, "tags": ["rondo"], "schemaVersion": 39, "version": 1,
        "editable": True, "graphTooltip": 1, "refresh": "10s", "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser", "links": [link], "templating": {"list": variables(many)},
        "annotations": {"list": [{
            "name": "Restarts", "enable": True, "iconColor": "orange", "datasource": SOURCE,
            "expr": on_nodes("changes(rondo_start_time_seconds{$S}[1m]) > 0"), "titleFormat": "{{instance}} was started",
        }]},
        "panels": panels,
    }


DASHBOARDS = {
    "overview": dashboard(
        "rondo-overview", "rondo overview", "One cluster: is it well, how fast is it, and what is it mending.", True,
        [("Health", HEALTH), ("Rate, errors, duration", RED), ("Cache", CACHE), ("Ring and ownership", RING),
         ("Quorum, hints, repair, forwarding", QUORUM), ("Peers", PEERS), ("Processes", HOST)],
        ("rondo-node", "One node")),
    "node": dashboard(
        "rondo-node", "rondo node", "One node in detail.", False,
        [("Health", NODE_HEALTH), ("Commands", NODE_COMMANDS), ("Clients", NODE_CONNECTIONS), ("Cache", CACHE),
         ("Peers", PEERS), ("Process", HOST)],
        ("rondo-overview", "The cluster")),
}


def main():
    stale = []
    for name, made in DASHBOARDS.items():
        path, text = HERE / "dashboards" / f"{name}.json", json.dumps(made, indent=1) + "\n"
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"write them anew with grafana/build.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
