// A browser, its pages, what they show, and the socket between a page and its program.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";
import { until } from "./network.mjs";

const [, , browserPath, pictures] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** What went wrong in any page. */
export const errors = [];
export const browser = await chromium.launch({
  executablePath: browserPath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

export async function context(options = {}) {
  return browser.newContext({ viewport: { width: 1000, height: 700 }, locale: "en-GB", ...options });
}

/** Opens the page; `within` is a context to share, `before` is run with the page before it is loaded. */
export async function open(port, { within, before, ...options } = {}) {
  const page = await (within ?? (await context(options))).newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (line) => {
    // A page whose program is away says so.
    if (line.type() === "error" && !/WebSocket|ERR_CONNECTION_REFUSED/.test(line.text())) errors.push(line.text());
  });
  page.on("dialog", (dialog) => dialog.accept());
  await before?.(page);
  await until(`the page on ${port} opens`, async () => {
    await page.goto(`http://localhost:${port}/`);
    return true;
  });
  await until("and knows who it is", async () => (await page.textContent("#who")).includes("you are"));
  return page;
}

export const post = (page, text) => page.locator("#posts .post", { hasText: text });
export const markOf = (page, text) => post(page, text).last().locator(".mark").textContent();
export const texts = (page) => page.locator("#posts .text").allTextContents();
export const has = (page, text) => async () => (await post(page, text).count()) > 0;
export const hasNot = (page, text) => async () => (await post(page, text).count()) === 0;
export const banner = (page) => page.textContent("#banner");
export const notices = (page) => page.textContent("#notices");

export async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

export function check(what, holds) {
  if (!holds) throw new Error(`not so: ${what}`);
  console.log(`ok  ${what}`);
}

/** That these were said once each, in this order. `last` comes after all of them from the same sender, so that a double would be here, too. */
export async function once(page, what, lines, last) {
  await until(`${what}: what was said last is here`, has(page, last));
  const shown = (await texts(page)).filter((text) => lines.includes(text));
  check(`${what}: all of ${lines.length}, once, in order`, JSON.stringify(shown) === JSON.stringify(lines));
}

/** A click on what is shown while the mouse is over a message. */
export async function press(page, text, does) {
  const message = post(page, text).last();
  await message.hover();
  await message.locator(`button[data-does='${does}']`).click();
}

export async function picture(page, name) {
  if (pictures) await page.screenshot({ path: path.join(pictures, `${name}.png`) });
}

export async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  check(`${what}: no serious accessibility findings ${JSON.stringify(serious.map(({ id, nodes }) => [id, nodes[0].html, nodes[0].failureSummary]))}`, serious.length === 0);
}

/** The socket between a page and its real program, to cut. */
export class Wire {
  #isCut = false;
  #sockets = new Set();

  /** For `before`. */
  lay = (page) => page.routeWebSocket(/\/socket$/, (socket) => {
    if (this.#isCut) {
      socket.close();
      return;
    }
    const server = socket.connectToServer();
    this.#sockets.add(socket);
    socket.onClose(() => {
      this.#sockets.delete(socket);
      server.close();
    });
  });

  cut() {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.close();
  }

  mend() {
    this.#isCut = false;
  }
}
