// Connections that break: nothing is lost, doubled, or told in the wrong order.

import { Wire, banner, check, has, markOf, once, open, picture, post, press, say, texts } from "./harness.mjs";
import { until } from "./network.mjs";
import { numbered } from "./talk.mjs";

/** Nothing is kept back by the list's bounds: all posts can be reached. */
async function toTheBeginning(page) {
  for (let at = 0; at < 50 && (await page.locator("#older").isVisible()); at += 1) {
    const before = await page.locator("#posts .post").count();
    await page.locator("#older").click();
    await until("older ones come", async () => (await page.locator("#posts .post").count()) > before || (await page.locator("#older").isHidden()));
  }
}

export async function programGone(network, a, b, port, more) {
  await network.kill("alice");
  await until("a program that is gone is told", async () => (await banner(a)).includes("does not answer"));
  const lines = numbered("while it was gone", 60);
  for (const line of lines) await say(a, line);
  await until("what waits is shown", async () => (await a.locator("#queue .mark").first().textContent()) === "not handed over yet");
  await until("with its number", async () => (await banner(a)).includes("60 not handed over yet."));
  await picture(a, "program-gone");
  await network.node("alice", { port, more });
  await until("the program is here again", async () => !(await banner(a)).includes("does not answer"));
  await say(a, "Said when it was here again.");
  for (const page of [a, b]) await once(page, "a program that was gone", lines, "Said when it was here again.");
  await until("nothing waits any more", async () => (await a.locator("#queue li").count()) === 0);
}

export async function reloadWithQueue(b, port) {
  const wire = new Wire();
  const page = await open(port, { before: wire.lay });
  wire.cut();
  await until("a cut is noticed", async () => (await banner(page)).includes("does not answer"));
  const lines = numbered("before the reload", 3);
  for (const line of lines) await say(page, line);
  await until("it waits", async () => (await page.locator("#queue li").count()) === 3);
  await page.reload();
  await say(page, "Said after the reload.");
  wire.mend();
  await once(page, "a reload", [...lines, "Said after the reload."], "Said after the reload.");
  await say(page, "And what comes last.");
  await once(b, "a reload", [...lines, "Said after the reload."], "And what comes last.");
  await page.context().close();
}

export async function hole(network, a, b, port) {
  const wire = new Wire();
  const page = await open(port, { before: wire.lay });
  await say(b, "Before the cut.");
  await say(b, "Taken back during the cut.");
  await until("what is before the cut is here", has(page, "Taken back during the cut."));
  wire.cut();
  await until("a cut is noticed", async () => (await banner(page)).includes("does not answer"));
  await press(b, "Before the cut.", "edit");
  await say(b, "Before the cut, and edited.");
  await press(b, "Taken back during the cut.", "delete");
  const lines = numbered("during the cut", 150);
  network.say("bob", lines);
  await until("all of it is at the program", has(a, lines[149]));
  wire.mend();
  await until("the end of it is here", has(page, lines[149]));
  await until("one sees it", async () => page.locator("#scroll").evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight < 80));
  await page.locator("#scroll").evaluate((list) => { list.scrollTop = 0; });
  await toTheBeginning(page);
  await once(page, "a cut", lines, lines[149]);
  check("an edit of it is seen", (await post(page, "Before the cut, and edited.").count()) === 1);
  check("and a deletion", (await post(page, "Taken back during the cut.").count()) === 0);
  await toTheBeginning(a);
  check("a page that was here all the time shows the same", JSON.stringify(await texts(page)) === JSON.stringify(await texts(a)));
  await page.context().close();
}

/** Whoever reads old messages goes on with it when the connection comes back. */
export async function placeIsKept(port) {
  const wire = new Wire();
  const page = await open(port, { before: wire.lay });
  const top = (text) => post(page, text).evaluate((item) => Math.round(item.getBoundingClientRect().top - item.closest("#scroll").getBoundingClientRect().top));
  // The page knows of it with the next frame; until then it may still go on to the end.
  await until("the list is at its top", () => page.locator("#scroll").evaluate(async (list) => {
    list.scrollTop = 0;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return list.scrollTop === 0;
  }));
  const [first] = await texts(page);
  const before = await top(first);
  await page.locator("#older").click();
  await until("older ones come", async () => (await texts(page))[0] !== first);
  const after = await top(first);
  check(`what is looked at stays where it is (at ${before} before, at ${after} after)`, Math.abs(after - before) <= 2);
  await until("there is something above", async () => (await page.locator("#scroll").evaluate((list) => list.scrollTop)) > 200);
  await page.locator("#scroll").evaluate((list) => { list.scrollTop -= 150; });
  const [looked] = await page.locator("#posts .post").evaluateAll((items) => items.filter((item) => item.getBoundingClientRect().top > 60).map((item) => item.querySelector(".text").textContent));
  const height = await top(looked);
  wire.cut();
  await until("a cut is noticed", async () => (await banner(page)).includes("does not answer"));
  wire.mend();
  await until("the connection is here again", () => page.locator("#banner").isHidden());
  await until("and the place", async () => Math.abs((await top(looked)) - height) <= 2);
  await page.context().close();
}

export async function drafts(a, port) {
  await say(a, "To be edited.");
  await until("it is here", has(a, "To be edited."));
  await a.fill("#text", "A draft.");
  await press(a, "To be edited.", "edit");
  check("an edit begins with the text", (await a.inputValue("#text")) === "To be edited.");
  await a.press("#text", "Escape");
  check("the draft outlives an edit that is given up", (await a.inputValue("#text")) === "A draft.");
  await press(a, "To be edited.", "edit");
  await a.fill("#text", "It was edited.");
  await a.press("#text", "Enter");
  await until("an edit is done", has(a, "It was edited."));
  check("the draft outlives that, too", (await a.inputValue("#text")) === "A draft.");
  await press(a, "It was edited.", "edit");
  await a.fill("#text", "Too late an edit.");
  const other = await open(port);
  await press(other, "It was edited.", "delete");
  await until("another tab deletes it", async () => (await a.locator("#posts .post", { hasText: "It was edited." }).count()) === 0);
  await other.context().close();
  await a.press("#text", "Enter");
  await until("an edit that is refused stays", async () => (await a.textContent("#queue")).includes("Too late an edit."));
  await until("with the reason", async () => /^✗ not done: .*(deleted|edited)$/.test(await a.locator("#queue .mark").textContent()));
  check("beside the draft", (await a.inputValue("#text")) === "A draft.");
  await a.click("#queue button:has-text('Take it up again')");
  check("it can be taken up again", (await a.inputValue("#text")) === "Too late an edit.");
  await until("and leaves the list", async () => (await a.locator("#queue li").count()) === 0);
  await a.press("#text", "Enter");
  await a.click("#queue button:has-text('Throw it away')");
  await until("or thrown away", async () => (await a.locator("#queue li").count()) === 0);
  check("the draft is there in the end", (await a.inputValue("#text")) === "A draft.");
  await a.fill("#text", "");
}
