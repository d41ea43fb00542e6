// The messages, in the order of their ids. Text is only ever set as text.

const EMOJI = ["👍", "❤️", "😄", "🎉", "👀"];
/** A sender's clock that is further ahead of ours is wrong. */
const MOST_AHEAD_MS = 600000;

export const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

/** The same for a picture. */
export function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", year: "numeric", month: "long", day: "numeric" });

/** What people call it: the end of its id, the same on every screen. */
export const calledBy = ({ id }) => `#${id.slice(-4)}`;

/** Names a message; in the order in which messages are shown. */
export const nameOf = ({ id, sender }) => `${id} ${sender}`;

export class Posts {
  me = "";
  #list;
  #actions;
  #names = [];
  #shown = new Map();

  /** `actions`: react(post, emoji, on), edit(post), remove(post). */
  constructor(list, actions) {
    this.#list = list;
    this.#actions = actions;
  }

  /** The number of the first that arrived: what is here is all that has arrived since. */
  get oldest() {
    let seq;
    for (const { post } of this.#shown.values()) if (!(seq <= post.seq)) seq = post.seq;
    return seq;
  }

  get first() {
    return this.#names[0];
  }

  get last() {
    return this.#names.at(-1);
  }

  /** The last message of this node's that can be edited. */
  get lastOwn() {
    const name = this.#names.findLast((name) => this.get(name).sender === this.me && this.get(name).content.text !== undefined);
    return name && this.get(name);
  }

  get(name) {
    return this.#shown.get(name)?.post;
  }

  itemOf(name) {
    return this.#shown.get(name)?.item;
  }

  /** The last message that begins above this height of the window. */
  above(y) {
    const at = this.#search((name) => this.itemOf(name).getBoundingClientRect().top >= y);
    return this.#names[at - 1];
  }

  /** Shows these alone. */
  reset(posts) {
    const names = new Set(posts.map(nameOf));
    for (const name of this.#names.filter((name) => !names.has(name))) this.#remove(name);
    posts.forEach((post) => this.put(post));
  }

  /** Shows a message; true if it is new. */
  put(post) {
    const name = nameOf(post);
    if (this.change(post)) return false;
    const item = element("li");
    item.dataset.name = name;
    item.tabIndex = -1;
    const shown = { post, item, day: day.format(post.time_ms) };
    const at = this.#search((other) => other > name);
    const next = this.itemOf(this.#names[at]);
    this.#names.splice(at, 0, name);
    this.#shown.set(name, shown);
    this.#fill(shown);
    this.#list.insertBefore(item, next ? dayBefore(next) ?? next : null);
    this.#separate(at);
    this.#separate(at + 1);
    return true;
  }

  /** Shows what became of a message; false if it is not here. What is known of it stays where the news does not say. */
  change(post) {
    const shown = this.#shown.get(nameOf(post));
    if (!shown) return false;
    const now = { ...post, mark: post.mark ?? shown.post.mark, seq: post.seq ?? shown.post.seq };
    if (JSON.stringify(now) !== JSON.stringify(shown.post)) {
      shown.post = now;
      this.#fill(shown);
    }
    return true;
  }

  mark(id, mark) {
    const shown = this.#shown.get(nameOf({ id, sender: this.me }));
    if (!shown) return;
    shown.post = { ...shown.post, mark };
    this.#showMark(shown);
  }

  /** Leaves out what arrived first, so that this many are left; their names. */
  trim(most) {
    const seq = (name) => this.get(name).seq ?? 0;
    const gone = [...this.#names].sort((a, b) => seq(a) - seq(b)).slice(0, Math.max(0, this.#names.length - most));
    gone.forEach((name) => this.#remove(name));
    return gone;
  }

  /** Leaves out all; their names. */
  clear() {
    const gone = this.#names;
    const focused = this.#list.contains(document.activeElement);
    this.#list.replaceChildren();
    this.#names = [];
    this.#shown.clear();
    if (focused) this.#list.parentElement.focus();
    return gone;
  }

  get size() {
    return this.#names.length;
  }

  /** The first place whose message is so; those behind it are so, too. Nearly always the end. */
  #search(is) {
    let [from, to] = [0, this.#names.length];
    if (to && !is(this.#names[to - 1])) return to;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (is(this.#names[middle])) to = middle;
      else from = middle + 1;
    }
    return from;
  }

  #remove(name) {
    const { item } = this.#shown.get(name);
    const at = this.#search((other) => other >= name);
    const focused = item.contains(document.activeElement);
    dayBefore(item)?.remove();
    item.remove();
    this.#names.splice(at, 1);
    this.#shown.delete(name);
    this.#separate(at);
    if (focused) this.itemOf(this.#names[Math.min(at, this.#names.length - 1)])?.focus();
  }

  /** A line before the first message of a day. */
  #separate(at) {
    const shown = this.#shown.get(this.#names[at]);
    if (!shown) return;
    const begins = this.#shown.get(this.#names[at - 1])?.day !== shown.day;
    const line = dayBefore(shown.item);
    if (begins && !line) shown.item.before(element("li", "day", shown.day));
    if (!begins) line?.remove();
  }

  /** Leaves the rest as it is, so that a click that is under way is not lost. */
  #showMark({ post, item }) {
    const shown = item.querySelector(".mark");
    if (shown) shown.textContent = inWords(post);
  }

  #fill({ post, item }) {
    const own = post.sender === this.me;
    const focused = item.contains(document.activeElement) && document.activeElement.dataset;
    item.className = own ? "post own" : "post";
    item.replaceChildren(this.#head(post, own), content(post.content), this.#foot(post, own));
    // What had the focus may be gone, with the message.
    if (focused) ([...item.querySelectorAll("button")].find(({ dataset }) => dataset.does === focused.does) ?? item).focus();
  }

  #head(post, own) {
    const head = element("div", "head");
    const at = element("time", "", time.format(post.time_ms));
    at.dateTime = new Date(post.time_ms).toISOString();
    const called = element("span", "called", calledBy(post));
    called.title = post.id;
    head.append(element("span", "name", post.sender), at, called);
    if (post.time_ms > Date.now() + MOST_AHEAD_MS) head.append(element("span", "ahead", "clock ahead"));
    if (post.to) head.append(element("span", "", own ? `to ${post.to} only` : "to you only"));
    if (post.edited) head.append(element("span", "", "edited"));
    if (post.content === "deleted") return head;
    const tools = element("span", "tools");
    if (!own) {
      const offered = EMOJI.filter((emoji) => !Object.hasOwn(post.reactions, emoji));
      tools.append(...offered.map((emoji) => this.#reaction(post, emoji, [])));
    }
    if (own && post.content.text !== undefined) tools.append(button("edit", "Edit", "Edit this message", () => this.#actions.edit(post)));
    if (own) tools.append(button("delete", "Delete", "Delete this message", () => this.#actions.remove(post)));
    head.append(tools);
    return head;
  }

  #foot(post, own) {
    const foot = element("div", "foot");
    if (post.content !== "deleted") foot.append(...Object.entries(post.reactions).map(([emoji, names]) => this.#reaction(post, emoji, names)));
    if (own) foot.append(element("span", "mark", inWords(post)));
    return foot;
  }

  #reaction(post, emoji, names) {
    const mine = names.includes(this.me);
    const label = names.length ? `${emoji}: ${names.join(", ")}` : `react with ${emoji}`;
    const made = button(`react ${emoji}`, names.length ? `${emoji} ${names.length}` : emoji, label, () => this.#actions.react(post, emoji, !mine));
    made.setAttribute("aria-pressed", String(mine));
    made.title = label;
    return made;
  }
}

/** What this node has read, by sender, public and direct messages apart; and what it has not. */
export class Reading {
  me = "";
  #upto = { all: new Map(), direct: new Map() };
  #unread = new Map();

  get unread() {
    return this.#unread.size;
  }

  /** `all` and `direct`: by sender, up to where the node has read. */
  begin(me, all, direct, posts) {
    this.me = me;
    this.#upto = { all: new Map(Object.entries(all)), direct: new Map(Object.entries(direct)) };
    this.#unread.clear();
    posts.forEach((post) => this.note(post));
  }

  /** Notes a message, or what became of it. */
  note(post) {
    const isUnread = post.sender !== this.me && post.content !== "deleted" && !(this.#of(post).get(post.sender) >= post.id);
    if (isUnread) this.#unread.set(nameOf(post), post);
    else this.#unread.delete(nameOf(post));
  }

  forget(names) {
    names.forEach((name) => this.#unread.delete(name));
  }

  /** Of each sender the last unread message up to this one, of those that are shown. */
  lastUpTo(name, isShown) {
    const last = new Map();
    for (const [other, post] of this.#unread) {
      const of = `${post.sender} ${Boolean(post.to)}`;
      if (other <= name && isShown(other) && !(last.get(of)?.id > post.id)) last.set(of, post);
    }
    return [...last.values()];
  }

  /** Everything of these senders up to these ids was read. */
  read(upto, direct) {
    for (const [sender, id] of Object.entries(upto)) {
      const known = this.#upto[direct ? "direct" : "all"];
      if (!(known.get(sender) >= id)) known.set(sender, id);
    }
    [...this.#unread.values()].forEach((post) => this.note(post));
  }

  #of(post) {
    return this.#upto[post.to ? "direct" : "all"];
  }
}

function dayBefore(item) {
  const before = item.previousElementSibling;
  return before?.className === "day" ? before : null;
}

function button(does, text, label, run) {
  const made = element("button", "", text);
  made.type = "button";
  made.dataset.does = does;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", run);
  return made;
}

function content(content) {
  if (content === "deleted") return element("p", "text gone", "deleted");
  const { file } = content;
  const text = element("p", "text", file ? inShort(file) : content.text);
  text.dir = "auto";
  return text;
}

export function inShort({ name, size, type }) {
  return `📎 ${name} (${bytes(size)}, ${type})`;
}

function inWords({ mark }) {
  // What is settled without a reader, or has been so for long, is nowhere any more.
  if (!mark || (mark.settled && !mark.readers)) return "";
  if (!mark.readers) return "… waiting";
  if (mark.read >= mark.readers) return "✓✓ read";
  if (mark.delivered === 0 && !mark.settled) return "… waiting";
  const failed = mark.failed ? `, ${mark.failed} will not get it` : "";
  const read = mark.read ? `, read by ${mark.read}` : "";
  return `${mark.delivered ? "✓" : "✗"} delivered to ${mark.delivered} of ${mark.readers}${read}${failed}`;
}

function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${at ? size.toFixed(1) : size} ${units[at]}`;
}
