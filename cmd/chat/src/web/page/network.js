// Who is there; and the network as a picture, and as tables for those who do not see it.

import { drawn, element } from "./posts.js";

const HEIGHT = 455;
const [MIDDLE, DOWN] = [215, 145];
/** With words beside the nodes, and for small screens with all of them above and below. */
const WIDE = { width: 640, across: 160 };
const NARROW = { width: 420, across: 135 };
const NARROW_PX = 480;
/** Characters of a name; the table has all of them. */
const LONGEST_NAME = 18;
/** With more, names stand too near each other for a second line. */
const MOST_TWO_LINES = 12;
/** With more, the picture leaves nodes out; the table has them all. */
const MOST_DRAWN = 24;
/** With more, only what waits and what concerns this node is drawn between them. */
const MOST_WOVEN = 10;

/** Who is there as a list, and whom one can write to, who is away included. */
export function showPresence({ online, away }, list, to) {
  list.replaceChildren(...[...online].sort().map((node) => element("li", "", node)));
  const chosen = to.value;
  const names = [...new Set([...online, ...away, ...(chosen ? [chosen] : [])])].sort();
  to.replaceChildren(new Option("everybody", ""), ...names.map((node) => new Option(online.has(node) ? node : `${node} (away)`, node)));
  to.value = chosen;
}

/** `typing`: until when each node is taken for typing. */
export function typingLine(typing) {
  const now = Date.now();
  const names = [...typing].filter(([, until]) => until > now).map(([node]) => node);
  if (names.length > 3) return "several are typing …";
  return names.length ? `${names.join(", ")} ${names.length === 1 ? "is" : "are"} typing …` : "";
}

export function showNetwork({ nodes, more, backlog }, picture, rows, queues) {
  const shown = nodes.slice(0, MOST_DRAWN);
  const size = picture.clientWidth < NARROW_PX ? NARROW : WIDE;
  picture.setAttribute("viewBox", `0 0 ${size.width} ${HEIGHT}`);
  const places = new Map(shown.map((node, at) => {
    const angle = (2 * Math.PI * at) / shown.length - Math.PI / 2;
    return [node.name, { x: size.width / 2 + size.across * Math.cos(angle), y: MIDDLE + DOWN * Math.sin(angle) }];
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
  const circles = shown.map((node) => circle(node, places.get(node.name), waits.get(pair(node.name, null)), size, shown.length <= MOST_TWO_LINES));
  const left = nodes.length - shown.length + more;
  const rest = left ? [drawn("text", { x: size.width / 2, y: HEIGHT - 5 }, `and ${left} more`)] : [];
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

/** The words stand outside, where no lines are. */
function circle(node, { x, y }, unread, size, twoLines) {
  const group = drawn("g", { class: [node.online ? "" : "away", node.master ? "master" : "", node.me ? "me" : ""].filter(Boolean).join(" ") });
  group.append(drawn("circle", { cx: x, cy: y, r: node.me ? 21 : 16 }));
  const name = node.name.length > LONGEST_NAME ? `${node.name.slice(0, LONGEST_NAME - 1)}…` : node.name;
  const lines = [[`${name}${node.master ? " ★ master" : ""}`, ""]];
  if (twoLines) lines.push([node.online ? part(node.mode) : "away", "quiet"]);
  if (unread) lines.push([`${unread} for a first reader`, "waiting"]);
  const aside = x < size.width / 2 ? "left" : "right";
  const isBeside = size === WIDE && Math.abs(x - size.width / 2) > size.across / 3;
  const [left, top] = isBeside
    ? [aside === "left" ? x - 30 : x + 30, y + 5 - (lines.length - 1) * 9]
    : [x, y < MIDDLE - 1 ? y - 32 - (lines.length - 1) * 18 : y + 40];
  lines.forEach(([line, kind], at) => group.append(drawn("text", { x: left, y: top + at * 18, class: `${isBeside ? aside : ""} ${kind}`.trim() }, line)));
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
