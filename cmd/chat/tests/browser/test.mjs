// The chat's page in a browser: see scripts/browser.

import { accessible, browser, check, errors, has, open, say } from "./harness.mjs";
import { Network, until } from "./network.mjs";
import { rareThings } from "./rare.mjs";
import { drafts, hole, placeIsKept, programGone, reloadWithQueue } from "./queue.mjs";
import { comingAndGoing, conversation, hostile, keyboardOnly, networkAndHealth, outage, phone, readMarks, scene, unread } from "./talk.mjs";

const [chat, server] = process.argv.slice(2);

async function meet(network, names, more) {
  const [ports, pages] = [[], []];
  for (const name of names) ports.push(await network.node(name, { more }));
  for (const [at, port] of ports.entries()) pages.push(await open(port, { colorScheme: at % 2 ? "dark" : "light" }));
  for (const page of pages) await until(`${names.length} nodes see each other`, async () => (await page.locator("#online li").count()) === names.length - 1);
  return { ports, pages };
}

async function talk(network, names, { ports, pages }, master) {
  const [a, b, ...others] = pages;
  await conversation(a, b, others);
  await readMarks(a, [b, ...others]);
  await unread(a, b, ports[1]);
  await accessible(a, "light");
  await accessible(b, "dark");
  await hostile(a, b, ports[0]);
  const count = await a.locator("#posts .post").count();
  await a.reload();
  await until("a reload shows the same", async () => (await a.locator("#posts .post").count()) === count);
  const second = await open(ports[0], { within: a.context() });
  await say(second, "From a second tab.");
  for (const page of [a, second]) await until("both tabs show it", has(page, "From a second tab."));
  await second.close();
  const called = (page) => page.locator("#posts .post").evaluateAll((items) => items.map((item) => `${item.querySelector(".name").textContent} ${item.querySelector(".called").title} ${item.querySelector(".called").textContent}`));
  const [here, there] = [await called(a), await called(b)];
  check("messages are called the same on both pages", here.filter((name) => there.includes(name)).length >= 5 && here.every((name) => /^\S+ \w{22}(\w{4}) #\1$/.test(name)));
  await outage(network, a, b);
  await networkAndHealth(a, names, master);
}

async function two() {
  const network = await Network.start(chat, server);
  try {
    const met = await meet(network, ["alice", "bob"]);
    const { ports, pages: [a, b] } = met;
    await talk(network, ["alice", "bob"], met, false);
    await keyboardOnly(a, b);
    await a.click("#tab-chat");
    await drafts(a, ports[0]);
    await programGone(network, a, b, ports[0]);
    await reloadWithQueue(b, ports[0]);
    await hole(network, a, b, ports[0]);
    await placeIsKept(ports[0]);
    await comingAndGoing(network, a);
    await rareThings(ports[0]);
  } finally {
    await network.end();
  }
}

async function four() {
  const network = await Network.start(chat, server);
  try {
    const names = ["alice", "bob", "lisa", "andy"];
    const met = await meet(network, names, ["--election", "visible"]);
    await scene(met.pages);
    await talk(network, names, met, true);
    await phone(met.ports[1]);
  } finally {
    await network.end();
  }
}

try {
  await two();
  await four();
  check(`no errors in any page: ${JSON.stringify(errors)}`, errors.length === 0);
  console.log("all passed");
} finally {
  await browser.close();
}
