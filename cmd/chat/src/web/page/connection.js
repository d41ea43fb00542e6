// The socket to the program: comes back by itself. Orders wait in one queue, in their order, until the program has answered them: they outlive a lost
// connection and a reload, and are repeated under their names, so that none is lost or carried out twice.

import { element, inShort } from "./posts.js";

const FIRST_DELAY_MS = 300;
const LONGEST_DELAY_MS = 5000;
/** The program says something every 10 s; silent for this long, it is gone, whatever the socket says. */
const LONGEST_SILENCE_MS = 25000;
const LISTEN_INTERVAL_MS = 5000;
/** A connection that holds for so long is good. */
const GOOD_AFTER_MS = 5000;
/** With this code the program closes a socket on which something came that is no order. */
const NOT_UNDERSTOOD = 1007;
/** What is sent at once, and a second: a little less than the program allows. */
const BURST = 32;
const PER_SECOND = 9;
/** What orders leave of it for hints. */
const FOR_HINTS = 6;
const MOST_ORDERS = 1000;
const MOST_SHOWN = 50;

/** What a user has written, and would have to write again. */
const isWritten = ({ order }) => order.do === "say" || order.do === "edit";

class Pace {
  #left = BURST;
  #at = performance.now();

  allows(reserve) {
    const now = performance.now();
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) / 1000) * PER_SECOND);
    this.#at = now;
    if (this.#left < 1 + reserve) return false;
    this.#left -= 1;
    return true;
  }
}

export class Connection {
  #calls;
  #socket = null;
  #delay = FIRST_DELAY_MS;
  #pace = new Pace();
  #greeted = false;
  #beats = false;
  #heard = 0;
  #queue = [];
  #name = "";
  #timer = 0;

  /** `told` gets what the program tells, `changed` whether it is there, `queued` that the queue is another, `refused` an order that was not carried out, and why. */
  constructor(calls) {
    this.#calls = calls;
    this.#connect();
    addEventListener("online", () => this.#connect());
    setInterval(() => this.#listen(), LISTEN_INTERVAL_MS);
  }

  /** Orders that have no answer yet, and texts that were refused, in their order: `{order, error}`. */
  get queue() {
    return this.#queue;
  }

  /** How many orders have no answer yet. */
  get unanswered() {
    return this.#queue.filter(({ error }) => !error).length;
  }

  /** Gives an order that must be carried out once. False where too many wait. */
  order(order) {
    if (this.#queue.length >= MOST_ORDERS) return false;
    order.nonce = nonce();
    this.#queue.push({ order });
    this.#keep();
    this.#handOver();
    return true;
  }

  /** Takes a text that was refused from the queue. */
  drop(order) {
    this.#queue = this.#queue.filter((entry) => entry.order !== order);
    this.#keep();
  }

  /** Gives an order that may be lost; whether it went out. */
  hint(order) {
    if (!this.#greeted || !this.#pace.allows(0)) return false;
    this.#socket.send(JSON.stringify(order));
    return true;
  }

  #connect() {
    if (this.#socket && this.#socket.readyState <= WebSocket.OPEN) return;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    this.#socket = socket;
    this.#heard = performance.now();
    socket.addEventListener("message", (event) => {
      if (this.#socket === socket) this.#take(JSON.parse(event.data));
    });
    socket.addEventListener("close", ({ code }) => {
      if (this.#socket === socket && code === NOT_UNDERSTOOD) this.#refuse();
      this.#lose(socket);
    });
  }

  #lose(socket) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    this.#greeted = false;
    this.#calls.changed(false);
    setTimeout(() => this.#connect(), this.#delay * (0.5 + Math.random()));
    this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY_MS);
  }

  /** A connection can be gone without a word: after a sleep, or when a proxy forgot it. */
  #listen() {
    const socket = this.#socket;
    const speaks = this.#beats || socket?.readyState === WebSocket.CONNECTING;
    if (!socket || !speaks || performance.now() - this.#heard < LONGEST_SILENCE_MS) return;
    this.#lose(socket);
    socket.close();
  }

  #take(told) {
    this.#heard = performance.now();
    switch (told.type) {
      case "beat": this.#beats = true; break;
      case "done": this.#answer(told); break;
      case "hello": this.#greet(told); break;
      default: this.#calls.told(told);
    }
  }

  /** It comes first, and again on a socket that has missed news; answers it has not missed. */
  #greet(told) {
    if (!this.#greeted) {
      this.#greeted = true;
      const socket = this.#socket;
      setTimeout(() => {
        if (this.#socket === socket) this.#delay = FIRST_DELAY_MS;
      }, GOOD_AFTER_MS);
      this.#pace = new Pace();
      for (const entry of this.#queue) entry.sent = false;
    }
    this.#rename(`orders of ${told.me} on ${told.channel}`);
    this.#calls.told(told);
    this.#calls.changed(true);
    this.#handOver();
  }

  #handOver() {
    clearTimeout(this.#timer);
    if (!this.#greeted) return;
    for (const entry of this.#queue) {
      if (entry.sent || entry.error) continue;
      if (!this.#pace.allows(FOR_HINTS)) {
        this.#timer = setTimeout(() => this.#handOver(), 1000 / PER_SECOND);
        return;
      }
      this.#socket.send(JSON.stringify(entry.order));
      entry.sent = true;
    }
  }

  /** Repeated, what the program does not understand would keep all behind it from being handed over. */
  #refuse() {
    const first = this.#queue.find(({ sent, error }) => sent && !error);
    if (first) this.#answer({ nonce: first.order.nonce, error: "the program does not understand it" });
  }

  #answer({ nonce, error }) {
    const entry = this.#queue.find(({ order }) => order.nonce === nonce);
    if (!entry) return;
    if (error && isWritten(entry)) entry.error = error;
    else this.#queue = this.#queue.filter((other) => other !== entry);
    this.#keep();
    if (error) this.#calls.refused(entry.order, error);
  }

  /** Another node or channel at this address gets none of the orders that were meant for the one before. */
  #rename(name) {
    if (name === this.#name) return;
    const early = this.#name ? [] : this.#queue;
    this.#name = name;
    this.#queue = [...stored(name), ...early];
    this.#keep();
  }

  #keep() {
    this.#calls.queued();
    if (!this.#name) return;
    try {
      sessionStorage.setItem(this.#name, JSON.stringify(this.#queue.map(({ order, error }) => ({ order, error }))));
    } catch {
      // Full, or not allowed: they last as long as this page.
    }
  }
}

/** How the queue is shown. `takeUp` gets a refused order whose text is to be used again. */
export function queueItems(connection, takeUp) {
  const items = connection.queue.slice(-MOST_SHOWN).map(({ order, error }) => {
    const item = element("li", "post own unanswered");
    const line = element("p", "text", what(order));
    line.dir = "auto";
    const foot = element("div", "foot");
    const button = (name, run) => {
      const made = element("button", "", name);
      made.type = "button";
      made.addEventListener("click", run);
      foot.append(made);
    };
    if (error) {
      button("Take it up again", () => {
        connection.drop(order);
        takeUp(order);
      });
      button("Throw it away", () => connection.drop(order));
    }
    foot.append(element("span", "mark", error ? `✗ not done: ${error}` : "not handed over yet"));
    item.append(line, foot);
    return item;
  });
  const rest = connection.queue.length - items.length;
  return rest ? [element("li", "day", `${rest} more, not handed over yet`), ...items] : items;
}

function what(order) {
  switch (order.do) {
    case "say": return order.text;
    case "edit": return `Edit: ${order.text}`;
    case "file": return inShort(order.file);
    case "delete": return "The deletion of a message";
    default: return `${order.emoji} ${order.on ? "for a message" : "taken back"}`;
  }
}

/** What is to be told of the connections; nothing where all is well. */
export function bannerLine({ me, there, link }, unanswered) {
  if (!there) {
    return me || unanswered ? `The chat program does not answer; trying again.${unanswered ? ` ${unanswered} not handed over yet.` : ""}` : "";
  }
  if (link.connected) return "";
  const why = link.reason ? ` (${link.reason})` : "";
  const waiting = link.waiting === 0 ? "nothing waits" : link.waiting === 1 ? "1 message waits, and goes out" : `${link.waiting} messages wait, and go out`;
  return `No connection to NATS for ${span(Date.now() - link.since)}${why}: ${waiting}${link.waiting ? " when it is back" : ""}.`;
}

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

function stored(name) {
  try {
    const orders = JSON.parse(sessionStorage.getItem(name));
    return Array.isArray(orders) ? orders.filter((entry) => typeof entry?.order?.nonce === "string") : [];
  } catch {
    return [];
  }
}

function nonce() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}
