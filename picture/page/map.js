// The map of a live cluster: its nodes, the links between them, and where the token is.

/** @typedef {{ from: number, to: number }} Link */

const SVG = "http://www.w3.org/2000/svg";

/** Returns an element of a drawing.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...Node} children */
function drawn(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** A map on which one cuts links: by a click on a link, by a stroke across several, or by a drag
 * from one node to another. */
class ClusterMap {
  /**
   * @param {SVGSVGElement} svg
   * @param {{ cut: (links: Link[]) => void, cutOneWay: (link: Link) => void, heal: (links: Link[]) => void, choose: (node: number) => void, show: (token: Datagram) => void,
   *   oneWay: () => boolean }} actions
   */
  constructor(svg, actions) {
    this.svg = svg;
    this.actions = actions;
    /** @type {number[]} */
    this.nodes = [];
    /** The pairs of which the second cannot hear the first, as `1>3`. @type {Set<string>} */
    this.cuts = new Set();
    /** @type {Map<string, SVGElement>} */
    this.lines = new Map();
    /** @type {Map<number, { group: SVGElement, state: SVGElement, name: SVGElement }>} */
    this.discs = new Map();
    this.directions = drawn("g", {});
    this.tokens = drawn("g", {});
    /** The tokens that are drawn. @type {ReturnType<Model["tokensAt"]>} */
    this.shown = [];
    this.stroke = drawn("line", { class: "stroke", visibility: "hidden" });
    this.listen();
  }

  static SIZE = 400;

  /** Draws these nodes, all connected.
   * @param {number[]} nodes */
  begin(nodes) {
    this.nodes = nodes;
    this.cuts = new Set();
    this.lines = new Map();
    this.discs = new Map();
    const links = drawn("g", {});
    for (const { from, to } of this.links()) {
      const [a, b] = [this.place(from), this.place(to)];
      const ends = { x1: a.x, y1: a.y, x2: b.x, y2: b.y };
      const line = drawn("line", { class: "link", ...ends });
      // A wide line that is not seen is easier to hit.
      const target = drawn("line", { class: "target", "data-from": from, "data-to": to, ...ends });
      const title = drawn("title", {}, document.createTextNode(`nodes ${from} and ${to}: click to cut or to heal`));
      target.append(title);
      links.append(line, target);
      this.lines.set(`${from}-${to}`, line);
    }
    const discs = drawn("g", {});
    for (const node of nodes) {
      const { x, y } = this.place(node);
      const state = drawn("circle", { class: "disc", cx: x, cy: y, r: this.radius() });
      const name = drawn("text", { x, y, class: "number" }, document.createTextNode(String(node)));
      const group = drawn("g", { class: "node", "data-node": node, tabindex: 0, role: "button", "aria-label": `node ${node}` }, state, name);
      discs.append(group);
      this.discs.set(node, { group, state, name });
    }
    this.svg.replaceChildren(links, this.directions, this.tokens, discs, this.stroke);
  }

  radius() {
    return this.nodes.length > 8 ? 17 : 24;
  }

  /** Returns each link once. */
  links() {
    return this.nodes.flatMap((from) => this.nodes.filter((to) => to > from).map((to) => ({ from, to })));
  }

  /** @param {number} node */
  place(node) {
    const middle = ClusterMap.SIZE / 2;
    const angle = (2 * Math.PI * this.nodes.indexOf(node)) / Math.max(1, this.nodes.length) - Math.PI / 2;
    const away = this.nodes.length === 1 ? 0 : middle - this.radius() - 14;
    return { x: middle + away * Math.cos(angle), y: middle + away * Math.sin(angle) };
  }

  /** Returns the place beside a node, towards the middle.
   * @param {number} node */
  rim(node) {
    const middle = ClusterMap.SIZE / 2;
    const { x, y } = this.place(node);
    const away = Math.hypot(x - middle, y - middle);
    const part = away === 0 ? 0 : (this.radius() + 12) / away;
    return { x: x + (middle - x) * part, y: away === 0 ? y - this.radius() - 12 : y + (middle - y) * part };
  }

  /** Shows which node cannot hear which.
   * @param {[number, number][]} cuts */
  showCuts(cuts) {
    this.cuts = new Set(cuts.map(([from, to]) => `${from}>${to}`));
    const directions = [];
    for (const { from, to } of this.links()) {
      const [there, back] = [this.cuts.has(`${from}>${to}`), this.cuts.has(`${to}>${from}`)];
      const state = there && back ? "cut" : there || back ? "oneway" : "whole";
      this.lines.get(`${from}-${to}`)?.setAttribute("class", `link ${state}`);
      if (state !== "oneway") continue;
      const [a, b] = [this.place(there ? to : from), this.place(there ? from : to)];
      const turned = (Math.atan2(b.y - a.y, b.x - a.x) * 180) / Math.PI;
      directions.push(drawn("path", { class: "direction", d: "M 9 0 L -7 8 L -7 -8 Z",
        // In the middle, the arrows of several links could cover each other.
        transform: `translate(${a.x + (b.x - a.x) * 0.4} ${a.y + (b.y - a.y) * 0.4}) rotate(${turned})` }));
    }
    this.directions.replaceChildren(...directions);
  }

  /** Shows the states of the nodes, and the tokens.
   * @param {Model} model
   * @param {number} at
   * @param {number | null} chosen */
  show(model, at, chosen) {
    for (const [node, { group, state, name }] of this.discs) {
      const ring = model.spanAt(node, "ring", at)?.state ?? "down";
      const quorum = model.spanAt(node, "quorum", at)?.state;
      const dc = model.spanAt(node, "dc", at)?.state;
      state.setAttribute("class", `disc ${ring} ${quorum === true ? "quorate" : "inquorate"} ${node === chosen ? "chosen" : ""}`);
      const text = dc === "acts" ? `★${node}` : dc === "waits" ? `☆${node}` : String(node);
      if (name.textContent !== text) name.textContent = text;
      group.setAttribute("aria-label", `node ${node}: ${ring}, ${quorum === true ? "has a quorum" : "has no quorum"}`
        + (dc === undefined ? "" : dc === "other" ? "" : `, ${DC[String(dc)]}`));
    }
    this.shown = model.tokensAt(at);
    const tokens = this.shown.map(({ from, to, part }, n) => {
      // A token that rests at a node is drawn at its rim.
      const [a, b] = [this.rim(from), this.rim(to)];
      return drawn("circle", { class: "token", "data-token": n, r: 9, cx: a.x + (b.x - a.x) * part, cy: a.y + (b.y - a.y) * part });
    });
    this.tokens.replaceChildren(...tokens);
  }

  /** Cuts links that are whole, or heals them if none is.
   * @param {Link[]} links */
  toggle(links) {
    const isCut = (/** @type {Link} */ { from, to }) => this.cuts.has(`${from}>${to}`) && this.cuts.has(`${to}>${from}`);
    const whole = links.filter((link) => !isCut(link));
    if (whole.length > 0) this.actions.cut(whole);
    else if (links.length > 0) this.actions.heal(links);
  }

  listen() {
    const { svg } = this;
    /** @type {{ x: number, y: number, node: number | null, target: Element } | null} */
    let begun = null;
    const place = (/** @type {PointerEvent} */ event) => {
      const box = svg.getBoundingClientRect();
      const scale = ClusterMap.SIZE / Math.min(box.width, box.height);
      return {
        x: (event.clientX - box.left - (box.width - box.height > 0 ? (box.width - box.height) / 2 : 0)) * scale,
        y: (event.clientY - box.top - (box.height - box.width > 0 ? (box.height - box.width) / 2 : 0)) * scale,
      };
    };
    const nodeAt = (/** @type {{ x: number, y: number }} */ { x, y }) =>
      this.nodes.find((node) => Math.hypot(this.place(node).x - x, this.place(node).y - y) <= this.radius() + 6) ?? null;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const at = place(event);
      svg.setPointerCapture(event.pointerId);
      begun = { ...at, node: nodeAt(at), target: /** @type {Element} */ (event.target) };
    });
    svg.addEventListener("pointermove", (event) => {
      if (!begun) return;
      const { x, y } = place(event);
      const ends = { x1: begun.x, y1: begun.y, x2: x, y2: y, visibility: "visible" };
      for (const [name, value] of Object.entries(ends)) this.stroke.setAttribute(name, String(value));
    });
    svg.addEventListener("pointerup", (event) => {
      this.stroke.setAttribute("visibility", "hidden");
      if (!begun) return;
      const { node, target, ...from } = begun;
      begun = null;
      const to = place(event);
      const last = nodeAt(to);
      if (Math.hypot(to.x - from.x, to.y - from.y) < 6) {
        const token = this.shown[Number(target.getAttribute("data-token") ?? -1)];
        if (token) return this.actions.show(token.token);
        if (node !== null) return this.actions.choose(node);
        const [a, b] = [target.getAttribute("data-from"), target.getAttribute("data-to")];
        if (a !== null && b !== null) this.toggle([{ from: Number(a), to: Number(b) }]);
      } else if (node !== null) {
        if (last !== null && last !== node) this.drag(node, last);
      } else {
        this.toggle(this.links().filter((link) => crosses(from, to, this.place(link.from), this.place(link.to))));
      }
    });
    svg.addEventListener("pointercancel", () => {
      begun = null;
      this.stroke.setAttribute("visibility", "hidden");
    });
    svg.addEventListener("keydown", (event) => {
      const node = /** @type {Element} */ (event.target).getAttribute("data-node");
      if (node === null || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      event.stopPropagation();
      this.actions.choose(Number(node));
    });
  }

  /** @param {number} from
   * @param {number} to */
  drag(from, to) {
    if (!this.actions.oneWay()) return this.toggle([{ from, to }]);
    if (this.cuts.has(`${from}>${to}`)) this.actions.heal([{ from, to }]);
    else this.actions.cutOneWay({ from, to });
  }
}

/** Returns whether two segments cross.
 * @typedef {{ x: number, y: number }} Point
 * @param {Point} a
 * @param {Point} b
 * @param {Point} c
 * @param {Point} d */
function crosses(a, b, c, d) {
  const side = (/** @type {Point} */ p, /** @type {Point} */ q, /** @type {Point} */ r) =>
    Math.sign((q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x));
  return side(a, b, c) !== side(a, b, d) && side(c, d, a) !== side(c, d, b);
}
