// The views beside the chat: the tabs that choose one, and charts of the last minutes, each with its figures in words for those who do not see it.

import { drawn, element } from "./posts.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [600, 150, 44, 22, 10];

/** Shows one of several views; the arrow keys lead from tab to tab. */
export class Tabs {
  #pairs;
  #chosen;

  /** `pairs`: each tab and its view; `chosen` is told that there is another. */
  constructor(pairs, chosen) {
    this.#pairs = pairs;
    this.#chosen = chosen;
    pairs.forEach(([tab], at) => {
      tab.addEventListener("click", () => this.choose(at));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = (at + step + pairs.length) % pairs.length;
        this.choose(next);
        pairs[next][0].focus();
      });
    });
  }

  choose(at) {
    this.#pairs.forEach(([tab, view], other) => {
      tab.setAttribute("aria-selected", String(other === at));
      tab.tabIndex = other === at ? 0 : -1;
      view.hidden = other !== at;
    });
    this.#chosen();
  }
}

/** `samples` hold counters since the node's start; charts show what became of them in each second. */
export function showHealth(samples, place) {
  const rate = (name) => samples.slice(1).map((sample, at) => {
    const before = samples[at];
    const seconds = Math.max((sample.at_ms - before.at_ms) / 1000, 0.001);
    return { at: sample.at_ms, value: Math.max(0, sample[name] - before[name]) / seconds };
  });
  const level = (name) => samples.filter((sample) => sample[name] !== null).map((sample) => ({ at: sample.at_ms, value: sample[name] }));
  const charts = [
    ["Throughput", "a second", [["sent", rate("sent")], ["delivered", rate("delivered")], ["received", rate("received")]]],
    ["Time until everybody has a message", "ms", [["median", level("latency_ms")]]],
    ["Queue", "waiting", [["messages", level("queued")]]],
  ];
  place.replaceChildren(...charts.map(([title, unit, lines]) => chart(title, unit, lines, samples)));
}

function chart(title, unit, lines, samples) {
  const figure = element("figure");
  const words = lines.map(([name, points]) => `${name} ${points.length ? round(points.at(-1).value) : "–"}`);
  const caption = element("figcaption");
  caption.append(element("strong", "", title), ` ${unit}; now: `);
  lines.forEach((_, at) => caption.append(element("span", `key key-${at}`, words[at]), " "));
  const values = lines.flatMap(([, points]) => points.map((point) => point.value));
  const top = nice(Math.max(1, ...values));
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, ${unit}: ${words.join(", ")}; at most ${round(Math.max(0, ...values))}` });
  const to = samples.at(-1)?.at_ms ?? 0;
  const from = Math.min(samples[0]?.at_ms ?? 0, to - 60000);
  const x = (at) => LEFT + ((at - from) / (to - from)) * (WIDTH - LEFT - 6);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  for (const part of [0, 0.5, 1]) {
    svg.append(drawn("line", { x1: LEFT, x2: WIDTH - 6, y1: y(top * part), y2: y(top * part), class: "grid" }));
    svg.append(drawn("text", { x: LEFT - 6, y: y(top * part) + 4, class: "scale" }, round(top * part)));
  }
  const minutes = Math.round((to - from) / 6000) / 10;
  svg.append(drawn("text", { x: LEFT, y: HEIGHT - 5, class: "from" }, `${minutes} min ago`));
  svg.append(drawn("text", { x: WIDTH - 6, y: HEIGHT - 5, class: "scale" }, "now"));
  lines.forEach(([, points], at) => {
    svg.append(drawn("polyline", { points: points.map((point) => `${x(point.at).toFixed(1)},${y(point.value).toFixed(1)}`).join(" "), class: `line line-${at}` }));
  });
  figure.append(caption, svg);
  return figure;
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function round(value) {
  return value >= 10 ? Math.round(value).toLocaleString() : String(Math.round(value * 10) / 10);
}
