// The parts that all pages have: the panel for a click, the legend, the theme and the help.

/** @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T} */
function byId(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/**
 * Returns an element with children. Text is never read as HTML.
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** @param {unknown} value
 * @returns {Node | string} */
function shown(value) {
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) {
    if (value.every((one) => typeof one !== "object")) return value.length === 0 ? "none" : value.join(", ");
    return element("div", {}, ...value.map((one) => shown(one)));
  }
  if (typeof value === "object") return rows(Object.entries(value));
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

/** @param {[string, unknown][]} entries */
function rows(entries) {
  const table = element("table", {});
  for (const [name, value] of entries) {
    table.append(element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, shown(value))));
  }
  return table;
}

/** Shows a thing in the panel.
 * @param {HTMLElement} panel
 * @param {Thing | null} thing
 * @param {number} [now] the time up to which a live run is known */
function showDetail(panel, thing, now = Infinity) {
  panel.replaceChildren();
  if (thing === null) {
    panel.append(element("h2", {}, "Nothing chosen"), element("p", {}, "Click an arrow, a line or an event."));
    return;
  }
  if ("datagram" in thing) {
    const { datagram } = thing;
    const kind = KINDS[/** @type {keyof typeof KINDS} */ (datagram.kind)] ?? datagram.kind;
    const sender = datagram.from === null ? "elsewhere" : `node ${datagram.from}`;
    panel.append(element("h2", {}, `${kind} from ${sender}${datagram.again ? ", again" : ""}`));
    panel.append(element("p", { class: "why" }, datagram.why));
    /** @type {[string, unknown][]} */
    const facts = [["sent at", clock(datagram.at, 1000)]];
    for (const { node, at, lost } of datagram.to) {
      const flight = at === null ? "" : `after ${pause(at - datagram.at)}`;
      facts.push([`to node ${node}`, lost !== null ? `lost: ${lost}` : flight === "" ? "arrival not known" : flight]);
    }
    panel.append(rows(facts), element("h2", {}, "What it says"), rows(Object.entries(JSON.parse(datagram.fields))));
  } else if ("note" in thing) {
    const { note } = thing;
    panel.append(element("h2", {}, note.node === null ? "The cluster" : `Node ${note.node}`));
    panel.append(element("p", { class: "why" }, note.text), rows([["at", clock(note.at, 1000)]]));
  } else {
    const { span } = thing;
    const what = span.band === "quorum"
      ? (span.state ? "has a quorum" : "has no quorum")
      : span.band === "dc"
        ? (DC[String(span.state)] ?? `takes ${span.text} for the DC`)
        : `is ${span.state === "down" ? "" : "in "}${STATES[/** @type {keyof typeof STATES} */ (span.state)] ?? span.state}`;
    panel.append(element("h2", {}, `Node ${span.node}`), element("p", { class: "why" }, `Node ${span.node} ${what}.`));
    /** @type {[string, unknown][]} */
    const facts = [["from", clock(span.from, 1000)]];
    if (span.until <= now) facts.push(["until", clock(span.until, 1000)], ["for", pause(span.until - span.from)]);
    if (span.text !== "" && span.band !== "dc") facts.push(["details", span.text]);
    panel.append(rows(facts));
  }
}

/** Says what the colours mean.
 * @param {HTMLElement} legend */
function showLegend(legend) {
  const swatch = (/** @type {string} */ colour) => element("span", { class: "swatch", style: `background: var(--${colour})` });
  for (const [state, meaning] of Object.entries(STATES)) {
    legend.append(element("div", {}, swatch(state === "commit" ? "commits" : state), meaning));
  }
  for (const [kind, name] of Object.entries(KINDS)) {
    const colour = { "merge-detect": "merge", "hold-cancel": "hold", leave: "join" }[kind] ?? kind;
    legend.append(element("div", {}, swatch(colour), `an arrow: ${name}`));
  }
  const bands = { quorate: "has a quorum", inquorate: "has no quorum", acts: "DC, may act", waits: "DC, may not act: earlier leases may run, its own is not renewed, or it gives up the role" };
  for (const [band, meaning] of Object.entries(bands)) legend.append(element("div", {}, swatch(band), meaning));
  legend.append(element("div", {}, "A dashed arrow: the same was sent before. A cross: it was lost."));
}

/** Changes between light and dark.
 * @param {Diagram} diagram */
function changeTheme(diagram) {
  const root = document.documentElement;
  root.dataset["theme"] = root.dataset["theme"] === "dark" ? "light" : "dark";
  diagram.readColours();
}

/** Shows or hides the keys of the page. */
function toggleHelp() {
  byId("help").hidden = !byId("help").hidden;
  byId("keys").setAttribute("aria-expanded", String(!byId("help").hidden));
}
