// The network as a picture, and as tables for those who do not see it.

import { drawn, element } from "./posts.js";

const CENTRE = { x: 320, y: 220 };
const [ACROSS, DOWN] = [220, 155];
/** With more, the picture leaves nodes out; the table has them all. */
const MOST_DRAWN = 24;
/** With more, only what waits and what concerns this node is drawn between them. */
const MOST_WOVEN = 10;

export function showNetwork({ nodes, more, backlog }, picture, rows, queues) {
  const shown = nodes.slice(0, MOST_DRAWN);
  const places = new Map(shown.map((node, at) => {
    const angle = (2 * Math.PI * at) / shown.length - Math.PI / 2;
    return [node.name, { x: CENTRE.x + ACROSS * Math.cos(angle), y: CENTRE.y + DOWN * Math.sin(angle) }];
  }));
  const waits = new Map(backlog.map(({ from, to, messages }) => [pair(from, to), messages]));
  const lines = [];
  shown.forEach((one, at) => {
    for (const other of shown.slice(at + 1)) {
      const there = flow(one, other, waits);
      const back = flow(other, one, waits);
      const plain = shown.length > MOST_WOVEN && !one.me && !other.me && !there.waiting && !back.waiting;
      if (!plain && (there.is || back.is)) lines.push(edge(places.get(one.name), places.get(other.name), there, back));
    }
  });
  const circles = shown.map((node) => circle(node, places.get(node.name), waits.get(pair(node.name, null))));
  const left = nodes.length - shown.length + more;
  const rest = left ? [drawn("text", { x: CENTRE.x, y: 436 }, `and ${left} more`)] : [];
  const kept = [...picture.querySelectorAll("title, defs")];
  picture.replaceChildren(...kept, ...lines, ...circles, ...rest);
  rows.replaceChildren(...nodes.map((node) => row(node, backlog)));
  queues.replaceChildren(...backlog.map(({ from, to, messages }) => cells(from, to ?? "its first reader", String(messages))));
  queues.closest("table").hidden = backlog.length === 0;
}

function pair(from, to) {
  return `${from} ${to ?? ""}`;
}

/** Whether messages go from one to the other, and how many wait. */
function flow(from, to, waits) {
  const reads = (name) => to.channels.some((channel) => channel.name === name && channel.mode !== "writer");
  const waiting = waits.get(pair(from.name, to.name)) ?? 0;
  return { is: waiting > 0 || from.channels.some((channel) => channel.mode !== "reader" && reads(channel.name)), waiting };
}

/** A line between two nodes, with an arrow at each end that reads. */
function edge(one, other, there, back) {
  const group = drawn("g", {});
  const length = Math.hypot(other.x - one.x, other.y - one.y) || 1;
  const along = (from, to, by) => ({ x: from.x + ((to.x - from.x) * by) / length, y: from.y + ((to.y - from.y) * by) / length });
  const [start, end] = [along(one, other, 28), along(other, one, 28)];
  const line = { x1: start.x, y1: start.y, x2: end.x, y2: end.y, class: there.waiting || back.waiting ? "edge waiting" : "edge" };
  if (there.is) line["marker-end"] = "url(#arrow)";
  if (back.is) line["marker-start"] = "url(#arrow)";
  group.append(drawn("line", line));
  // Near its receiver.
  for (const [waiting, at] of [[there.waiting, along(other, one, 75)], [back.waiting, along(one, other, 75)]]) {
    if (waiting) group.append(drawn("text", { x: at.x, y: at.y - 5, class: "waiting" }, `${waiting} waiting`));
  }
  return group;
}

function circle(node, { x, y }, unread) {
  const group = drawn("g", { class: [node.online ? "" : "away", node.master ? "master" : ""].join(" ").trim() });
  group.append(drawn("circle", { cx: x, cy: y, r: node.me ? 21 : 16 }));
  group.append(drawn("text", { x, y: y + 37 }, `${node.name}${node.master ? " ★ master" : ""}`));
  group.append(drawn("text", { x, y: y + 53, class: "quiet" }, node.online ? part(node.mode) : "away"));
  if (unread) group.append(drawn("text", { x, y: y - 26, class: "waiting" }, `${unread} for a first reader`));
  return group;
}

function row(node, backlog) {
  const waiting = backlog.filter(({ to }) => to === node.name).reduce((sum, { messages }) => sum + messages, 0);
  const state = node.online ? (node.silent ? "online, does not answer" : "online") : "away";
  const channels = node.channels.map(({ name, mode }) => `${name} (${part(mode)})`).join(", ");
  return cells(`${node.name}${node.me ? " (this node)" : ""}${node.master ? ", master" : ""}`, state, channels || "none", String(waiting));
}

function cells(first, ...others) {
  const made = element("tr");
  const name = element("th", "", first);
  name.scope = "row";
  made.append(name, ...others.map((text) => element("td", "", text)));
  return made;
}

function part(mode) {
  return { reader: "reads", writer: "writes", readwrite: "reads and writes" }[mode] ?? "not here";
}
