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
  for (const thing of [lateArrivals, longList, days, names, marksAndReading, scrolled, silence, pace]) await thing(port);
}
