// The page: what is typed goes out, what happens is shown.

import { Connection } from "./connection.js";
import { Posts, element } from "./posts.js";
import { showHealth } from "./health.js";
import { showNetwork } from "./network.js";

const MAX_TEXT_BYTES = 16384;
const TYPING_INTERVAL_MS = 4000;
const TYPING_LASTS_MS = 6000;
const LOOK_INTERVAL_MS = 2000;
const SEEN_DELAY_MS = 300;
const NOTICE_LASTS_MS = 6000;

const by = (id) => document.getElementById(id);
const [text, to, form, scroll, banner] = ["text", "to", "form", "scroll", "banner"].map(by);
const state = { me: "", channel: "", mode: "", online: new Set(), there: false, link: null, editing: null, unread: 0, seen: new Map(), typing: new Map(), typed: 0 };

const posts = new Posts(by("posts"), {
  react: (post, emoji, on) => connection.order({ do: "react", key: key(post), emoji, on }, failed),
  edit: (post) => edit(post),
  remove: (post) => {
    if (confirm("Delete this message for everybody?")) connection.order({ do: "delete", key: key(post) }, failed);
  },
});
const connection = new Connection(told, (there) => {
  state.there = there;
  showBanner();
});

function key({ id, sender }) {
  return { id, sender };
}

function told(news) {
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  switch (news.type) {
    case "hello": hello(news); break;
    case "post": {
      const isNew = posts.put(news.post);
      state.typing.delete(news.post.sender);
      if (isNew && news.post.sender !== state.me && !isSeen()) {
        state.unread += 1;
      }
      if (atEnd || news.post.sender === state.me) toEnd();
      see();
      break;
    }
    case "changed": posts.put(news.post); break;
    case "mark": posts.mark(news.id, news.mark); break;
    case "read":
      posts.read(news.reader, news.upto);
      if (news.reader === state.me) remember(news.upto);
      break;
    case "typing":
      if (news.on) state.typing.set(news.node, Date.now() + TYPING_LASTS_MS);
      else state.typing.delete(news.node);
      break;
    case "joined": state.online.add(news.node); say(`${news.node} is here`); showOnline(); break;
    case "left": state.online.delete(news.node); state.typing.delete(news.node); say(`${news.node} has gone`); showOnline(); break;
    case "link":
      if (news.connected && state.link && !state.link.connected) say("NATS is here again");
      link(news);
      break;
    case "waiting": state.link.waiting = news.waiting; showBanner(); break;
    case "warning": say(news.text); break;
    case "page": page(news); break;
    case "health": showHealth(news.samples, by("charts")); break;
    case "network": showNetwork(news, by("picture"), by("nodes"), by("queues")); break;
  }
  showTyping();
  showTitle();
}

function hello(news) {
  const first = !state.me;
  Object.assign(state, { me: news.me, channel: news.channel, mode: news.mode, online: new Set(news.online) });
  posts.me = news.me;
  state.seen = new Map(Object.entries(news.read));
  state.typing = new Map(news.typing.map((node) => [node, Date.now() + TYPING_LASTS_MS]));
  news.posts.forEach((post) => posts.put(post));
  by("older").hidden = !news.more;
  by("title").textContent = news.channel;
  by("who").textContent = `you are ${news.me} (${{ reader: "reads only", writer: "writes only", readwrite: "reads and writes" }[news.mode]})`;
  form.hidden = news.mode === "reader";
  link(news);
  showOnline();
  if (first) {
    toEnd();
    text.focus();
  }
  see();
}

function link({ connected, reason, away_ms, waiting }) {
  state.link = { connected, reason, since: Date.now() - away_ms, waiting };
  showBanner();
}

function page({ posts: older, more }) {
  const from = scroll.scrollHeight - scroll.scrollTop;
  older.forEach((post) => posts.put(post));
  by("older").hidden = !more;
  scroll.scrollTop = scroll.scrollHeight - from;
}

// What was shown to somebody who looks is read.
function isSeen() {
  return document.visibilityState === "visible" && document.hasFocus();
}

function remember(upto) {
  for (const [sender, id] of Object.entries(upto)) {
    if (!(state.seen.get(sender) >= id)) state.seen.set(sender, id);
  }
}

let seeing = 0;
function see() {
  // Together: each order counts against the program's limits.
  seeing ||= setTimeout(tellSeen, SEEN_DELAY_MS);
}

function tellSeen() {
  seeing = 0;
  if (!isSeen() || state.mode !== "readwrite") return;
  const last = new Map();
  for (const post of posts.all()) {
    if (post.sender !== state.me && !(state.seen.get(post.sender) >= post.id)) last.set(post.sender + (post.to ?? ""), post);
  }
  if (last.size) {
    const keys = [...last.values()].map(key);
    connection.hint({ do: "read", keys });
  }
  state.unread = 0;
  showTitle();
}

function showTitle() {
  document.title = `${state.unread ? `(${state.unread}) ` : ""}${state.channel || "chat"}`;
}

function showOnline() {
  by("online").replaceChildren(...[...state.online].sort().map((node) => element("li", "", node)));
  const chosen = to.value;
  const names = [...new Set([...state.online, ...(chosen ? [chosen] : [])])].sort();
  to.replaceChildren(new Option("everybody", ""), ...names.map((node) => new Option(node, node)));
  to.value = chosen;
}

function showTyping() {
  const now = Date.now();
  const names = [...state.typing].filter(([, until]) => until > now).map(([node]) => node);
  const line = names.length === 0 ? "" : names.length > 3 ? "several are typing …" : `${names.join(", ")} ${names.length === 1 ? "is" : "are"} typing …`;
  if (by("typing").textContent !== line) by("typing").textContent = line;
}

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

function showBanner() {
  let line = "";
  if (!state.there) {
    const waiting = connection?.unanswered ?? 0;
    line = state.me || waiting ? `The chat program does not answer; trying again.${waiting ? ` ${waiting} not handed over yet.` : ""}` : "";
  } else if (state.link && !state.link.connected) {
    const waiting = state.link.waiting === 0 ? "nothing waits" : state.link.waiting === 1 ? "1 message waits" : `${state.link.waiting} messages wait`;
    line = `No connection to NATS for ${span(Date.now() - state.link.since)}: ${waiting}. What is said goes out by itself when it is back.`;
  }
  banner.hidden = !line;
  if (banner.textContent !== line) banner.textContent = line;
}

function say(line) {
  const notice = element("p", "", line);
  by("notices").append(notice);
  setTimeout(() => notice.remove(), NOTICE_LASTS_MS);
}

function failed(error) {
  if (error) say(`Not done: ${error}`);
  showBanner();
}

function toEnd() {
  scroll.scrollTop = scroll.scrollHeight;
}

function edit(post) {
  state.editing = post;
  by("text-label").textContent = "Edit";
  by("cancel").hidden = false;
  to.disabled = true;
  text.value = post.content.text;
  text.focus();
}

function endEdit() {
  state.editing = null;
  by("text-label").textContent = "Message";
  by("cancel").hidden = true;
  to.disabled = false;
  text.value = "";
  text.focus();
}

function tellTyping(on) {
  if (on === (Date.now() - state.typed < TYPING_INTERVAL_MS)) return;
  if (!on && !state.typed) return;
  state.typed = on ? Date.now() : 0;
  connection.hint({ do: "typing", on });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const line = text.value.trim();
  if (!line) return;
  const size = new TextEncoder().encode(line).length;
  if (size > MAX_TEXT_BYTES) {
    say(`Too long: ${size} bytes, at most ${MAX_TEXT_BYTES}.`);
    return;
  }
  state.typed = 0;
  if (state.editing) {
    connection.order({ do: "edit", key: key(state.editing), text: line }, failed);
    endEdit();
    return;
  }
  connection.order({ do: "say", text: line, to: to.value || null }, (error) => {
    if (error && !text.value) text.value = line;
    failed(error);
  });
  text.value = "";
  showBanner();
});

text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.key === "Escape" && state.editing) {
    endEdit();
  } else if (event.key === "ArrowUp" && !text.value && !state.editing) {
    const last = posts.lastOwn;
    if (last) {
      event.preventDefault();
      edit(last);
    }
  }
});
text.addEventListener("input", () => tellTyping(Boolean(text.value.trim())));
by("cancel").addEventListener("click", endEdit);
by("file").addEventListener("change", (event) => {
  const [chosen] = event.target.files;
  if (chosen) {
    const file = { name: chosen.name, size: chosen.size, type: chosen.type || "application/octet-stream" };
    connection.order({ do: "file", file, to: to.value || null }, failed);
  }
  event.target.value = "";
});
by("older").addEventListener("click", () => {
  const first = posts.first;
  if (first) connection.hint({ do: "before", key: key(first) });
});

const tabs = ["chat", "network", "health"].map((name) => ({ tab: by(`tab-${name}`), view: by(`view-${name}`) }));
function choose(chosen) {
  for (const { tab, view } of tabs) {
    const isChosen = tab === chosen;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    view.hidden = !isChosen;
  }
  askLooks();
}
tabs.forEach(({ tab }, at) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const next = tabs[(at + step + tabs.length) % tabs.length].tab;
      choose(next);
      next.focus();
    }
  });
});
function askLooks() {
  if (document.visibilityState !== "visible") return;
  for (const name of ["network", "health"]) {
    if (!by(`view-${name}`).hidden) connection.hint({ do: name });
  }
}

setInterval(askLooks, LOOK_INTERVAL_MS);
setInterval(() => {
  showBanner();
  showTyping();
}, 1000);
addEventListener("focus", see);
document.addEventListener("visibilitychange", see);
