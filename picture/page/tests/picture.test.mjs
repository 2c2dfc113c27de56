// The pictures of real runs in a real browser.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { directory, open as openPage, run } from "./browser.mjs";

/** Draws a run of a scenario. Returns the file. */
function draw(name, scenario) {
  const [text, html] = [join(directory, `${name}.txt`), join(directory, `${name}.html`)];
  writeFileSync(text, scenario);
  run("quorate-lab", "sim", "scenario", text, "--html", html);
  return html;
}

/** Opens a file. */
async function open(file, viewport) {
  const page = await openPage(`file://${file}`, /^(file|blob|data):/, viewport);
  await page.waitForFunction("window.page !== undefined");
  return page;
}

/** Clicks the first datagram that fits, after zooming in on it. Returns the panel's text. */
async function click(page, fits) {
  const place = await page.evaluate((source) => {
    const { diagram, picture } = window.page;
    const fits = new Function("datagram", `return ${source}`);
    const datagram = picture.datagrams.find(fits);
    if (!datagram) return null;
    diagram.show(datagram.at - 1500, datagram.at + 2500);
    diagram.draw();
    const layout = diagram.layout();
    const { node, at } = datagram.to[0];
    const [x1, x2] = [datagram.at, at ?? datagram.at].map((time) => diagram.x(time, layout));
    const [y1, y2] = [datagram.from, node].map((id) => layout.lines.get(id));
    const box = diagram.canvas.getBoundingClientRect();
    return { x: box.left + x1 + (x2 - x1) * 0.4, y: box.top + y1 + (y2 - y1) * 0.4 };
  }, fits);
  assert.ok(place, `a datagram of which ${fits}`);
  await page.mouse.click(place.x, place.y);
  return page.locator("#detail").innerText();
}

test("a run shows its states, and a click says why a datagram was sent", async () => {
  const page = await open(draw("run", `3 nodes for 3s, token timeout 200ms, seed 7
each sends every 20ms until 2s, up to 200 bytes, 30 % safe
at 1s partition [1, 2] | [3]
at 2s the network heals
`));
  assert.match(await page.title(), /3 nodes, seed 7/);
  const notes = await page.locator("#notes").innerText();
  for (const said of ["node 1 starts", "partition [1, 2] | [3]", "node 3 has no quorum", "node 1 has a quorum"]) {
    assert.ok(notes.includes(said), `${said} in ${notes}`);
  }
  assert.match(await click(page, "datagram.kind === 'token' && !datagram.again"), /passes the token on|first token/);
  assert.match(await click(page, "datagram.kind === 'join'"), /It wants a ring of/);
  assert.match(await click(page, "datagram.kind === 'multicast'"), /has the token, so it may send: frame/);
  assert.match(await click(page, "datagram.to.some((to) => to.lost?.includes('cut'))"), /the network is cut between/);
});

test("whole nodes are drawn as bare members are", async () => {
  const html = join(directory, "nodes.html");
  run("quorate-lab", "sim", "replay", "1", "--engine", "turmoil", "--html", html);
  const page = await open(html);
  const said = await click(page, "datagram.kind === 'token' && datagram.to[0].node !== datagram.from");
  assert.match(said, /after 1\.00 ms/);
});

test("in a capture of a killed daemon, the kill and what follows can be pointed at", async () => {
  const html = join(directory, "kill.html");
  run("quorate", "decode", "membership/tests/captures/06-kill9-reform.pcap", "--html", html);
  const page = await open(html);
  const notes = await page.locator("#notes").innerText();
  for (const said of ["node 3 sends its last datagram", "gives up on node 3", "looks for a new ring", /ring 1\.\w+ of nodes 1 and 2/]) {
    assert.ok(said instanceof RegExp ? said.test(notes) : notes.includes(said), `${said} in ${notes}`);
  }
  assert.match(await click(page, "datagram.kind === 'token' && datagram.again"), /sends the token again/);
  assert.match(await click(page, "datagram.kind === 'join'"), /looks for those who are still there/);
});

test("filters, keys and events find what one looks for", async () => {
  const page = await open(draw("keys", "3 nodes for 1s, token timeout 200ms, seed 1\nat 600ms node 3 crashes\n"));
  await page.keyboard.press("n");
  assert.match(await page.locator("#detail").innerText(), /./);
  const view = () => page.evaluate("window.page.diagram.until - window.page.diagram.from");
  const wide = await view();
  await page.keyboard.press("+");
  assert.ok(await view() < wide);
  await page.keyboard.press("0");
  assert.ok(await view() > 0.9e6);
  await page.getByLabel("token", { exact: true }).uncheck();
  assert.ok(await page.evaluate("window.page.diagram.hiddenKinds.has('token')"));
  await page.getByRole("button", { name: /node 3 crashes/ }).click();
  assert.match(await page.locator("#detail").innerText(), /node 3 crashes/);
  await page.keyboard.press("Escape");
  assert.match(await page.locator("#detail").innerText(), /Nothing chosen/);
});

test("the token moves while the picture is played", async () => {
  const page = await open(draw("play", "3 nodes for 1s, token timeout 200ms, seed 1\n"));
  await page.keyboard.press(" ");
  await page.waitForFunction("window.page.diagram.playhead > 20000");
  await page.keyboard.press(" ");
  const places = await page.evaluate(() => {
    const { model } = window.page;
    // The commit token is on its way back to node 1, and the tokens of the three rings before are no more.
    const recovers = Math.max(...model.picture.spans.filter(({ state }) => state === "recovery").map(({ from }) => from));
    return [recovers + 1, 300_000, 301_500, 303_000].map((at) => model.tokensAt(at).length);
  });
  assert.deepEqual(places, [0, 1, 1, 1]);
});

test("a phone shows the whole page without scrolling sideways", async () => {
  const page = await open(draw("phone", "2 nodes for 1s, token timeout 200ms, seed 1\n"), { width: 360, height: 740 });
  assert.ok(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"));
  assert.ok(await page.evaluate("document.getElementById('canvas').clientHeight > 300"));
});

test("a run of 100 000 datagrams and a million events opens, and answers a click within a second", async () => {
  const html = draw("long", `5 nodes for 60s, token timeout 1s, seed 3
each sends every 2ms until 60s, up to 200 bytes, 30 % safe
`);
  const began = performance.now();
  const page = await open(html);
  const opened = performance.now() - began;
  const datagrams = await page.evaluate("window.page.picture.datagrams.length");
  const clicked = performance.now();
  assert.match(await click(page, "datagram.kind === 'multicast'"), /frame/);
  const answered = performance.now() - clicked;
  console.log(`${datagrams} datagrams: opened in ${Math.round(opened)} ms, a click answered in ${Math.round(answered)} ms`);
  assert.ok(datagrams >= 100_000, `${datagrams}`);
  assert.ok(answered < 1000, `${answered} ms`);
});
