// The page of the laboratory in a real browser, with the real program behind it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { TARGET, directory, open as openPage, run } from "./browser.mjs";

/** @type {import("node:child_process").ChildProcess[]} */
const laboratories = [];

afterEach(() => laboratories.splice(0).forEach((laboratory) => laboratory.kill("SIGTERM")));

/** Starts a laboratory, and returns its address. */
async function start(...args) {
  const laboratory = spawn(process.env.LABORATORY ?? join(TARGET, "quorate-lab"), ["lab", "--listen", "127.0.0.1:0", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  laboratories.push(laboratory);
  for await (const said of laboratory.stdout) {
    const url = /http:\S+/.exec(said.toString());
    if (url) return url[0];
  }
  return assert.fail("the laboratory does not start");
}

/** Opens the page of a laboratory. */
async function open(url, viewport) {
  const page = await openPage(url, /^(http|ws):\/\/127\.0\.0\.1:/, viewport);
  await page.waitForFunction("window.laboratory?.nodes.length > 0");
  return page;
}

function scenario(name, text) {
  const file = join(directory, `${name}.txt`);
  writeFileSync(file, text);
  return file;
}

/** Waits until these nodes have a quorum, and these have none. */
async function quorum(page, quorate, inquorate) {
  await page.waitForFunction(([quorate, inquorate]) => {
    const said = (node) => document.querySelector(`#statuses tr[data-node="${node}"]`)?.children[2]?.textContent ?? "";
    return quorate.every((node) => said(node).startsWith("yes")) && inquorate.every((node) => said(node).startsWith("no"));
  }, [quorate, inquorate], { timeout: 20_000 });
}

/** Returns the members of the ring of a node, as the table says. */
async function members(page, node) {
  const said = await page.locator(`#statuses tr[data-node="${node}"] td`).nth(1).innerText();
  return /of (.*)$/.exec(said)?.[1];
}

/** Draws a line on the map, from one point to another, as parts of its size. */
async function stroke(page, from, to) {
  const box = await page.locator("#map").boundingBox();
  const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
  await page.mouse.move(...at(from));
  await page.mouse.down();
  await page.mouse.move(...at([(from[0] + to[0]) / 2, (from[1] + to[1]) / 2]));
  await page.mouse.move(...at(to));
  await page.mouse.up();
}

/** Returns where a node is on the map. */
async function place(page, node) {
  return page.evaluate((node) => {
    const { x, y } = window.laboratory.map.place(node);
    return [x / 400, y / 400];
  }, node);
}

async function pace(page, name) {
  await page.locator("#pace").selectOption({ label: name });
}

test("a stroke across the links cuts the network in two, and healing makes it one again", async () => {
  const page = await open(await start("--seed", "3"));
  await pace(page, "10 times as fast");
  await quorum(page, [1, 2, 3, 4, 5], []);
  // Nodes 1 and 2 are above this line.
  const middle = async (a, b) => {
    const [one, other] = [await place(page, a), await place(page, b)];
    return [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
  };
  const [left, right] = [await middle(5, 1), await middle(2, 3)];
  const beyond = ([x, y], [fromX, fromY]) => [x + (x - fromX) * 0.2, y + (y - fromY) * 0.2];
  await stroke(page, beyond(left, right), beyond(right, left));
  await quorum(page, [3, 4, 5], [1, 2]);
  assert.equal(await members(page, 1), "1, 2");
  assert.equal(await members(page, 4), "3, 4, 5");
  assert.equal(await page.locator(".link.cut").count(), 6);
  await page.waitForFunction(() => {
    const dc = (node) => document.querySelector(`#statuses tr[data-node="${node}"]`)?.children[3]?.textContent;
    const alone = [dc(1), dc(2)].sort();
    return /^is the DC in name only,node [12]$/.test(alone.join()) && [3, 4, 5].some((node) => dc(node) === "is the DC, may act");
  });
  await page.getByRole("button", { name: "Heal all" }).click();
  await quorum(page, [1, 2, 3, 4, 5], []);
  assert.equal(await members(page, 1), "1, 2, 3, 4, 5");
  assert.equal(await page.locator("#verdict").innerText(), "✓ All invariants hold.");
  assert.match(await page.locator("#notes").innerText(), /partition \[1, 2\] \| \[3, 4, 5\]/);
});

test("a drag from node to node cuts their link, one way if asked, and a click heals it", async () => {
  const page = await open(await start("--nodes", "3"));
  await quorum(page, [1, 2, 3], []);
  const cuts = () => page.evaluate("[...window.laboratory.map.cuts].sort().join(' ')");
  await stroke(page, await place(page, 1), await place(page, 2));
  await page.waitForFunction("window.laboratory.map.cuts.size === 2");
  assert.equal(await cuts(), "1>2 2>1");
  const [one, two] = [await place(page, 1), await place(page, 2)];
  const between = [(one[0] + two[0]) / 2, (one[1] + two[1]) / 2];
  await stroke(page, between, between);
  await page.waitForFunction("window.laboratory.map.cuts.size === 0");
  await page.locator("#oneWay").check();
  await stroke(page, await place(page, 3), await place(page, 1));
  await page.waitForFunction("window.laboratory.map.cuts.size === 1");
  assert.equal(await cuts(), "3>1");
  assert.equal(await page.locator(".direction").count(), 1);
});

test("a run copied as a test compiles, and ends as it did on the page", async () => {
  const page = await open(await start("--nodes", "3", "--seed", "7"));
  await pace(page, "10 times as fast");
  await quorum(page, [1, 2, 3], []);
  await page.locator("#statuses").getByRole("button", { name: "node 1" }).click();
  await page.getByRole("button", { name: "Crash" }).click();
  await page.waitForFunction("document.querySelector('#statuses tr[data-node=\"2\"]').textContent.includes('of 2, 3')");
  await quorum(page, [2, 3], []);
  await page.keyboard.press(" ");
  await page.waitForFunction("!window.laboratory.plays");
  await page.getByRole("button", { name: "Copy as test" }).click();
  await page.locator("#copied").waitFor();
  const [text, test, hash] = [await page.locator("#copiedScenario").inputValue(), await page.locator("#copiedTest").inputValue(),
    await page.locator("#copiedHash").innerText()];
  assert.match(text, /node 1 crashes/);
  assert.match(run("quorate-lab", "sim", "scenario", scenario("copied", text)), new RegExp(`trace hash ${hash}`));
  assert.match(test, /assert_eq!\(end\(2\), Some\(\(vec!\[2, 3\], true, Some\(2\)\)\)\)/);
  compileAndRun(test);
});

/** Compiles a test against the crate that is built, and runs it. */
function compileAndRun(test) {
  const [source, program] = [join(directory, "copied.rs"), join(directory, "copied")];
  writeFileSync(source, test);
  const deps = join(TARGET, "deps");
  const built = readdirSync(deps).filter((name) => /^libquorate_netsim-.*\.rlib$/.test(name)).map((name) => join(deps, name));
  const newest = built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
  assert.ok(newest, "the crate is built");
  const options = ["--edition", "2024", "--test", "-o", program, "--extern", `quorate_netsim=${newest}`, "-L", `dependency=${deps}`];
  execFileSync("rustc", [...options, source], { stdio: ["ignore", "inherit", "inherit"] });
  assert.match(execFileSync(program).toString(), /1 passed/);
}

test("the page and the core engine run a scenario to the same trace hash", async () => {
  const file = scenario("hash", `4 nodes for 3s, token timeout 200ms, seed 11
each sends every 10ms until 2s, up to 2000 bytes, 30 % safe
at 500ms partition [1, 2] | [3, 4]
at 1.2s the network heals
at 1.5s node 2 pauses for 400ms
`);
  const [, hash] = /trace hash ([0-9a-f]+)/.exec(run("quorate-lab", "sim", "scenario", file));
  const page = await open(await start("--file", file));
  await page.waitForFunction("document.getElementById('verdict').textContent.includes('over')");
  assert.equal(await page.locator("#hash").innerText(), hash);
  assert.equal(await page.locator("#verdict").innerText(), "✓ The scenario is over. No invariant was violated.");
  assert.ok(await page.getByRole("button", { name: "Heal all" }).isDisabled());
  await page.getByRole("button", { name: "Again" }).click();
  await page.waitForFunction("!window.laboratory.over");
  await page.waitForFunction("window.laboratory.over");
  assert.equal(await page.locator("#hash").innerText(), hash);
});

test("a run goes on step by step, and a new one begins from its text", async () => {
  const page = await open(await start("--nodes", "2"));
  await page.keyboard.press(" ");
  await page.waitForFunction("!window.laboratory.plays");
  const now = () => page.evaluate("window.laboratory.model.picture.ends_at");
  const before = await now();
  for (let n = 0; n < 20; n++) await page.keyboard.press("s");
  await page.waitForFunction((before) => window.laboratory.model.picture.ends_at > before, before);
  assert.ok(await now() < before + 1e6);
  await page.getByText("New run").click();
  await page.locator("#text").fill("3 nodes for 10s, token timeout 300ms, seed 5\n");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.waitForFunction("window.laboratory.nodes.length === 3");
  assert.equal(await page.locator("#what").innerText(), "3 nodes, seed 5");
  await page.locator("#text").fill("no scenario");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /the scenario: line 1/);
  await page.getByText("More faults").click();
  await page.getByLabel(/Any fault/).fill("node 9 crashes");
  await page.getByRole("button", { name: "Inject" }).click();
  await page.waitForFunction("document.getElementById('error').textContent.includes('node 9')");
});

test("a story pauses at its captions, and continues when asked", async () => {
  const page = await open(await start());
  await page.locator("#notes button").first().click();
  assert.equal(await page.evaluate("window.laboratory.follows"), false);
  await page.locator("#story").selectOption("split-brain");
  const caption = page.locator("#caption p");
  await caption.getByText("Five nodes, and node 1 is the DC.").waitFor();
  await page.waitForFunction("!window.laboratory.plays");
  assert.match(await page.locator("#scenario").innerText(), /^5 nodes for 1\.49s/);
  assert.ok(await page.evaluate(() => {
    const { follows, diagram, model } = window.laboratory;
    return follows && diagram.from < model.picture.ends_at && model.picture.ends_at < diagram.until;
  }));
  await page.getByRole("button", { name: "Continue" }).click();
  await caption.getByText("The DC is in the smaller part.").waitFor();
  assert.match(await page.locator("#statuses tr[data-node='1']").innerText(), /is the DC, may act/);
});

test("on a page that pauses, a crash shows at once", async () => {
  const page = await open(await start("--nodes", "3"));
  await quorum(page, [1, 2, 3], []);
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await page.waitForFunction("!window.laboratory.plays");
  await page.locator("#statuses").getByRole("button", { name: "node 2" }).click();
  await page.getByRole("button", { name: "Crash" }).click();
  await page.waitForFunction("document.querySelector('#statuses tr[data-node=\"2\"]').textContent.includes('down: crashed')");
  assert.match(await page.locator("#detail").innerText(), /Node 2 is down/);
});

test("the page's policy lets it connect to its laboratory, and to nothing else", async () => {
  const page = await openPage(await start("--nodes", "2"), /^(http|ws):\/\/127\.0\.0\.1:/, undefined, false);
  await page.locator("#statuses tbody tr").nth(1).waitFor();
  const refused = await page.evaluate(() => fetch("http://127.0.0.1:9/").then(() => false, () => true));
  assert.ok(refused);
});

test("at a thousand times real time, the page keeps up", async () => {
  const page = await open(await start());
  await pace(page, "1000 times");
  await page.waitForFunction("window.laboratory.model.picture.ends_at > 100e6", undefined, { timeout: 60_000 });
  await quorum(page, [1, 2, 3, 4, 5], []);
  assert.ok(await page.evaluate("window.laboratory.model.picture.datagrams.length <= 40000"));
});

test("a phone shows the laboratory without scrolling sideways", async () => {
  const page = await open(await start(), { width: 360, height: 740 });
  await page.waitForFunction("document.documentElement.scrollWidth <= innerWidth");
});

test("a known bug that is switched on is found by an invariant", { skip: !process.env.LABORATORY }, async () => {
  const page = await open(await start());
  await page.getByText("New run").click();
  await page.locator("#text").fill(`3 nodes for 3600s, token timeout 200ms, seed 1
each sends every 5ms until 3600s, up to 2000 bytes, 30 % safe
with loss 20000
`);
  await page.locator("#bug").selectOption("SafeAsAgreed");
  await page.getByRole("button", { name: "Begin" }).click();
  await pace(page, "10 times as fast");
  await page.waitForFunction("document.getElementById('verdict').classList.contains('broken')", undefined, { timeout: 60_000 });
  assert.match(await page.locator("#verdict").innerText(), /^✗ [A-Z]\d+ does not hold at/);
});
