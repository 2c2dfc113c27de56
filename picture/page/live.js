// The page of a live run: shows reports, and sends requests.

/**
 * @typedef {{ property: string | null, what: string }} End
 * @typedef {{ nodes: number, scenario: string, checks: [string, string][], bugs: [string, string][], bug: string | null, blind: boolean,
 *   stories: [string, string][], story: string | null, captions: { at: number, text: string, pace: number | null }[] }} Begun
 * @typedef {{ scenario: string, test: string, hash: string }} Copied
 * @typedef {{ begun: Begun | null, scenario: string, hash: string, plays: boolean, captions: number,
 *   news: News,
 *   skipped: number, cuts: [number, number][], ended: End | null, error: string | null, copied: Copied | null }} RunReport
 * @typedef {{ times: number } | { events: number }} Pace
 */

/** The paces of a run, and the simulated time that the diagram shows at each, in microseconds.
 * @type {[string, Pace, number][]} */
const PACES = [
  ["1 event a second", { events: 1 }, 20_000],
  ["10 events a second", { events: 10 }, 50_000],
  ["1/1000 of real time", { times: 0.001 }, 20_000],
  ["1/100", { times: 0.01 }, 100_000],
  ["1/10", { times: 0.1 }, 500_000],
  ["real time", { times: 1 }, 1_500_000],
  ["10 times as fast", { times: 10 }, 30_000_000],
  ["100 times", { times: 100 }, 120_000_000],
  ["1000 times", { times: 1000 }, 600_000_000],
];
/** The pace that a run begins with. */
const REAL_TIME = 5;
/** The events, and the messages of each node, that are listed. */
const LISTED = { notes: 100, messages: 12 };

/** Returns the parts of a network in which each node hears all nodes of its own part and no others, or
 * `null` if it is not cut like that.
 * @param {number[]} nodes
 * @param {Set<string>} cuts
 * @returns {number[][] | null} */
function partsOf(nodes, cuts) {
  const hears = (/** @type {number} */ to, /** @type {number} */ from) => !cuts.has(`${from}>${to}`);
  /** @type {number[][]} */
  const parts = [];
  for (const node of nodes) {
    const part = parts.find(([first]) => first !== undefined && hears(node, first));
    if (part) part.push(node);
    else parts.push([node]);
  }
  const fits = parts.every((part) => part.every((node) =>
    nodes.every((other) => other === node || hears(node, other) === part.includes(other))));
  return fits ? parts : null;
}

/** The laboratory. */
class Laboratory {
  /** @param {WebSocket} socket */
  constructor(socket) {
    this.socket = socket;
    /** @type {number | null} */
    this.node = 1;
    /** The node whose state the panel shows, and that state. @type {{ node: number, span: Span | undefined } | null} */
    this.watched = null;
    this.follows = true;
    /** The length of the view from the next stretch of a story on. @type {number | null} */
    this.nextView = null;
    this.plays = true;
    this.over = false;
    /** The cluster's nodes. @type {number[]} */
    this.nodes = [];
    /** @type {Begun | null} */
    this.begun = null;
    /** The scenario of the first run. @type {string | null} */
    this.usual = null;
    this.model = new Model(emptyPicture([]));
    this.diagram = new Diagram(byId("canvas"), this.model, (thing) => this.detail(thing));
    this.diagram.hiddenNotes.add("message");
    this.map = new ClusterMap(/** @type {SVGSVGElement} */ (document.querySelector("#map")), {
      cut: (links) => this.cut(links),
      cutOneWay: (link) => this.cutOneWay(link),
      heal: (links) => this.heal(links),
      choose: (node) => this.choose(node),
      show: (datagram) => this.showThing({ datagram }),
      oneWay: () => /** @type {HTMLInputElement} */ (byId("oneWay")).checked,
    });
    showDetail(byId("detail"), null);
    showLegend(byId("legend"));
    this.buttons();
    socket.addEventListener("message", ({ data }) => this.take(JSON.parse(data)));
    socket.addEventListener("close", () => this.fail("The laboratory has ended, or has no room for another page."));
  }

  /** @param {Record<string, unknown>} command */
  send(command) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    byId("error").hidden = true;
    this.socket.send(JSON.stringify(command));
  }

  /** @param {string} fault */
  inject(fault) {
    this.send({ do: "inject", fault });
  }

  /** @param {Link[]} links */
  cut(links) {
    const cuts = new Set(this.map.cuts);
    for (const { from, to } of links) cuts.add(`${from}>${to}`).add(`${to}>${from}`);
    const parts = links.length > 1 ? partsOf(this.nodes, cuts) : null;
    if (parts) this.inject(`partition ${parts.map((part) => `[${part.join(", ")}]`).join(" | ")}`);
    else for (const { from, to } of links) this.inject(`nodes ${from} and ${to} no longer hear each other`);
  }

  /** @param {Link} link */
  cutOneWay({ from, to }) {
    this.inject(`node ${to} no longer hears node ${from}`);
  }

  /** @param {Link[]} links */
  heal(links) {
    for (const { from, to } of links) this.inject(`nodes ${from} and ${to} hear each other again`);
  }

  /** @param {number} node */
  choose(node) {
    this.node = node;
    byId("chosen").textContent = String(node);
    this.watched = { node, span: undefined };
    this.show();
  }

  /** Shows a thing in the panel.
   * @param {Thing | null} thing */
  detail(thing) {
    this.watched = null;
    showDetail(byId("detail"), thing, this.model.picture.ends_at);
  }

  /** Shows the present state of the watched node, if it is another one. */
  watch() {
    if (this.watched === null) return;
    const { node, span: before } = this.watched;
    const span = this.model.spanAt(node, "ring", this.model.picture.ends_at);
    if (!span || (before && before.from === span.from && before.state === span.state && before.text === span.text)) return;
    this.watched = { node, span };
    showDetail(byId("detail"), { span }, this.model.picture.ends_at);
  }

  /** Shows a thing in the diagram and in the panel.
   * @param {Thing} thing */
  showThing(thing) {
    this.setFollow(false);
    this.diagram.reveal(thing);
    this.detail(thing);
  }

  /** @param {string} why */
  fail(why) {
    byId("error").hidden = false;
    byId("error").textContent = why;
  }

  /** Takes a report.
   * @param {RunReport} report */
  take(report) {
    if (report.begun) this.begin(report.begun);
    this.model.append(report.news);
    this.plays = report.plays;
    this.map.showCuts(report.cuts);
    const { now } = report.news;
    this.over = report.ended !== null;
    write("play", this.over ? "Again" : report.plays ? "Pause" : "Run");
    write("hash", report.hash);
    write("scenario", report.scenario);
    const skipped = report.skipped > 0 ? `, ${report.skipped} datagrams not drawn` : "";
    byId("time").textContent = `${(now / 1e6).toFixed(report.plays && this.diagram.until - this.diagram.from > 1e6 ? 2 : 6)} s${skipped}`;
    this.verdict(report.ended);
    this.caption(report.captions, report.plays);
    const view = report.plays ? this.nextView : null;
    if (view !== null) this.nextView = null;
    if (this.follows) this.showLatest(view ?? this.diagram.until - this.diagram.from);
    if (report.error !== null) {
      this.fail(report.error);
      write("copy", "Copy as test");
    }
    if (report.copied) this.copied(report.copied);
    this.show();
    this.list(report.news.notes);
  }

  /** Shows the latest part of the diagram.
   * @param {number} view its length */
  showLatest(view) {
    this.diagram.from = this.model.picture.ends_at - view * 0.97;
    this.diagram.until = this.diagram.from + view;
  }

  /** Begins an empty picture.
   * @param {Begun} begun */
  begin(begun) {
    this.begun = begun;
    this.usual ??= begun.scenario;
    this.nodes = Array.from({ length: begun.nodes }, (_, n) => n + 1);
    const view = this.diagram.until - this.diagram.from;
    this.model = new Model(emptyPicture(this.nodes));
    this.diagram.model = this.model;
    this.diagram.selected = null;
    this.diagram.until = this.diagram.from + Math.max(view, 20_000);
    this.diagram.fit();
    this.nextView = null;
    this.setFollow(true);
    const caption = byId("caption").querySelector("p");
    if (caption) caption.textContent = "";
    this.map.begin(this.nodes);
    byId("notes").replaceChildren();
    byId("verdict").textContent = "";
    this.detail(null);
    const seed = /seed (\d+)/.exec(begun.scenario)?.[1] ?? "";
    byId("what").textContent = `${begun.nodes} nodes, seed ${seed}${begun.bug === null ? "" : `, with the bug ${begun.bug}`}`;
    /** @type {HTMLTextAreaElement} */ (byId("text")).value = begun.scenario;
    const token = /token timeout ([\d.]+)(ms|s)/.exec(begun.scenario);
    const facts = { count: begun.nodes, seed, token: Number(token?.[1] ?? 1) * (token?.[2] === "ms" ? 1 : 1000),
      quorum: /^with quorum (.*)$/m.exec(begun.scenario)?.[1] ?? "" };
    for (const [id, fact] of Object.entries(facts)) /** @type {HTMLInputElement} */ (byId(id)).value = String(fact);
    for (const id of ["from", "to"]) {
      byId(id).replaceChildren(new Option("any", ""), ...this.nodes.map((node) => new Option(`node ${node}`, String(node))));
    }
    byId("statuses").querySelector("tbody")?.replaceChildren(...this.nodes.map((node) => this.row(node)));
    byId("messages").replaceChildren(...this.nodes.map((node) => element("div", {}, `node ${node}`, element("ol", {}))));
    byId("bug").replaceChildren(new Option("none", ""), ...begun.bugs.map(([name, what]) => new Option(`${name}: ${what}`, name)));
    /** @type {HTMLSelectElement} */ (byId("bug")).value = begun.bug ?? "";
    byId("story").replaceChildren(new Option("none", ""), ...begun.stories.map(([name, title]) => new Option(title, name)));
    /** @type {HTMLSelectElement} */ (byId("story")).value = begun.story ?? "";
    byId("bugNote").textContent = begun.bugs.length > 0 ? "" : "A known bug can be switched on where the laboratory was built "
      + "with them: cargo run --package quorate-lab --features mutants -- lab";
    this.choose(Math.min(this.node ?? 1, begun.nodes));
    this.watched = null;
  }

  /** Shows the latest caption of a story.
   * @param {number} count
   * @param {boolean} plays */
  caption(count, plays) {
    const captions = this.begun?.captions ?? [];
    const caption = captions[count - 1];
    byId("caption").hidden = caption === undefined;
    byId("caption").classList.toggle("past", plays);
    byId("continue").hidden = plays || count === captions.length;
    write("place", `${count} of ${captions.length}`);
    const text = byId("caption").querySelector("p");
    if (!caption || !text || text.textContent === caption.text) return;
    text.textContent = caption.text;
    if (caption.pace === null) return;
    // The diagram still shows what the caption is about. The view changes with the pace.
    this.nextView = 4_000_000 * caption.pace;
    // None of the paces that one can choose.
    /** @type {HTMLSelectElement} */ (byId("pace")).value = "";
  }

  /** @param {number} node */
  row(node) {
    const button = element("button", {}, `node ${node}`);
    button.addEventListener("click", () => this.choose(node));
    return element("tr", { "data-node": String(node) }, element("td", {}, button), element("td", {}), element("td", {}), element("td", {}));
  }

  /** Says whether all invariants hold.
   * @param {End | null} ended */
  verdict(ended) {
    const broken = ended !== null && ended.property !== null;
    const holds = this.begun?.blind ? "The network changes bytes, so only panics are checked. None so far." : "✓ All invariants hold.";
    const text = ended === null ? holds : broken ? `✗ ${ended.what}` : `✓ ${ended.what}`;
    const verdict = byId("verdict");
    if (verdict.textContent === text) return;
    verdict.textContent = text;
    verdict.classList.toggle("broken", broken);
    const group = broken ? ended.property?.[0] : null;
    const checks = this.begun?.checks ?? [];
    byId("checks").replaceChildren(...checks.map(([name, subject]) =>
      element("li", name === group ? { class: "broken" } : {}, `${name === group ? `✗ ${ended?.property}` : `✓ ${name}`}: ${subject}`)));
  }

  /** Shows the states at the end of the run so far. */
  show() {
    const at = this.model.picture.ends_at;
    this.map.show(this.model, at, this.node);
    const isDown = (this.node === null ? undefined : this.model.spanAt(this.node, "ring", at)?.state) === "down";
    for (const button of byId("ofNode").querySelectorAll("button")) {
      button.disabled = this.over || isDown !== (button.dataset["fault"] === "node N starts again");
    }
    for (const id of ["heal", "step"]) /** @type {HTMLButtonElement} */ (byId(id)).disabled = this.over;
    this.watch();
    this.diagram.playhead = null;
    this.diagram.redraw();
    for (const row of document.querySelectorAll("#statuses tbody tr")) {
      const node = Number(row.getAttribute("data-node"));
      const [ring, quorum, dc] = [this.model.spanAt(node, "ring", at), this.model.spanAt(node, "quorum", at), this.model.spanAt(node, "dc", at)];
      const said = (/** @type {Span | undefined} */ span) => (span && span.text !== "" ? `: ${span.text}` : "");
      const texts = [
        ring ? `${ring.state}${said(ring)}` : "",
        quorum ? `${quorum.state ? "yes" : "no"}${said(quorum)}` : "",
        dc ? { acts: "is the DC, may act", waits: "is the DC, may not act", named: "is the DC in name only" }[String(dc.state)] ?? dc.text : "",
      ];
      texts.forEach((text, n) => {
        const cell = row.children[n + 1];
        if (cell && cell.textContent !== text) cell.textContent = text;
      });
      row.setAttribute("aria-current", String(node === this.node));
    }
  }

  /** Lists new events, and the latest messages of each node.
   * @param {Note[]} news */
  list(news) {
    const list = byId("notes");
    for (const note of news) {
      if (note.kind === "message") continue;
      const button = element("button", {}, element("time", {}, clock(note.at, 1e5)), note.text);
      const show = () => {
        list.querySelector("[aria-current]")?.removeAttribute("aria-current");
        button.setAttribute("aria-current", "true");
        this.showThing({ note });
      };
      // Until the button is released, new events may have moved it.
      button.addEventListener("pointerdown", show);
      button.addEventListener("click", show);
      list.prepend(element("li", {}, button));
    }
    while (list.children.length > LISTED.notes) list.lastChild?.remove();
    const columns = [...byId("messages").querySelectorAll("ol")];
    for (const note of news) {
      const said = / delivers (.*?), frame/.exec(note.text)?.[1];
      const column = note.node === null ? undefined : columns[this.nodes.indexOf(note.node)];
      if (note.kind !== "message" || said === undefined || column === undefined) continue;
      column.append(element("li", { class: said.includes("safe") ? "safe" : "", title: note.text }, said));
      while (column.children.length > LISTED.messages) column.firstChild?.remove();
    }
  }

  /** @param {Copied} copied */
  copied(copied) {
    byId("copiedHash").textContent = copied.hash;
    /** @type {HTMLTextAreaElement} */ (byId("copiedScenario")).value = copied.scenario;
    /** @type {HTMLTextAreaElement} */ (byId("copiedTest")).value = copied.test;
    const dialog = /** @type {HTMLDialogElement} */ (byId("copied"));
    write("taken", "");
    if (!dialog.open) dialog.showModal();
    write("copy", "Copy as test");
  }

  /** Begins a run that is over once more. */
  again() {
    if (this.begun?.story) this.send({ do: "tell", story: this.begun.story });
    else if (this.begun) this.send({ do: "begin", scenario: this.begun.scenario, bug: this.begun.bug });
  }

  /** @param {boolean} follows */
  setFollow(follows) {
    this.follows = follows;
    if (follows) {
      this.showLatest(this.diagram.until - this.diagram.from);
      this.diagram.redraw();
    }
    byId("follow").setAttribute("aria-pressed", String(follows));
  }

  buttons() {
    const { diagram } = this;
    const pace = /** @type {HTMLSelectElement} */ (byId("pace"));
    pace.append(element("option", { value: "", hidden: "" }, "that of the story"));
    PACES.forEach(([name], n) => pace.append(new Option(name, String(n))));
    const setPace = (/** @type {number} */ n) => {
      pace.value = String(n);
      const [, command, view] = PACES[n] ?? PACES[REAL_TIME] ?? ["", { times: 1 }, 4e6];
      this.showLatest(view);
      this.setFollow(true);
      this.send({ do: "pace", ...command });
      this.show();
    };
    pace.addEventListener("change", () => setPace(Number(pace.value)));
    setPace(REAL_TIME);
    const theme = () => changeTheme(diagram);
    if (matchMedia("(prefers-color-scheme: dark)").matches) theme();
    const move = (/** @type {number} */ part) => {
      this.setFollow(false);
      diagram.move(part);
    };
    // The present stays in its place while it is in view.
    const zoom = (/** @type {number} */ factor) => diagram.zoom(factor, this.follows ? this.model.picture.ends_at : undefined);
    /** @type {Record<string, () => void>} */
    const keys = {
      " ": () => (this.over ? this.again() : this.send({ do: this.plays ? "pause" : "play" })),
      s: () => {
        this.setFollow(true);
        this.send({ do: "step" });
      },
      f: () => this.setFollow(!this.follows), "+": () => zoom(1 / 1.5), "=": () => zoom(1 / 1.5),
      "-": () => zoom(1.5), t: theme, "?": toggleHelp, h: () => this.inject("the network heals"),
      c: () => {
        write("copy", "Runs again …");
        this.send({ do: "pause" });
        this.send({ do: "copy" });
      }, ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2),
    };
    const presses = { play: " ", step: "s", follow: "f", in: "+", out: "-", copy: "c", theme: "t", keys: "?", heal: "h" };
    for (const [id, key] of Object.entries(presses)) byId(id).addEventListener("click", () => keys[key]?.());
    document.addEventListener("click", ({ target, detail }) => {
      // After a click with the mouse, the space bar runs and pauses, and does not click once more.
      if (detail > 0 && target instanceof HTMLButtonElement) target.blur();
    });
    document.addEventListener("keydown", (event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      const types = target.matches("select, input, textarea") || (target.matches("button, summary") && event.key === " ");
      const dialog = /** @type {HTMLDialogElement} */ (byId("copied")).open;
      const other = event.ctrlKey || event.metaKey || event.altKey || (event.repeat && [" ", "c"].includes(event.key));
      const action = types || dialog || other ? undefined : keys[event.key];
      if (action) {
        event.preventDefault();
        action();
      }
    });
    byId("canvas").addEventListener("pointermove", (event) => {
      if (event.buttons > 0) this.setFollow(false);
    });
    const ends = () => [byId("from"), byId("to")].map((select) => /** @type {HTMLSelectElement} */ (select).value);
    const link = (/** @type {(links: Link[]) => void} */ act) => {
      const [from, to] = ends();
      if (from && to && from !== to) act([{ from: Number(from), to: Number(to) }]);
      else this.fail("Choose two nodes: the sender, and the receiver.");
    };
    byId("cut").addEventListener("click", () => link((links) => {
      if (this.map.actions.oneWay()) links.forEach((one) => this.cutOneWay(one));
      else this.cut(links);
    }));
    byId("mend").addEventListener("click", () => link((links) => this.heal(links)));
    const value = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (byId(id)).value;
    const disturb = (/** @type {string} */ trouble) => {
      const [from, to] = ends();
      this.inject(`for ${value("lasts")}s ${trouble} of datagrams${from ? ` from node ${from}` : ""}${to ? ` to node ${to}` : ""}`);
    };
    byId("lose").addEventListener("click", () => disturb(`lose ${value("share")} %`));
    byId("delay").addEventListener("click", () => disturb(`delay 100 % by up to ${value("by")}ms`));
    for (const button of byId("ofNode").querySelectorAll("button")) {
      const fault = button.dataset["fault"] ?? "";
      button.addEventListener("click", () => this.inject(fault.replace("N", String(this.node))));
    }
    byId("sentence").addEventListener("submit", (event) => {
      event.preventDefault();
      const input = /** @type {HTMLInputElement} */ (byId("fault"));
      if (input.value.trim() !== "") this.inject(input.value.trim());
    });
    const examples = ["partition [1, 2] | [3, 4, 5]", "the network heals", "node 2 takes 5ms a datagram for 3s",
      "the disk of node 1 is full for 2s", "the next token is lost", "the clock of node 2 drifts by 200 ppm",
      "node 1 is asked to give up the role", "when node 3 enters recovery: node 3 crashes"];
    byId("faults").replaceChildren(...examples.map((example) => new Option(example)));
    for (const id of ["count", "token", "seed", "quorum"]) {
      byId(id).addEventListener("input", () => {
        const text = /** @type {HTMLTextAreaElement} */ (byId("text"));
        text.value = changed(text.value, value("count"), value("token"), value("seed"), value("quorum"));
      });
    }
    byId("continue").addEventListener("click", () => {
      this.setFollow(true);
      this.send({ do: "play" });
    });
    byId("story").addEventListener("change", () => {
      const story = /** @type {HTMLSelectElement} */ (byId("story")).value;
      if (story !== "") this.send({ do: "tell", story });
      else if (this.usual !== null) {
        this.send({ do: "begin", scenario: this.usual, bug: null });
        setPace(REAL_TIME);
      }
    });
    byId("begin").addEventListener("submit", (event) => {
      event.preventDefault();
      const [text, bug] = [/** @type {HTMLTextAreaElement} */ (byId("text")).value, /** @type {HTMLSelectElement} */ (byId("bug")).value];
      this.send({ do: "begin", scenario: text, bug: bug === "" ? null : bug });
      setPace(pace.value === "" ? REAL_TIME : Number(pace.value));
    });
    const take = (/** @type {string} */ id) => {
      const area = /** @type {HTMLTextAreaElement} */ (byId(id));
      area.select();
      // Only a page on this host, or behind TLS, has a clipboard.
      if (navigator.clipboard) navigator.clipboard.writeText(area.value).catch(() => document.execCommand("copy"));
      else document.execCommand("copy");
    };
    const takes = { takeScenario: "copiedScenario", takeTest: "copiedTest" };
    for (const [button, area] of Object.entries(takes)) {
      byId(button).addEventListener("click", () => {
        take(area);
        write("taken", "Copied.");
      });
    }
    byId("close").addEventListener("click", () => /** @type {HTMLDialogElement} */ (byId("copied")).close());
  }
}

/** Sets a text, if it is another one: a text that is replaced cannot be selected.
 * @param {string} id
 * @param {string} text */
function write(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

/** Returns a scenario with these values in its first line, and with these quorum options.
 * @param {string} scenario
 * @param {string} nodes
 * @param {string} token
 * @param {string} seed
 * @param {string} quorum */
function changed(scenario, nodes, token, seed, quorum) {
  const lines = scenario.split("\n").filter((line) => !line.startsWith("with quorum "));
  const first = lines.findIndex((line) => /^\d+ nodes? for /.test(line));
  const length = / for ([^,]+)/.exec(lines[first] ?? "")?.[1] ?? "3600s";
  lines.splice(Math.max(first, 0), first < 0 ? 0 : 1, `${nodes} nodes for ${length}, token timeout ${token}ms, seed ${seed}`);
  if (quorum.trim() !== "") lines.splice(Math.max(first, 0) + 1, 0, `with quorum ${quorum.trim()}`);
  return lines.join("\n");
}

/** @param {number[]} nodes
 * @returns {Picture} */
function emptyPicture(nodes) {
  return { title: "", about: [], nodes: nodes.map((id) => ({ id, name: `node ${id}` })), ends_at: 0, datagrams: [], spans: [], notes: [] };
}

const socket = new WebSocket(Object.assign(new URL("run", location.href), { protocol: location.protocol.replace("http", "ws") }));
socket.addEventListener("error", () => {
  byId("error").hidden = false;
  byId("error").textContent = "The page cannot connect to the laboratory.";
});
Object.assign(window, { laboratory: new Laboratory(socket) });
