// The messages, in the order of their ids. Text is only ever set as text.

const EMOJI = ["👍", "❤️", "😄", "🎉", "👀"];

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
const keyOf = (post) => `${post.id} ${post.sender}`;

export class Posts {
  #list;
  #posts = new Map();
  #items = new Map();
  #actions;
  me = "";

  /** `actions`: react(post, emoji, on), edit(post), remove(post). */
  constructor(list, actions) {
    this.#list = list;
    this.#actions = actions;
  }

  get first() {
    const keys = [...this.#posts.keys()].sort();
    return keys.length ? this.#posts.get(keys[0]) : null;
  }

  /** The last message of this node's that can be edited. */
  get lastOwn() {
    return this.all().reverse().find((post) => post.sender === this.me && post.content.text !== undefined);
  }

  all() {
    return [...this.#posts.keys()].sort().map((key) => this.#posts.get(key));
  }

  /** Shows a message; true if it is new. What is known of it already stays where the news does not say. */
  put(post) {
    const key = keyOf(post);
    const known = this.#posts.get(key);
    this.#posts.set(key, { ...post, mark: post.mark ?? known?.mark });
    this.#show(key);
    return !known;
  }

  mark(id, mark) {
    const key = `${id} ${this.me}`;
    const post = this.#posts.get(key);
    if (post) {
      post.mark = mark;
      this.#showMark(key, post);
    }
  }

  read(reader, upto) {
    for (const [key, post] of this.#posts) {
      if (upto[post.sender] >= post.id && reader !== post.sender && !post.read_by.includes(reader)) {
        post.read_by.push(reader);
        this.#showMark(key, post);
      }
    }
  }

  /** Leaves the rest as it is, so that a click that is under way is not lost. */
  #showMark(key, post) {
    const shown = this.#items.get(key).querySelector(".mark");
    if (shown) shown.textContent = inWords(post);
  }

  #show(key) {
    const post = this.#posts.get(key);
    const item = this.#render(post);
    const shown = this.#items.get(key);
    this.#items.set(key, item);
    if (shown) {
      const focused = shown.contains(document.activeElement) ? document.activeElement.dataset.does : null;
      shown.replaceWith(item);
      if (focused) [...item.querySelectorAll("button")].find((b) => b.dataset.does === focused)?.focus();
      return;
    }
    let next = this.#list.lastElementChild;
    // Nearly always the last one.
    while (next && (next.dataset.key === undefined || next.dataset.key > key)) {
      next = next.previousElementSibling;
    }
    if (next) next.after(item); else this.#list.prepend(item);
    this.#separate();
  }

  /** A line where a day begins. */
  #separate() {
    let last = "";
    for (const child of [...this.#list.children]) {
      if (child.dataset.key === undefined) {
        child.remove();
        continue;
      }
      const today = day.format(this.#posts.get(child.dataset.key).time_ms);
      if (today !== last) {
        child.before(element("li", "day", today));
        last = today;
      }
    }
  }

  #render(post) {
    const own = post.sender === this.me;
    const item = element("li", own ? "post own" : "post");
    item.dataset.key = keyOf(post);
    const head = element("div", "head");
    const at = element("time", "", time.format(post.time_ms));
    at.dateTime = new Date(post.time_ms).toISOString();
    head.append(element("span", "name", post.sender), at);
    if (post.to) head.append(element("span", "", own ? `to ${post.to} only` : "to you only"));
    if (post.edited) head.append(element("span", "", "edited"));
    item.append(head, content(post.content));
    item.append(this.#foot(post, own));
    return item;
  }

  #foot(post, own) {
    const foot = element("div", "foot");
    if (post.content !== "deleted") {
      const button = (does, text, label, run) => {
        const made = element("button", "", text);
        made.type = "button";
        made.dataset.does = does;
        made.setAttribute("aria-label", label);
        made.addEventListener("click", run);
        foot.append(made);
        return made;
      };
      for (const emoji of [...new Set([...Object.keys(post.reactions), ...EMOJI.slice(0, own ? 0 : EMOJI.length)])]) {
        const by = post.reactions[emoji] ?? [];
        const mine = by.includes(this.me);
        const label = by.length ? `${emoji}: ${by.join(", ")}` : `react with ${emoji}`;
        const made = button(`react ${emoji}`, by.length ? `${emoji} ${by.length}` : emoji, label, () => this.#actions.react(post, emoji, !mine));
        made.setAttribute("aria-pressed", String(mine));
        made.title = label;
      }
      if (own && post.content.text !== undefined) button("edit", "Edit", "Edit this message", () => this.#actions.edit(post));
      if (own) button("delete", "Delete", "Delete this message", () => this.#actions.remove(post));
    }
    if (own) foot.append(element("span", "mark", inWords(post)));
    return foot;
  }
}

function content(content) {
  if (content === "deleted") return element("p", "text gone", "deleted");
  if (content.file) {
    const { name, size, type } = content.file;
    return element("p", "text", `📎 ${name} (${bytes(size)}, ${type})`);
  }
  const text = element("p", "text", content.text);
  text.dir = "auto";
  return text;
}

function inWords({ mark, read_by }) {
  if (!mark || mark.readers === 0) return "… waiting";
  if (mark.delivered === mark.readers && read_by.length >= mark.readers) return "✓✓ read";
  if (mark.delivered === 0 && !mark.settled) return "… waiting";
  const failed = mark.failed ? `, ${mark.failed} will not get it` : "";
  const read = read_by.length ? `, read by ${read_by.length}` : "";
  return `✓ delivered to ${mark.delivered} of ${mark.readers}${read}${failed}`;
}

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${at ? size.toFixed(1) : size} ${units[at]}`;
}
