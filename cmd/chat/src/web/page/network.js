// The network as a picture, and as a table for those who do not see it.

import { element } from "./posts.js";

const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function showNetwork(nodes, picture, rows) {
  const me = nodes.find((node) => node.me);
  const others = nodes.filter((node) => !node.me);
  const place = others.map((_, at) => {
    const angle = (2 * Math.PI * at) / others.length - Math.PI / 2;
    return { x: 320 + 230 * Math.cos(angle), y: 215 + 160 * Math.sin(angle) };
  });
  const centre = { x: 320, y: 215 };
  const edges = others.map((node, at) => {
    const group = drawn("g", {});
    const { x, y } = place[at];
    if (!node.mode) return group;
    group.append(drawn("line", { x1: centre.x, y1: centre.y, x2: x, y2: y, class: node.pending ? "edge waiting" : "edge" }));
    if (node.pending) {
      group.append(drawn("text", { x: (centre.x + x) / 2, y: (centre.y + y) / 2 - 6 }, `${node.pending} waiting`));
    }
    return group;
  });
  const circles = [me, ...others].map((node, at) => {
    const { x, y } = at ? place[at - 1] : centre;
    const group = drawn("g", { class: [node.online ? "" : "away", node.master ? "master" : ""].join(" ").trim() });
    group.append(drawn("circle", { cx: x, cy: y, r: node.me ? 22 : 17 }));
    group.append(drawn("text", { x, y: y + 38 }, `${node.name}${node.master ? " ★" : ""}`));
    group.append(drawn("text", { x, y: y + 54 }, part(node)));
    return group;
  });
  const title = picture.querySelector("title");
  picture.replaceChildren(title, ...edges, ...circles);
  rows.replaceChildren(...nodes.map((node) => {
    const row = element("tr");
    const name = element("th", "", `${node.name}${node.me ? " (this node)" : ""}${node.master ? ", master" : ""}`);
    name.scope = "row";
    row.append(name, element("td", "", node.online ? "online" : "away"), element("td", "", part(node)), element("td", "", node.me ? "" : String(node.pending)));
    return row;
  }));
}

function part(node) {
  return { reader: "reads", writer: "writes", readwrite: "reads and writes" }[node.mode] ?? "not here";
}
