// What comes rarely, or takes long, before a pretended program: long lists, late arrivals, silence, clocks that are wrong, hostile names.

import { check, has, markOf, open, post, say, texts } from "./harness.mjs";
import { until } from "./network.mjs";
import { Program } from "./pretend.mjs";

const [MINUTE, DAY] = [60000, 86400000];

async function begin(port, prepare) {
  const program = new Program();
  await prepare?.(program);
  return { program, page: await open(port, { before: program.lay }) };
}

/** A list of arrivals without gaps, sorted by time: what arrives late is far up, and does not hide what is older. */
async function lateArrivals(port) {
  const { program, page } = await begin(port, (program) => {
    for (let at = 0; at < 250; at += 1) program.arrives("bob", `in time ${at}.`, { time_ms: Date.now() - DAY / 8 + at * 1000 });
  });
  program.tell({ type: "post", post: program.arrives("cara", "late", { time_ms: Date.now() - DAY / 4 }) });
  await until("what comes late stands where it belongs", async () => (await texts(page))[0] === "late");
  for (let at = 0; at < 3 && (await page.locator("#older").isVisible()); at += 1) {
    const before = (await texts(page)).length;
    await page.locator("#older").click();
    await until("older ones come", async () => (await texts(page)).length > before);
  }
  check("nothing is left out", JSON.stringify(await texts(page)) === JSON.stringify(["late", ...Array.from({ length: 250 }, (_, at) => `in time ${at}.`)]));
  program.tell({ type: "changed", post: { ...program.posts[0], id: "00000000000000000000000001", content: { text: "unknown" } } });
  program.tell({ type: "changed", post: { ...program.posts[0], content: { text: "changed" } } });
  await until("what changes is changed", has(page, "changed"));
  check("where it is here", (await post(page, "unknown").count()) === 0);
  await page.context().close();
}

async function longList(port) {
  const { program, page } = await begin(port);
  for (let at = 0; at < 1500; at += 1) program.tell({ type: "post", post: program.arrives("bob", `long ${at}.`) });
  await until("the last of many is here", has(page, "long 1499."));
  const shown = await texts(page);
  check(`the list stays short: ${shown.length}`, shown.length >= 1000 && shown.length <= 1100);
  check("and whole", shown.every((text, at) => text === `long ${1500 - shown.length + at}.`));
  await page.locator("#older").click();
  await until("what was left out comes back", has(page, `long ${1500 - shown.length - 1}.`));
  check("without a hole", (await texts(page)).every((text, at, all) => text === `long ${1500 - all.length + at}.`));
  const asked = program.asked.findLast((order) => order.do === "before");
  check("asked for by arrival", asked.seq === program.posts[1500 - shown.length].seq);
  await page.context().close();
}

/** Gives the page many messages as a socket does, a few in each task, and watches how they are shown. */
async function pour(page, program, count, what) {
  const posts = Array.from({ length: count }, (_, at) => program.arrives("bob", `${what} ${at}.`));
  await page.evaluate(async (posts) => {
    const seen = { inFrame: 0, most: 0, sum: 0, longest: 0, gap: 0 };
    globalThis.seen = seen;
    new MutationObserver((changes) => {
      const rows = changes.flatMap(({ addedNodes }) => [...addedNodes]).filter((node) => node.classList.contains("post")).length;
      seen.inFrame += rows;
      seen.sum += rows;
      seen.most = Math.max(seen.most, seen.inFrame);
    }).observe(document.getElementById("posts"), { childList: true });
    new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => { seen.longest = Math.max(seen.longest, duration); })).observe({ type: "longtask" });
    let before = performance.now();
    requestAnimationFrame(function next(now) {
      seen.gap = Math.max(seen.gap, now - before);
      before = now;
      seen.inFrame = 0;
      requestAnimationFrame(next);
    });
    const tasks = new MessageChannel();
    await new Promise((resolve) => {
      let at = 0;
      tasks.port2.onmessage = () => {
        for (const end = at + 20; at < end && at < posts.length; at += 1) {
          globalThis.socket.dispatchEvent(new MessageEvent("message", { data: JSON.stringify({ type: "post", post: posts[at] }) }));
        }
        if (at < posts.length) tasks.port1.postMessage(0);
        else resolve();
      };
      tasks.port1.postMessage(0);
    });
  }, posts);
}

/** So that the test can speak for the socket. */
const withSocket = (program) => async (page) => {
  await program.lay(page);
  await page.addInitScript(() => {
    const Real = globalThis.WebSocket;
    globalThis.WebSocket = class extends Real {
      constructor(...given) {
        super(...given);
        globalThis.socket = this;
      }
    };
  });
};

/** Thousands at once: few rows in a frame, and few that do not stay. */
async function flood(port) {
  const program = new Program();
  const page = await open(port, { before: withSocket(program) });
  await pour(page, program, 20000, "flood");
  await until("the last of 20,000 is here", has(page, "flood 19999."));
  await until("and those before it", async () => (await page.locator("#posts .post").count()) >= 1000);
  const seen = await page.evaluate(() => globalThis.seen);
  console.log(`    20,000 at once: longest task ${Math.round(seen.longest)} ms, longest time between two frames ${Math.round(seen.gap)} ms, ${seen.sum} rows made`);
  check(`few rows in a frame: ${seen.most}`, seen.most <= 120);
  const shown = await texts(page);
  check("the list is whole", shown.every((text, at) => text === `flood ${20000 - shown.length + at}.`));
  check(`and short: ${shown.length}`, shown.length <= 1100);
  check("it is at its end", await page.locator("#scroll").evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight < 80));
  await page.locator("#older").click();
  await until("what was left out comes back", has(page, `flood ${20000 - shown.length - 1}.`));
  await page.context().close();
}

/** Thousands while somebody looks at what came before. */
async function floodBelow(port) {
  const program = new Program();
  for (let at = 0; at < 100; at += 1) program.arrives("bob", `before ${at}.`);
  const page = await open(port, { before: withSocket(program) });
  await page.locator("#scroll").evaluate((list) => { list.scrollTop = 200; });
  await until("the list is not at its end", async () => (await page.locator("#scroll").evaluate((list) => list.scrollTop)) === 200);
  const top = () => page.locator("#scroll").evaluate((list) => {
    const { top } = list.getBoundingClientRect();
    return [...list.querySelectorAll(".post")].find((post) => post.getBoundingClientRect().top >= top).querySelector(".text").textContent;
  });
  const before = await top();
  await pour(page, program, 5000, "below");
  await until("all are unread", async () => /^\(50\d\d\)/.test(await page.title()) || /^\(5000\)/.test(await page.title()));
  check("what was looked at stays", (await top()) === before);
  check("the list is short", (await page.locator("#posts .post").count()) <= 1200);
  check("nothing below is said to be read", !program.asked.some((order) => order.do === "read" && order.keys.some(({ id }) => id > program.posts[100].id)));
  await page.locator("#scroll").evaluate((list) => { list.scrollTop = list.scrollHeight - list.clientHeight - 300; });
  await until("near the end there is more", async () => page.locator("#scroll").evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight > 300));
  check("and the list stays short", (await page.locator("#posts .post").count()) <= 1200);
  await until("the end comes", async () => {
    await page.locator("#scroll").evaluate((list) => { list.scrollTop = list.scrollHeight; });
    return (await post(page, "below 4999.").count()) === 1;
  });
  const shown = await texts(page);
  check("without a hole", shown.every((text, at) => text === `below ${5000 - shown.length + at}.`));
  await page.context().close();
}

/** Keys while an input method composes are its own. */
async function composing(port) {
  const { program, page } = await begin(port, (program) => program.arrives("alice", "mine"));
  const press = (place, key, more = {}) => page.locator(place).evaluate((place, [key, more]) => {
    const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more });
    return place.dispatchEvent(event);
  }, [key, more]);
  const said = () => program.asked.filter((order) => order.do === "say").map((order) => order.text);
  await page.fill("#text", "にほん");
  check("an Enter of it is left to it", await press("#text", "Enter", { isComposing: true }));
  check("also as Safari tells it", await press("#text", "Enter", { keyCode: 229 }));
  await page.locator("#text").evaluate((text) => {
    text.dispatchEvent(new CompositionEvent("compositionend", { bubbles: true, data: "日本" }));
    text.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
  });
  await page.fill("#text", "");
  await press("#text", "ArrowUp", { isComposing: true });
  check("an arrow, too", (await page.textContent("#text-label")) === "Message");
  await page.press("#text", "ArrowUp");
  check("but for that, it edits", (await page.inputValue("#text")) === "mine");
  for (const more of [{ isComposing: true }, { keyCode: 229 }]) await press("#text", "Escape", more);
  check("Escape gives up the composition, not the edit", (await page.textContent("#text-label")) === "Edit");
  await page.press("#text", "Escape");
  await press("#tab-chat", "ArrowRight", { keyCode: 229 });
  check("nor do tabs change", await page.locator("#view-chat").isVisible());
  // As the browser itself does it.
  const session = await page.context().newCDPSession(page);
  await page.focus("#text");
  await session.send("Input.imeSetComposition", { text: "にほん", selectionStart: 3, selectionEnd: 3 });
  await session.send("Input.dispatchKeyEvent", { type: "keyDown", key: "Enter", code: "Enter", windowsVirtualKeyCode: 229 });
  await session.send("Input.insertText", { text: "日本" });
  check("what was composed is in the box", (await page.inputValue("#text")) === "日本");
  await page.press("#text", "Enter");
  await until("and is said by an Enter of its own", async () => said().length > 0);
  check("it alone", JSON.stringify(said()) === '["日本"]');
  await page.context().close();
}

async function days(port) {
  const now = Date.now();
  const today = new Date().setHours(0, 0, 0, 0);
  const { program, page } = await begin(port, (program) => {
    for (const [text, time_ms] of [["long ago", today - 3 * DAY], ["yesterday", today - MINUTE], ["today", today + 1], ["now", now], ["ahead", now + 11 * MINUTE], ["not far", now + 9 * MINUTE]]) program.arrives("bob", text, { time_ms });
  });
  // What is ahead may be of tomorrow.
  const lines = async (count) => (await page.locator("#posts > li").evaluateAll((items) => items.map((item) => (item.className === "day" ? "" : item.querySelector(".text").textContent)))).slice(0, count).join(", ");
  check("a line stands where a day begins", (await lines(7)) === ", long ago, , yesterday, , today, now");
  check("with its date", (await page.locator("#posts .day").allTextContents()).includes(new Intl.DateTimeFormat("en-GB", { weekday: "long", year: "numeric", month: "long", day: "numeric" }).format(today)));
  program.tell({ type: "post", post: program.arrives("cara", "late of that day", { time_ms: today - 2 * MINUTE }) });
  await until("what comes late goes below the line of its day", async () => (await lines(6)) === ", long ago, , late of that day, yesterday, ");
  check("a clock that is ahead is told of", (await post(page, "ahead").locator(".head").textContent()).includes("clock ahead"));
  check("one that is hardly so is not", !(await post(page, "not far").locator(".head").textContent()).includes("clock ahead"));
  await page.context().close();
}

async function names(port) {
  const all = ["constructor", "__proto__", "toString", "hasOwnProperty", "all"];
  const { program, page } = await begin(port, (program) => {
    for (const name of all) program.arrives(name, `from ${name}`);
    program.posts[0].reactions = JSON.parse('{"constructor":["__proto__"],"__proto__":["alice"]}');
  });
  check("names are names", (await texts(page)).join() === all.map((name) => `from ${name}`).join());
  check("reactions, too", (await post(page, "from constructor").locator(".foot button").allTextContents()).sort().join() === "__proto__ 1,constructor 1");
  await until("they are read", async () => program.asked.some((order) => order.do === "read" && order.keys.length === all.length));
  program.tell({ type: "read", reader: "constructor", upto: JSON.parse(`{"__proto__":"${program.posts[0].id}"}`), direct: false });
  await say(page, "Still there.");
  await until("the page goes on", async () => program.asked.some((order) => order.do === "say"));
  await page.context().close();
}

async function marksAndReading(port) {
  const { program, page } = await begin(port);
  await page.click("#tab-network");
  const marks = { none: { delivered: 0, failed: 0, readers: 0, settled: false, read: 0 }, some: { delivered: 2, failed: 0, readers: 3, settled: false, read: 1 }, all: { delivered: 3, failed: 0, readers: 3, settled: true, read: 3 }, failed: { delivered: 1, failed: 1, readers: 2, settled: true, read: 1 } };
  for (const [text, mark] of Object.entries(marks)) program.tell({ type: "post", post: program.arrives("alice", text, { mark }) });
  const words = { none: "… waiting", some: "✓ delivered to 2 of 3, read by 1", all: "✓✓ read", failed: "✓ delivered to 1 of 2, read by 1, 1 will not get it" };
  for (const [text, line] of Object.entries(words)) await until(`a mark is told in words: ${line}`, async () => (await markOf(page, text)) === line);
  program.tell({ type: "mark", id: program.posts[1].id, mark: marks.all });
  await until("and goes on", async () => (await markOf(page, "some")) === "✓✓ read");
  const direct = program.arrives("bob", "for one", { to: "alice" });
  const open = program.arrives("bob", "for all");
  for (const post of [direct, open]) program.tell({ type: "post", post });
  await until("two are unread", async () => (await page.title()) === "(2) harbour");
  program.tell({ type: "read", reader: "alice", upto: { bob: open.id }, direct: false });
  await until("what was read of one kind says nothing of the other", async () => (await page.title()) === "(1) harbour");
  program.tell({ type: "read", reader: "alice", upto: { bob: direct.id }, direct: true });
  await until("and then none", async () => (await page.title()) === "harbour");
  program.read = { all: {}, direct: { bob: direct.id } };
  program.hello();
  await until("what counts after a reconnect is what the program says", async () => (await page.title()) === "(1) harbour");
  check("nothing was said to be read that nobody saw", !program.asked.some((order) => order.do === "read"));
  await page.click("#tab-chat");
  await until("it is when it is seen", async () => program.asked.some((order) => order.do === "read" && order.keys.length === 1 && order.keys[0].id === open.id));
  await page.context().close();
}

/** Only what is in view is read. */
async function scrolled(port) {
  const { program, page } = await begin(port, (program) => {
    for (let at = 0; at < 100; at += 1) program.arrives("bob", `line ${at}.`);
  });
  const seen = (text) => program.asked.some((order) => order.do === "read" && order.keys.some(({ id }) => id === program.posts.find((post) => post.content.text === text).id));
  await until("the end is seen", async () => seen("line 99."));
  await page.locator("#scroll").evaluate((list) => { list.scrollTop = 0; });
  await until("the list is at its beginning", async () => (await page.locator("#scroll").evaluate((list) => list.scrollTop)) === 0);
  program.tell({ type: "post", post: program.arrives("bob", "below what is seen") });
  await until("what comes below is unread", async () => (await page.title()) === "(1) harbour");
  check("and the list does not jump to it", (await page.locator("#scroll").evaluate((list) => list.scrollTop)) === 0);
  await page.waitForFunction(() => new Promise((resolve) => setTimeout(() => resolve(true), 600)));
  check("it is not said to be read", !seen("below what is seen"));
  await page.locator("#scroll").evaluate((list) => { list.scrollTop = list.scrollHeight; });
  await until("until it is in view", async () => seen("below what is seen") && (await page.title()) === "harbour");
  await page.context().close();
}

/** A socket that is open and dead. */
async function silence(port) {
  const program = new Program();
  const page = await open(port, { before: async (page) => {
    await page.clock.install();
    await program.lay(page);
  } });
  await page.clock.runFor(60000);
  check("a program that never gave a beat is not missed", program.greeted === 1);
  program.tell({ type: "beat" });
  program.tell({ type: "post", post: program.arrives("bob", "after the beat") });
  await until("a beat has come", has(page, "after the beat"));
  await page.clock.runFor(20000);
  check("a short silence is nothing", program.greeted === 1);
  await page.clock.runFor(15000);
  await until("a long one ends the connection, and there is a new one", async () => {
    await page.clock.runFor(1000);
    return program.greeted === 2;
  });
  await page.context().close();
}

/** As many orders at once as the program allows, and in their order. */
async function pace(port) {
  const { program, page } = await begin(port);
  program.answers = false;
  for (let at = 0; at < 50; at += 1) await say(page, `quick ${at}`);
  const said = () => program.asked.filter((order) => order.do === "say").map((order) => order.text);
  await until("all orders go out", async () => (await said()).length === 50);
  check("slowly enough for the program", !program.flooded);
  check("in their order, once", (await said()).every((text, at) => text === `quick ${at}`));
  await until("they wait for an answer", async () => (await page.locator("#queue .mark").first().textContent()) === "not handed over yet");
  program.answers = true;
  program.drop();
  await until("after a lost connection they are given again, and answered", async () => (await page.locator("#queue li").count()) === 0 && (await page.locator("#banner").isHidden()));
  check("slowly enough, too", !program.flooded && (await said()).length === 100);
  await page.context().close();
}

export async function rareThings(port) {
  for (const thing of [lateArrivals, longList, flood, floodBelow, composing, days, names, marksAndReading, scrolled, silence, pace]) await thing(port);
}
