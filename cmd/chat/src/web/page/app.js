// The page: what is typed goes out, what happens is shown.

import { Coming } from "./coming.js";
import { Connection, bannerLine, queueItems } from "./connection.js";
import { Posts, Reading, element, inShort, nameOf } from "./posts.js";
import { Tabs, showHealth } from "./health.js";
import { showNetwork, showPresence, typingLine } from "./network.js";

const MAX_TEXT_BYTES = 16384;
const TYPING_INTERVAL_MS = 4000;
const TYPING_LASTS_MS = 6000;
const LOOK_INTERVAL_MS = 2000;
const SEEN_DELAY_MS = 300;
const NOTICE_LASTS_MS = 6000;
/** So near to its end, the list follows what is said. */
const END_PX = 80;
/** Messages that stay in the list while its end is shown, and how many more make it worth the work. */
const MOST_POSTS = 1000;
const TOO_MANY = 100;
/** So many heights of what is shown before its end, a list that is full takes more. */
const HEIGHTS_AHEAD = 2;
/** How far back it is asked for the message that was looked at before the connection was lost. */
const MOST_PAGES_BACK = 20;
/** An order that is answered sooner is not shown to wait. */
const QUEUE_DELAY_MS = 150;
const MOST_ALOUD = 5;
/** The key code of what an input method takes. */
const COMPOSING = 229;

const by = (id) => document.getElementById(id);
const [text, to, form, scroll, banner] = ["text", "to", "form", "scroll", "banner"].map(by);
const state = { me: "", channel: "", mode: "", online: new Set(), away: new Set(), there: false, link: null, typing: new Map(), typed: 0 };
/** `editing` is the message, `draft` what was in the box before. */
const box = { editing: null, draft: "" };
/** `atEnd`: the list follows; `sought`: the message that is to come back to its height. */
const view = { atEnd: true, sought: null, pages: 0 };

const posts = new Posts(by("posts"), {
  react: (post, emoji, on) => order({ do: "react", key: key(post), emoji, on }),
  edit: (post) => edit(post, post.content.text),
  remove: (post) => {
    if (confirm("Delete this message for everybody?")) order({ do: "delete", key: key(post) });
  },
});
const reading = new Reading();
const coming = new Coming({ show, many, told: showChange, rests: () => posts.size > MOST_POSTS + TOO_MANY && !isNearEnd() });
const connection = new Connection({
  told,
  changed: (there) => {
    state.there = there;
    showBanner();
  },
  queued,
  refused: (order, error) => say(`Not done: ${error}`),
});

function key({ id, sender }) {
  return { id, sender };
}

function told(news) {
  switch (news.type) {
    case "hello": hello(news); break;
    // What follows from it comes with the frame: there may be thousands.
    case "post": came(news.post); return;
    case "changed": if (posts.change(news.post) || coming.change(news.post)) reading.note(news.post); break;
    case "mark":
      posts.mark(news.id, news.mark);
      coming.mark(nameOf({ id: news.id, sender: state.me }), news.mark);
      break;
    case "read": read(news); break;
    case "typing":
      if (news.on) state.typing.set(news.node, Date.now() + TYPING_LASTS_MS);
      else state.typing.delete(news.node);
      break;
    case "joined": present(news.node, true); break;
    case "left": present(news.node, false); break;
    case "link":
      if (news.connected && state.link && !state.link.connected) say("NATS is here again");
      if (!news.connected && state.link?.connected) aloud("No connection to NATS.");
      link(news);
      break;
    case "waiting":
      if (state.link) state.link.waiting = news.waiting;
      showBanner();
      break;
    case "warning": say(news.text); break;
    case "page": page(news); break;
    case "health": showHealth(news.samples, by("charts")); break;
    case "network": showNetwork(news, by("picture"), by("nodes"), by("queues")); break;
  }
  showChange();
}

function showChange() {
  showTyping();
  showTitle();
}

function hello(news) {
  const first = !state.me;
  const place = view.atEnd ? null : placeNow();
  Object.assign(state, { me: news.me, channel: news.channel, mode: news.mode, online: new Set(news.online), away: new Set(news.away) });
  state.typing = new Map(news.typing.map((node) => [node, Date.now() + TYPING_LASTS_MS]));
  posts.me = news.me;
  coming.clear();
  posts.reset(news.posts);
  reading.begin(news.me, news.read.all, news.read.direct, news.posts);
  by("older").hidden = !news.more;
  by("title").textContent = news.channel;
  by("who").textContent = `you are ${news.me}${{ reader: ", to read only", writer: ", to write only" }[news.mode] ?? ""}`;
  form.hidden = news.mode === "reader";
  link(news);
  showOnline();
  if (first) text.focus();
  if (view.atEnd) toEnd();
  Object.assign(view, { sought: place, pages: MOST_PAGES_BACK });
  seek(news.more);
  see();
}

function came(post) {
  state.typing.delete(post.sender);
  if (posts.change(post) || coming.change(post)) return;
  reading.note(post);
  coming.add(post);
}

/** Of many that come together at the list's end, only those are shown that would stay. */
function many() {
  if (!view.atEnd || coming.size <= MOST_POSTS) return;
  reading.forget(coming.skip(MOST_POSTS));
  reading.forget(posts.clear());
  by("older").hidden = false;
}

function show(more) {
  const place = view.atEnd ? null : placeNow();
  const isNear = isNearEnd();
  for (const post of more) posts.put(post);
  const others = more.filter(({ sender }) => sender !== state.me).slice(-MOST_ALOUD);
  others.forEach(({ sender, content }) => aloud(`${sender}: ${content.file ? inShort(content.file) : content.text ?? "deleted"}`));
  if (posts.size > MOST_POSTS + TOO_MANY && isNear) {
    reading.forget(posts.trim(MOST_POSTS));
    by("older").hidden = false;
  }
  if (view.atEnd) toEnd();
  else backTo(place);
  see();
}

function present(node, here) {
  const [to, from] = here ? [state.online, state.away] : [state.away, state.online];
  to.add(node);
  from.delete(node);
  if (!here) state.typing.delete(node);
  say(here ? `${node} is here` : `${node} has gone`);
  showOnline();
}

function read({ reader, upto, direct }) {
  if (reader === state.me) reading.read(upto, direct);
}

function link({ connected, reason, away_ms, waiting }) {
  state.link = { connected, reason, since: Date.now() - away_ms, waiting };
  showBanner();
}

function page({ before, posts: older, more }) {
  // An answer to what was asked before the list began anew would leave a hole.
  if (before !== posts.oldest) return;
  view.sought ??= placeNow();
  older.forEach((post) => {
    posts.put(post);
    reading.note(post);
  });
  if (!more && document.activeElement === by("older")) scroll.focus();
  by("older").hidden = !more;
  seek(more);
}

function askOlder() {
  const seq = posts.oldest;
  return seq !== undefined && connection.hint({ do: "before", seq });
}

/** The message at the top of what is shown, and its height. */
function placeNow() {
  const { top } = scroll.getBoundingClientRect();
  const name = posts.above(top + 1) ?? posts.first;
  return name && { name, height: posts.itemOf(name).getBoundingClientRect().top - top };
}

/** Brings the message that was looked at to where it was; asks for older ones where it is not here. */
function seek(more) {
  const { sought } = view;
  if (sought && !backTo(sought) && more && view.pages-- > 0 && askOlder()) return;
  view.sought = null;
}

/** Whether this message is here; brings it back to its height. */
function backTo(place) {
  const item = place && posts.itemOf(place.name);
  if (item) scroll.scrollTop += item.getBoundingClientRect().top - scroll.getBoundingClientRect().top - place.height;
  return Boolean(item);
}

/** Whether the list follows, or is to have more below what is shown. */
function isNearEnd() {
  return view.atEnd || left() < HEIGHTS_AHEAD * scroll.clientHeight;
}

/** How much of the list lies below what is shown. */
function left() {
  return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
}

function toEnd() {
  view.atEnd = true;
  scroll.scrollTop = scroll.scrollHeight;
}

// What was shown to somebody who looks is read.
function isSeen() {
  return document.visibilityState === "visible" && document.hasFocus() && !by("view-chat").hidden;
}

let seeing = 0;
function see() {
  // Together: each order counts against the program's limits.
  seeing ||= setTimeout(tellSeen, SEEN_DELAY_MS);
}

function tellSeen() {
  seeing = 0;
  if (!isSeen()) return;
  const lowest = view.atEnd ? posts.last : posts.above(scroll.getBoundingClientRect().bottom);
  const seen = lowest ? reading.lastUpTo(lowest, (name) => !coming.has(name)) : [];
  if (!seen.length) return;
  if (state.mode === "readwrite" && !connection.hint({ do: "read", keys: seen.map(key) })) {
    if (state.there) see();
    return;
  }
  seen.forEach((post) => reading.read({ [post.sender]: post.id }, Boolean(post.to)));
  showTitle();
}

function showTitle() {
  const title = `${reading.unread ? `(${reading.unread}) ` : ""}${state.channel || "chat"}`;
  if (document.title !== title) document.title = title;
}

function showOnline() {
  showPresence(state, by("online"), to);
}

function showTyping() {
  const line = typingLine(state.typing);
  if (by("typing").textContent !== line) by("typing").textContent = line;
}

function showBanner() {
  const line = bannerLine(state, connection.unanswered);
  banner.hidden = !line;
  if (banner.textContent !== line) banner.textContent = line;
}

function say(line) {
  const notice = element("p", "", line);
  by("notices").append(notice);
  setTimeout(() => notice.remove(), NOTICE_LASTS_MS);
}

/** For those who hear the page: only what is new, not what is shown anew. */
function aloud(line) {
  const place = by("aloud");
  place.append(element("p", "", line));
  while (place.childElementCount > MOST_ALOUD) place.firstElementChild.remove();
}

let showing = 0;
function queued() {
  showing ||= setTimeout(showQueue, QUEUE_DELAY_MS);
}

function showQueue() {
  showing = 0;
  by("queue").replaceChildren(...queueItems(connection, takeUp));
  showBanner();
  if (view.atEnd) toEnd();
}

function takeUp(order) {
  if (order.do === "edit") {
    edit(order.key, order.text);
    return;
  }
  if (box.editing) endEdit();
  text.value = [text.value, order.text].filter(Boolean).join("\n");
  text.focus();
}

function edit(post, line) {
  if (!box.editing) box.draft = text.value;
  box.editing = key(post);
  form.classList.add("editing");
  by("text-label").textContent = "Edit";
  by("cancel").hidden = false;
  to.disabled = true;
  text.value = line;
  text.focus();
}

function endEdit() {
  box.editing = null;
  form.classList.remove("editing");
  by("text-label").textContent = "Message";
  by("cancel").hidden = true;
  to.disabled = false;
  text.value = box.draft;
  text.focus();
}

function tellTyping(on) {
  if (on === (Date.now() - state.typed < TYPING_INTERVAL_MS)) return;
  if (!on && !state.typed) return;
  state.typed = on ? Date.now() : 0;
  connection.hint({ do: "typing", on });
}

function order(order) {
  const taken = connection.order(order);
  if (!taken) say("Too much waits for the program: try again when it is back.");
  return taken;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // A text that was cut in the middle of a character is no text for the program.
  const line = text.value.trim().toWellFormed();
  if (!line) return;
  const size = new TextEncoder().encode(line).length;
  if (size > MAX_TEXT_BYTES) {
    say(`Too long: ${size} bytes, at most ${MAX_TEXT_BYTES}.`);
    return;
  }
  state.typed = 0;
  if (box.editing) {
    if (order({ do: "edit", key: box.editing, text: line })) endEdit();
  } else if (order({ do: "say", text: line, to: to.value || null })) {
    text.value = "";
    toEnd();
  }
});

// Keys while an input method composes are its own, whatever they mean here. Safari ends the composition before it tells of the Enter that ended it.
let composed = false;
addEventListener("compositionend", () => {
  composed = true;
  setTimeout(() => { composed = false; });
}, true);
for (const kind of ["keydown", "keypress", "keyup"]) {
  addEventListener(kind, (event) => {
    if (event.isComposing || event.keyCode === COMPOSING || (composed && kind === "keydown")) event.stopImmediatePropagation();
  }, true);
}
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.key === "Escape" && box.editing) {
    endEdit();
  } else if (event.key === "ArrowUp" && !text.value && !box.editing) {
    const last = posts.lastOwn;
    if (last) {
      event.preventDefault();
      edit(last, last.content.text);
    }
  }
});
text.addEventListener("input", () => tellTyping(Boolean(text.value.trim())));
by("cancel").addEventListener("click", endEdit);
by("file").addEventListener("change", (event) => {
  const [chosen] = event.target.files;
  if (chosen) {
    const file = { name: chosen.name.toWellFormed(), size: chosen.size, type: chosen.type || "application/octet-stream" };
    order({ do: "file", file, to: to.value || null });
  }
  event.target.value = "";
});
by("older").addEventListener("click", () => {
  view.pages = 0;
  askOlder();
});
by("skip").addEventListener("click", (event) => {
  event.preventDefault();
  tabs.choose(0);
  (form.hidden ? scroll : text).focus();
});
scroll.addEventListener("scroll", () => {
  view.atEnd = left() < END_PX;
  coming.goOn();
  see();
});
new ResizeObserver(() => {
  if (view.atEnd) toEnd();
}).observe(scroll);

const tabs = new Tabs(["chat", "network", "health"].map((name) => [by(`tab-${name}`), by(`view-${name}`)]), () => {
  askLooks();
  see();
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
