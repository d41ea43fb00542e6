// The chat's page in a browser: see scripts/browser.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";
import { Network, until } from "./network.mjs";

const [chat, server, browserPath, pictures] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const errors = [];
const browser = await chromium.launch({
  executablePath: browserPath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

async function open(port, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (line) => {
    // A page whose program is away says so.
    if (line.type() === "error" && !/WebSocket|ERR_CONNECTION_REFUSED/.test(line.text())) errors.push(line.text());
  });
  page.on("dialog", (dialog) => dialog.accept());
  await until(`the page on ${port} opens`, async () => {
    await page.goto(`http://localhost:${port}/`);
    return true;
  });
  await until("and knows who it is", async () => (await page.textContent("#who")).includes("you are"));
  return page;
}

const log = (page) => page.textContent("#posts");
const has = (page, text) => async () => (await log(page)).includes(text);
const banner = (page) => page.textContent("#banner");
async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}
function check(what, holds) {
  if (!holds) throw new Error(`not so: ${what}`);
  console.log(`ok  ${what}`);
}
async function picture(page, name) {
  if (pictures) await page.screenshot({ path: path.join(pictures, `${name}.png`) });
}
async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  check(`${what}: no serious accessibility findings ${JSON.stringify(serious.map(({ id, nodes }) => [id, nodes[0].html, nodes[0].failureSummary]))}`, serious.length === 0);
}

async function conversation(a, b) {
  await b.locator("#text").pressSequentially("he");
  await until("typing is shown", async () => (await a.textContent("#typing")).includes("bob is typing"));
  await say(a, "The ferry is in at nine.");
  await until("a message arrives", has(b, "The ferry is in at nine."));
  await say(b, "Good. I bring the crates.");
  await until("and its answer", has(a, "I bring the crates."));
  await a.locator("button[data-does='react 👍']").last().click();
  await until("a reaction arrives", has(b, "👍 1"));
  await a.locator("button[data-does='edit']").first().click();
  await say(a, "The ferry is in at ten.");
  await until("an edit arrives", async () => (await has(b, "at ten.")()) && (await has(b, "edited")()));
  await until("marks go on", async () => /delivered to \d of \d|read/.test(await log(a)));
  await say(a, "A mistake.");
  await until("a mistake arrives", async () => (await has(b, "A mistake.")()) && (await has(a, "A mistake.")()));
  await a.locator("button[data-does='delete']").last().click();
  await until("and goes", async () => !(await has(b, "A mistake.")()) && (await has(b, "deleted")()));
  await a.selectOption("#to", "bob");
  await say(a, "This is between us.");
  await until("a direct message arrives", has(b, "This is between us."));
  await a.selectOption("#to", "");
  await a.setInputFiles("#file", { name: "plan.pdf", mimeType: "application/pdf", buffer: Buffer.alloc(1500) });
  await until("a file is told of", has(b, "plan.pdf (1.5 kB, application/pdf)"));
  await until("messages are read", has(a, "✓✓ read"));
}

async function hostile(a, b, port) {
  await say(b, "<img src=x onerror=\"document.title='hacked'\"> \u202eשלום 👩‍👩‍👧‍👦");
  await until("markup is text", has(a, "<img src=x onerror"));
  check("and makes nothing", (await a.locator("#posts img").count()) === 0 && !(await a.title()).includes("hacked"));
  await say(a, "x".repeat(1000000));
  await until("1 MB is refused", async () => (await a.textContent("#notices")).includes("Too long"));
  await a.fill("#text", "");
  const stranger = await (await browser.newContext()).newPage();
  await stranger.goto("about:blank");
  const answer = await stranger.evaluate((port) => new Promise((resolve) => {
    const socket = new WebSocket(`ws://localhost:${port}/socket`);
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("refused");
  }), port);
  check("a page from elsewhere gets no socket", answer === "refused");
}

async function outage(network, a, b) {
  await network.kill("nats");
  await until("an outage has a banner", async () => (await banner(a)).includes("No connection to NATS for"));
  await until("at both", async () => (await banner(b)).includes("No connection to NATS for"));
  for (let at = 0; at < 5; at += 1) {
    await say(a, `outage a${at}.`);
    await say(b, `outage b${at}.`);
  }
  await until("and the number that waits", async () => (await banner(a)).includes("5 messages wait"));
  await picture(a, "outage");
  network.startServer();
  await until("the banner goes by itself", () => a.locator("#banner").isHidden());
  await until("all that was said arrives", async () => (await has(b, "outage a4.")()) && (await has(a, "outage b4.")()));
  for (const page of [a, b]) {
    const text = await log(page);
    const times = [0, 1, 2, 3, 4].flatMap((at) => [`outage a${at}.`, `outage b${at}.`]).map((line) => text.split(line).length - 1);
    check(`once each: ${times}`, times.every((count) => count === 1));
  }
}

async function keyboardOnly(a, b) {
  await a.locator("#tab-chat").focus();
  await a.keyboard.press("Tab");
  for (let at = 0; at < 400 && (await a.evaluate(() => document.activeElement.id)) !== "text"; at += 1) await a.keyboard.press("Tab");
  await a.keyboard.type("By keyboard alone.");
  await a.keyboard.press("Enter");
  await until("the keyboard is enough to send", has(b, "By keyboard alone."));
  await a.keyboard.press("ArrowUp");
  await a.keyboard.press("End");
  await a.keyboard.type(" Edited.");
  await a.keyboard.press("Enter");
  await until("and to edit", has(b, "By keyboard alone. Edited."));
  await a.locator("#tab-chat").focus();
  await a.keyboard.press("ArrowRight");
  await until("and to see the network", async () => (await a.locator("#picture circle").count()) >= 2);
  await accessible(a, "network");
  await picture(a, "network");
  await a.keyboard.press("ArrowRight");
  await until("and its health", async () => (await a.locator("#charts svg").count()) === 3);
  await accessible(a, "health");
  await picture(a, "health");
  await a.keyboard.press("ArrowRight");
}

async function run(names) {
  const network = await Network.start(chat, server);
  try {
    const ports = [];
    for (const name of names) ports.push(await network.node(name));
    const a = await open(ports[0], { colorScheme: "light" });
    const b = await open(ports[1], { colorScheme: "dark" });
    await until(`${names.length} nodes see each other`, async () => (await a.locator("#online li").count()) === names.length - 1);
    await conversation(a, b);
    await hostile(a, b, ports[0]);
    const count = await a.locator(".post").count();
    await a.reload();
    await until("a reload shows the same", async () => (await a.locator(".post").count()) === count);
    const second = await open(ports[0]);
    await say(second, "From a second tab.");
    await until("both tabs show it", has(a, "From a second tab."));
    await accessible(a, "light");
    await accessible(b, "dark");
    await picture(a, `light-${names.length}`);
    await picture(b, `dark-${names.length}`);
    await outage(network, a, b);
    await keyboardOnly(a, b);
    const phone = await open(ports[1], { viewport: { width: 360, height: 640 } });
    const fits = await phone.evaluate(() => document.documentElement.scrollWidth <= 360 && document.querySelector("header").getBoundingClientRect().top === 0);
    check("360 px are enough", fits);
    await accessible(phone, "360 px");
    await picture(phone, "phone");
    await network.kill(names[0]);
    await until("a program that is gone is told", async () => (await banner(a)).includes("does not answer"));
    await say(a, "While it was gone.");
    await network.node(names[0], ports[0]);
    await until("what was said meanwhile is handed over", has(b, "While it was gone."));
    await until("and shown", has(a, "While it was gone."));
    for (const page of [a, b]) check("once", (await log(page)).split("While it was gone.").length === 2);
  } finally {
    await network.end();
  }
}

try {
  await run(["alice", "bob"]);
  await run(["alice", "bob", "lisa", "andy"]);
  check(`no errors in any page: ${JSON.stringify(errors)}`, errors.length === 0);
  console.log("all passed");
} finally {
  await browser.close();
}
