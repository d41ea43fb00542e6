// What people do on the page, with real programs behind it.

import http from "node:http";
import { accessible, banner, browser, check, has, hasNot, markOf, notices, once, open, picture, post, press, say, texts, context } from "./harness.mjs";
import { until } from "./network.mjs";

const numbered = (what, count) => Array.from({ length: count }, (_, at) => `${what} ${String(at).padStart(3, "0")}`);

/** What the README's pictures show: a conversation of four. */
export async function scene(pages) {
  const [alice, bob, lisa, andy] = pages;
  const says = async (page, text) => {
    await say(page, text);
    for (const other of pages) await until("everybody has it", has(other, text));
  };
  await says(alice, "The ferry comes at nine. Who has the crates?");
  await says(bob, "I do: twelve, on the quay.");
  await press(alice, "twelve, on the quay", "react 👍");
  await press(lisa, "twelve, on the quay", "react 👍");
  await says(lisa, "The wind turns at noon, so be quick.");
  await press(andy, "The wind turns", "react 👀");
  await alice.setInputFiles("#file", { name: "cargo-list.pdf", mimeType: "application/pdf", buffer: Buffer.alloc(48200) });
  for (const page of pages) await until("everybody knows of the file", has(page, "cargo-list.pdf"));
  await says(andy, "I am at the crane.");
  await alice.selectOption("#to", "bob");
  await say(alice, "Keep one crate back for me.");
  await alice.selectOption("#to", "");
  await until("the two of them read it", async () => (await markOf(alice, "Keep one crate")) === "✓✓ read");
  await until("and all the rest", async () => (await alice.locator("#posts .mark").allTextContents()).every((mark) => mark === "✓✓ read"));
  for (const [page, name] of [[alice, "light"], [bob, "dark"]]) {
    await page.mouse.move(0, 0);
    await until("no notices are left", async () => (await notices(page)) === "");
    await until("andy is typing", async () => {
      await andy.press("#text", "y");
      return (await page.textContent("#typing")) === "andy is typing …";
    });
    await picture(page, name);
  }
  await andy.fill("#text", "");
}

export async function conversation(a, b, others) {
  await until("typing is shown", async () => {
    await b.press("#text", "h");
    return (await a.textContent("#typing")) === "bob is typing …";
  });
  await b.fill("#text", "");
  await until("and that it has stopped", async () => (await a.textContent("#typing")) === "");
  await say(a, "The ferry is in at nine.");
  await until("a message arrives", has(b, "The ferry is in at nine."));
  await say(b, "Good. I bring the crates.");
  await until("and its answer", has(a, "I bring the crates."));
  await press(a, "I bring the crates.", "react 👍");
  await until("a reaction arrives", async () => (await post(b, "I bring the crates.").locator(".foot button").allTextContents()).includes("👍 1"));
  await until("and is one's own", async () => (await post(a, "crates.").locator("[aria-pressed=true]").textContent()) === "👍 1");
  await press(a, "I bring the crates.", "react 👍");
  await until("it is taken back", async () => (await post(b, "I bring the crates.").locator(".foot button").count()) === 0);
  await press(a, "I bring the crates.", "react 🎉");
  await until("for another", async () => (await post(b, "I bring the crates.").locator(".foot button").allTextContents()).join() === "🎉 1");
  await press(a, "The ferry", "edit");
  await say(a, "The ferry is in at ten.");
  await until("an edit arrives", async () => (await post(b, "at ten.").locator(".head").textContent()).includes("edited"));
  check("as an edit", (await post(b, "The ferry is in").count()) === 1);
  await until("what is new is read aloud", async () => (await b.textContent("#aloud")).includes("alice: The ferry is in at nine."));
  check("and an edit is not", !(await b.textContent("#aloud")).includes("ten"));
  await say(a, "A mistake.");
  await until("a mistake arrives", has(b, "A mistake."));
  await until("everywhere", has(a, "A mistake."));
  await press(a, "A mistake.", "delete");
  await until("and goes", async () => (await hasNot(b, "A mistake.")()) && (await has(b, "deleted")()));
  await until("the focus stays with what is left", async () => (await a.evaluate(() => document.activeElement.textContent)).includes("deleted"));
  await a.setInputFiles("#file", { name: "plan.pdf", mimeType: "application/pdf", buffer: Buffer.alloc(1500) });
  await until("a file is told of", has(b, "plan.pdf (1.5 kB, application/pdf)"));
  await a.selectOption("#to", "bob");
  await say(a, "This is between us.");
  await a.selectOption("#to", "");
  await until("a direct message arrives", has(b, "This is between us."));
  await say(a, "And this is for all.");
  for (const page of [b, ...others]) await until("what follows it, too", has(page, "And this is for all."));
  for (const page of others) check("it stays between two", await hasNot(page, "between us")());
}

/** `readers` are the pages of all others. */
export async function readMarks(a, readers) {
  const [last] = readers.slice(-1);
  for (const page of readers) await until("all is read", async () => (await page.title()) === "harbour");
  await last.click("#tab-network");
  await say(a, "Who reads this?");
  const all = readers.length;
  const some = all > 1 ? `, read by ${all - 1}` : "";
  await until(`a message is delivered to ${all}, and read where it is seen`, async () => (await markOf(a, "Who reads this?")) === `✓ delivered to ${all} of ${all}${some}`);
  await until("who does not look has it unread", async () => (await last.title()) === "(1) harbour");
  await last.click("#tab-chat");
  await until("it is read by all", async () => (await markOf(a, "Who reads this?")) === "✓✓ read");
  await until("and unread nowhere", async () => (await last.title()) === "harbour");
}

export async function unread(a, b, port) {
  const twin = await open(port, { within: b.context() });
  for (const page of [b, twin]) {
    await until("all is read", async () => (await page.title()) === "harbour");
    await page.click("#tab-network");
  }
  await say(a, "Unread one.");
  await say(a, "Unread two.");
  for (const page of [b, twin]) await until("both tabs count", async () => (await page.title()) === "(2) harbour");
  await b.reload();
  await b.click("#tab-network");
  await twin.click("#tab-chat");
  for (const page of [twin, b]) await until("what one tab has read the other has, too", async () => (await page.title()) === "harbour");
  check("it was not shown there", await b.locator("#view-chat").isHidden());
  await b.click("#tab-chat");
  await twin.close();
}

export async function comingAndGoing(network, a) {
  await network.node("cara");
  await until("who comes is told of", async () => (await notices(a)).includes("cara is here"));
  await until("and is here", async () => (await a.locator("#online li").allTextContents()).includes("cara"));
  await network.kill("cara", "SIGTERM");
  await until("who goes is told of", async () => (await notices(a)).includes("cara has gone"));
  await until("and is here no more", async () => !(await a.locator("#online li").allTextContents()).includes("cara"));
  check("but can be written to", (await a.locator("#to option").allTextContents()).includes("cara (away)"));
}

export async function hostile(a, b, port) {
  // Half of an emoji, as a cut text has it, is no text for JSON's readers.
  await say(a, "cut \ud83d");
  await until("half a character does not hold up a page", has(b, "cut \ufffd"));
  const markup = "<img src=x onerror=\"document.title='hacked'\"><b>x</b> \u202egnp.exe 👩‍👩‍👧‍👦";
  await say(b, markup);
  await say(b, "שלום עולם");
  await until("markup arrives", has(a, "<img src=x onerror"));
  check("as text, each character of it", (await texts(a)).includes(markup));
  check("and makes nothing", (await a.locator("#posts img, #posts b").count()) === 0 && !(await a.title()).includes("hacked"));
  await until("Hebrew arrives", has(a, "שלום עולם"));
  const direction = (text) => post(a, text).last().locator(".text").evaluate((shown) => [shown.dir, getComputedStyle(shown).direction].join());
  check("and runs from right to left", (await direction("שלום")) === "auto,rtl");
  check("and what stands beside it does not", (await direction("<img")) === "auto,ltr");
  const count = await a.locator("#posts .post").count();
  await a.fill("#text", "x".repeat(1000000));
  await a.press("#text", "Enter");
  await until("1 MB is refused, with words", async () => (await notices(a)).includes("Too long: 1000000 bytes, at most 16384."));
  check("it stays in the box", (await a.inputValue("#text")).length === 1000000);
  await say(a, "x".repeat(16384));
  await until("the longest text is taken", async () => (await texts(b)).includes("x".repeat(16384)));
  check("and nothing else was said", (await a.locator("#posts .post").count()) === count + 1);
  await press(a, "xxx", "delete");
  await foreign(port);
}

async function foreign(port) {
  const server = http.createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<title>elsewhere</title>"));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const stranger = await (await context()).newPage();
    await stranger.goto(`http://localhost:${server.address().port}/`);
    const answer = await stranger.evaluate((port) => new Promise((resolve) => {
      const socket = new WebSocket(`ws://localhost:${port}/socket`);
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("refused");
    }), port);
    check("a page from another port of this machine gets no socket", (await stranger.title()) === "elsewhere" && answer === "refused");
    const framed = await stranger.evaluate((port) => fetch(`http://localhost:${port}/`).then(() => "read", () => "refused"), port);
    check("and cannot read the page", framed === "refused");
    await stranger.context().close();
  } finally {
    server.close();
  }
}

export async function outage(network, a, b) {
  const age = async (page) => Number((await banner(page)).match(/^No connection to NATS for (\d+) s \(.+\): /)?.[1] ?? NaN);
  await network.kill("nats");
  for (const page of [a, b]) await until("an outage has a banner", async () => (await age(page)) >= 0);
  const before = await age(a);
  const lines = { alice: numbered("outage a", 5), bob: numbered("outage b", 5) };
  for (let at = 0; at < 5; at += 1) {
    await say(a, lines.alice[at]);
    await say(b, lines.bob[at]);
  }
  await until("and the number that waits", async () => /: 5 messages wait, and go out when it is back\.$/.test(await banner(a)));
  await until("its age grows", async () => (await age(a)) > before);
  check("what waits says so", (await markOf(a, lines.alice[4])) === "… waiting");
  await picture(a, "outage");
  await a.click("#tab-network");
  await until("lines are marked where messages wait", async () => (await a.locator("#picture line.edge.waiting").count()) >= 1);
  check("with their number", (await a.locator("#picture g > text.waiting").allTextContents()).some((text) => /^\d+ waiting$/.test(text)));
  const rows = () => a.locator("#queues tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  await until("a table says the same", async () => (await rows()).some(([from, to, messages]) => from === "alice" && to === "bob" && Number(messages) >= 5));
  await picture(a, "network-outage");
  await accessible(a, "the network in an outage");
  await a.click("#tab-chat");
  network.startServer();
  for (const page of [a, b]) await until("the banner goes by itself", () => page.locator("#banner").isHidden());
  await say(a, "The outage is over at alice.");
  await say(b, "The outage is over at bob.");
  for (const page of [a, b]) {
    await once(page, "an outage, alice", lines.alice, "The outage is over at alice.");
    await once(page, "an outage, bob", lines.bob, "The outage is over at bob.");
  }
}

export async function keyboardOnly(a, b) {
  await a.reload();
  await until("the page is here again", async () => (await a.textContent("#who")) === "you are alice");
  const focused = () => a.evaluate(() => document.activeElement.id);
  await until("one can write at once", async () => (await focused()) === "text");
  await a.locator("#tab-chat").focus();
  await a.keyboard.press("Shift+Tab");
  check("the page's first stop leads to the text box", (await focused()) === "skip");
  check("and is seen", await a.locator("#skip").evaluate((link) => link.getBoundingClientRect().top >= 0));
  await a.keyboard.press("Enter");
  check("by one key", (await focused()) === "text");
  await a.keyboard.type("By keyboard alone.");
  await a.keyboard.press("Enter");
  await until("the keyboard is enough to send", has(b, "By keyboard alone."));
  await until("and to see it", has(a, "By keyboard alone."));
  await a.keyboard.press("ArrowUp");
  await a.keyboard.press("End");
  await a.keyboard.type(" Edited.");
  await a.keyboard.press("Enter");
  await until("and to edit", has(b, "By keyboard alone. Edited."));
  await a.keyboard.press("Tab");
  await a.keyboard.press("Tab");
  check("two stops behind it is the file", (await focused()) === "file");
  const outline = () => a.locator("label.button").evaluate((label) => getComputedStyle(label).outlineStyle);
  check("whose focus is seen", (await outline()) === "solid");
  await a.keyboard.press("Tab");
  check("and goes", (await focused()) === "send" && (await outline()) === "none");
  await a.locator("#tab-chat").focus();
  await a.keyboard.press("ArrowRight");
  await until("and to see the network", async () => (await a.locator("#view-network").isVisible()) && (await a.locator("#picture circle").count()) >= 2);
}

/** `names` of all nodes, `master` whether one is elected. */
export async function networkAndHealth(a, names, master) {
  await a.click("#tab-network");
  const pairs = (names.length * (names.length - 1)) / 2;
  await until("each node is drawn, and a line between each two", async () => (await a.locator("#picture circle").count()) === names.length && (await a.locator("#picture line.edge").count()) === pairs);
  await until("nothing waits", async () => (await a.locator("#picture line.waiting").count()) === 0 && (await a.locator("#queues tr").count()) === 0);
  const drawn = await a.locator("#picture line.edge").evaluateAll((lines) => lines.every((line) => Math.hypot(line.x2.baseVal.value - line.x1.baseVal.value, line.y2.baseVal.value - line.y1.baseVal.value) > 20 && line.hasAttribute("marker-end") && line.hasAttribute("marker-start")));
  check("with arrows at both ends", drawn);
  const inside = await a.locator("#picture text").evaluateAll((texts) => {
    const all = document.getElementById("picture").getBoundingClientRect();
    return texts.every((text) => {
      const { left, right, top, bottom } = text.getBoundingClientRect();
      return left >= all.left && right <= all.right && top >= all.top && bottom <= all.bottom;
    });
  });
  check("all words are in the picture", inside);
  if (master) await until("the master is marked", async () => (await a.locator("#picture .master text").first().textContent()).includes("★ master"));
  check("a table names them", JSON.stringify((await a.locator("#nodes th").allTextContents()).map((text) => text.match(/^\w+/)[0]).sort()) === JSON.stringify([...names].sort()));
  await accessible(a, "network");
  await picture(a, `network-${names.length}`);
  await a.click("#tab-health");
  const points = () => a.locator("#charts polyline").evaluateAll((lines) => lines.map((line) => line.points.numberOfItems));
  await until("there are three charts", async () => (await a.locator("#charts svg").count()) === 3);
  await until("and five lines with points", async () => (await points()).length === 5 && (await points()).every((count) => count >= 2));
  await accessible(a, "health");
  await picture(a, `health-${names.length}`);
  await a.click("#tab-chat");
}

export async function phone(port) {
  const page = await open(port, { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });
  for (const tab of ["network", "health", "chat"]) {
    await page.click(`#tab-${tab}`);
    const fits = await page.evaluate(() => document.documentElement.scrollWidth <= 360 && document.querySelector("header").getBoundingClientRect().top === 0);
    check(`360 px are enough for ${tab}`, fits);
    if (tab === "network") await until("the picture is here", async () => (await page.locator("#picture circle").count()) >= 2);
    await picture(page, `phone-${tab}`);
  }
  await accessible(page, "360 px");
  check("what can be done with a message is seen without a mouse", await page.locator("#posts .tools").last().evaluate((tools) => getComputedStyle(tools).opacity === "1"));
  await page.context().close();
}

export { numbered };
