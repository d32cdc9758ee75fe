// Draws what /status and /status/slots say, once a second. Everything that a node says is set as text, never as markup.
"use strict";

const PERIOD_MS = 1000;
const POINTS_MAX = 120; // of a tile's line: two minutes
const SLOTS = 16384;
const HUES = [212, 32, 282, 174, 330, 56]; // told apart also by those who do not see red and green

const byId = (id) => document.getElementById(id);
const history = new Map(); // tile name -> its last values
let slots = null; // the last /status/slots, and what it was asked for
let lastNodes = [];

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "text", "polyline", "circle"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// -------------------------------------------------------------------------------------------------------- numbers

const whole = (number) => Math.round(number).toLocaleString("en");

function short(number) {
  if (number == null) return "–";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]])
    if (number >= size) return (number / (unit === "k" ? 1e3 : size)).toFixed(1) + " " + unit;
  return number >= 100 || Number.isInteger(number) ? whole(number) : number.toFixed(1);
}

function bytes(count) {
  if (count == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

function time(us) {
  if (!us) return "–";
  if (us < 1000) return `${us} µs`;
  return us < 1e6 ? `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

function duration(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${seconds} s`;
}

const percent = (ratio) => (ratio == null ? "–" : `${(ratio * 100).toFixed(1)} %`);
const sum = (nodes, of) => nodes.reduce((total, node) => total + (node.figures ? of(node.figures) : 0), 0);
const worst = (nodes, of) => Math.max(0, ...nodes.filter((node) => node.figures).map((node) => of(node.figures)));

/** A colour for each node by its place among the ids, the same on every node's page; none for one that is down. */
function colours(nodes) {
  const sorted = [...nodes].sort((a, b) => (a.id < b.id ? -1 : 1));
  const colour = (node, place) => {
    const hue = place < HUES.length ? HUES[place] : Math.round(place * 137.5) % 360;
    return node.condition === "down" ? "var(--none)" : `hsl(${hue} 62% var(--light))`;
  };
  return new Map(sorted.map((node, place) => [node.id, colour(node, place)]));
}

/** Writes that the others keep for a node. */
function hintsFor(nodes, id) {
  return sum(nodes, (figures) => figures.links.filter((link) => link.peer === id).reduce((n, link) => n + link.hints, 0));
}

// --------------------------------------------------------------------------------------------------------- drawing

function drawHead(status) {
  byId("cluster").textContent = status.cluster;
  const worstOf = status.healthy ? "good" : status.advice[0].severity;
  byId("health").className = `pill ${worstOf}`;
  byId("health").textContent = status.healthy ? "healthy" : worstOf === "critical" ? "in trouble" : "needs attention";
  const self = status.nodes.find((node) => node.id === status.seen_from);
  const at = new Date(status.time_ms).toLocaleTimeString("en-GB");
  byId("seen").textContent = `seen from ${self ? self.name : status.seen_from.slice(0, 8)} at ${at}`;
  byId("version").textContent = self && self.figures ? `rondo ${self.figures.version}` : "";
  document.title = `${status.cluster}: ${byId("health").textContent}`;
}

function drawAdvice(advice) {
  const cards = advice.map((each) =>
    element("div", { class: `advice ${each.severity}` },
      element("b", {}, each.node ? `${each.node}: ${each.problem}` : each.problem),
      element("span", { class: "next" }, each.next_step)));
  byId("advice").replaceChildren(...cards);
}

function arc(radius, first, last) {
  const point = (slot) => {
    const angle = (slot / SLOTS) * 2 * Math.PI - Math.PI / 2;
    return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
  };
  // One arc cannot be a whole circle: a long run is drawn in two.
  const middle = (first + last + 1) / 2;
  const turn = `A${radius} ${radius} 0 0 1`;
  return `M${point(first)}${turn} ${point(middle)}${turn} ${point(last + 1)}`;
}

/** Each node's share of the slots that are run, as a part of a circle, with a gap between neighbours. */
function shares(nodes, colourOf) {
  const gap = nodes.filter((node) => node.slots_coordinated).length > 1 ? 60 : 0;
  const parts = [];
  let first = 0;
  for (const node of nodes) {
    const length = node.slots_coordinated - gap;
    if (length > 0)
      parts.push(element("circle", { r: 107, class: "share", pathLength: SLOTS, stroke: colourOf.get(node.id),
        "stroke-dasharray": `${length} ${SLOTS - length}`, "stroke-dashoffset": -first }));
    first += node.slots_coordinated;
  }
  return parts;
}

/** The ring: outside the shares; inside for each place among the holders of a slot a circle, and on it one path a node. */
function drawRing(status, colourOf) {
  const { ring, nodes } = status;
  const parts = shares(nodes, colourOf);
  const copies = Math.max(1, ...slots.runs.map((run) => run[2].length));
  for (let place = 0; place < copies; place++) {
    const [radius, width] = place === 0 ? [90, 10] : [87 - place * 6.5, 4];
    parts.push(element("circle", { r: radius, fill: "none", stroke: "var(--none)", "stroke-width": width }));
    const paths = slots.nodes.map(() => "");
    for (const [first, last, holders] of slots.runs)
      if (holders[place] !== undefined) paths[holders[place]] += arc(radius, first, last);
    paths.forEach((d, node) => {
      if (d) parts.push(element("path", { d, stroke: colourOf.get(slots.nodes[node]) || "var(--none)", "stroke-width": width }));
    });
  }
  const lines = [[`${ring.up} of ${ring.members}`, "big", -8], ["nodes up", "", 10],
    [`N ${ring.replicas}  W ${ring.write_quorum}  R ${ring.read_quorum}`, "", 30]];
  for (const [text, kind, y] of lines) parts.push(element("text", { class: kind, y }, text));
  byId("ring").replaceChildren(...parts);
  byId("legend").replaceChildren(...nodes.map((node) =>
    element("li", {}, dot(colourOf.get(node.id)), `${node.name} `,
      element("b", {}, node.slots_coordinated ? percent(node.slots_coordinated / SLOTS) : node.condition))));
}

const dot = (colour) => element("span", { class: "dot", style: `background:${colour}` });

function drawTiles(status) {
  const { nodes } = status;
  const [hits, lookups] = [sum(nodes, (f) => (f.rates.hit_ratio || 0) * f.rates.reads),
    sum(nodes, (f) => (f.rates.hit_ratio == null ? 0 : f.rates.reads))];
  const repairs = (events) => events.read_repairs + events.anti_entropy_repairs;
  const hints = nodes.reduce((total, node) => total + hintsFor(nodes, node.id), 0);
  const failures = sum(nodes, (f) => f.recent.quorum_failures);
  const tiles = [
    ["commands/s", sum(nodes, (f) => f.rates.commands), short,
      `${short(sum(nodes, (f) => f.rates.reads))} reads, ${short(sum(nodes, (f) => f.rates.writes))} writes`],
    ["p99 read", worst(nodes, (f) => f.latency.read.p99_us), time, "of the slowest node"],
    ["p99 write", worst(nodes, (f) => f.latency.write.p99_us), time, "of the slowest node"],
    ["hits", lookups ? hits / lookups : null, percent, "of keys looked for"],
    ["keys", sum(nodes, (f) => f.keys), short, "copies on all nodes"],
    ["memory", sum(nodes, (f) => f.memory.used_bytes), bytes, "of keys and values"],
    ["clients", sum(nodes, (f) => f.clients), short, `${short(sum(nodes, (f) => f.rates.forwarded))}/s sent on`],
    ["errors/s", sum(nodes, (f) => f.rates.errors), short, `${failures} too few replicas`],
    ["hints", hints, short, "kept for absent nodes"],
    ["repairs", sum(nodes, (f) => repairs(f.totals)), short, `${sum(nodes, (f) => repairs(f.recent))} in 10 s`],
    ["conflicts", sum(nodes, (f) => f.totals.conflicts), short, `${sum(nodes, (f) => f.recent.conflicts)} in 10 s`],
    ["slots unserved", status.ring.slots_unserved, short, status.ring.agreed ? "all agree on the ring" : "the ring is not agreed on"],
  ];
  byId("tiles").replaceChildren(...tiles.map(tile));
}

function tile([name, value, format, note]) {
  const values = history.get(name) || [];
  values.push(value || 0);
  if (values.length > POINTS_MAX) values.shift();
  history.set(name, values);
  const top = Math.max(...values, 1e-9);
  const points = values.map((each, place) => `${POINTS_MAX - values.length + place},${25 - 23 * (each / top)}`).join(" ");
  return element("div", { class: "tile", "data-tile": name }, element("small", {}, name), element("b", {}, format(value)),
    element("small", {}, note),
    element("svg", { viewBox: `0 0 ${POINTS_MAX - 1} 26`, preserveAspectRatio: "none", "aria-hidden": "true" },
      element("polyline", { points })));
}

function drawNodes(status, colourOf) {
  byId("nodes").tBodies[0].replaceChildren(...status.nodes.map((node) => row(status.nodes, node, colourOf.get(node.id))));
}

function row(nodes, node, colour) {
  const figures = node.figures;
  const of = (read) => (figures ? read(figures) : "–");
  const kind = { up: "good", down: "critical" }[node.condition] || "warning";
  const name = element("span", {}, dot(colour),
    node.admin_port ? element("a", { href: pageOf(node) }, node.name) : node.name,
    element("small", {}, `${node.host}:${node.port}${node.zone ? `, ${node.zone}` : ""}`));
  const cells = [
    ["node", name],
    ["state", element("span", { class: kind }, node.condition,
      ...(node.down_s == null ? [] : [element("small", {}, `for ${duration(node.down_s)}`)]))],
    ["slots run / held", `${whole(node.slots_coordinated)} / ${whole(node.slots_held)}`],
    ["keys", of((f) => short(f.keys))],
    ["memory", of((f) => bytes(f.memory.used_bytes) + (f.memory.max_bytes ? ` of ${bytes(f.memory.max_bytes)}` : ""))],
    ["commands/s", of((f) => short(f.rates.commands))],
    ["hits", of((f) => percent(f.rates.hit_ratio))],
    ["p99 read", of((f) => time(f.latency.read.p99_us))],
    ["p99 write", of((f) => time(f.latency.write.p99_us))],
    ["clients", of((f) => short(f.clients))],
    ["hints kept for it", short(hintsFor(nodes, node.id))],
    ["up for", of((f) => duration(f.uptime_s))],
  ];
  return element("tr", { "data-node": node.name, "data-condition": node.condition },
    ...cells.map(([title, content]) => element("td", { "data-name": title }, content)));
}

/** Another node's page, as its clients reach it. */
function pageOf(node) {
  const host = node.host.includes(":") ? `[${node.host}]` : node.host;
  return `http://${host}:${node.admin_port}/`;
}

// ---------------------------------------------------------------------------------------------------------- asking

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

/** The slots change with the ring, and with who is up. */
async function askSlots(status) {
  const version = JSON.stringify([status.ring.digest, status.nodes.map((node) => [node.id, node.condition])]);
  if (!slots || slots.version !== version) slots = { ...(await ask("/status/slots")), version };
}

async function refresh() {
  const status = await ask("/status");
  await askSlots(status);
  lastNodes = status.nodes;
  const colourOf = colours(status.nodes);
  drawHead(status);
  drawAdvice(status.advice);
  drawRing(status, colourOf);
  drawTiles(status);
  drawNodes(status, colourOf);
  document.documentElement.dataset.state = status.healthy ? "healthy" : "unhealthy";
}

/** This node is gone: what is on the page is old, and the others' pages know more. */
function drawSilence(error) {
  document.documentElement.dataset.state = "silent";
  byId("health").className = "pill critical";
  byId("health").textContent = "no answer";
  const links = lastNodes.filter((node) => node.admin_port).flatMap((node) => [element("a", { href: pageOf(node) }, node.name), " "]);
  byId("advice").replaceChildren(element("div", { class: "advice critical" },
    element("b", {}, `This node does not answer (${error.message}). What is below is old.`),
    element("span", { class: "next" }, "Start it again, or look at the page of another node: ", ...links)));
}

async function live() {
  if (!document.hidden) await refresh().catch(drawSilence);
  setTimeout(live, PERIOD_MS);
}

live();
