// The diagram on its canvas: a line for each node, and arrows for datagrams.

/** A view of a model. */
class Diagram {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Model} model
   * @param {(thing: Thing | null) => void} chosen called with what was clicked
   */
  constructor(canvas, model, chosen) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.model = model;
    this.chosen = chosen;
    this.from = 0;
    this.until = Math.max(1, model.picture.ends_at);
    /** The moment that the picture is played at. @type {number | null} */
    this.playhead = null;
    /** @type {Thing | null} */
    this.selected = null;
    /** Kinds and nodes that are not drawn. @type {Set<string>} */
    this.hiddenKinds = new Set();
    /** @type {Set<number>} */
    this.hiddenNodes = new Set();
    /** @type {Set<string>} */
    this.hiddenNotes = new Set();
    /** @type {Record<string, string>} */
    this.colours = {};
    this.wanted = false;
    this.readColours();
    this.listen();
    this.fit();
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  /** The least height of a node's row, in pixels. */
  static ROW = 56;

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["paper", "panel", "ink", "faint", "rule", "mark", "token", "multicast", "join", "commit", "merge",
      "hold", "refused", "operational", "gather", "commits", "recovery", "down", "paused", "quorate", "inquorate",
      "waits", "acts"];
    for (const name of names) this.colours[name] = style.getPropertyValue(`--${name}`).trim();
    this.redraw();
  }

  /** @param {string} name */
  colour(name) {
    return this.colours[name] ?? "#888";
  }

  /** Draws in the next frame. */
  redraw() {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => {
      this.wanted = false;
      this.draw();
    });
  }

  /** Shows this time.
   * @param {number} from
   * @param {number} until */
  show(from, until) {
    const end = Math.max(1, this.model.picture.ends_at);
    const view = Math.min(Math.max(until - from, 20), end * 1.04 + 20);
    const middle = (from + until) / 2;
    this.from = Math.min(Math.max(middle - view / 2, -0.02 * view), Math.max(-0.02 * view, end - 0.98 * view));
    this.until = this.from + view;
    this.redraw();
  }

  /** @param {number} factor
   * @param {number} [at] the time that stays in its place */
  zoom(factor, at = this.playhead ?? (this.from + this.until) / 2) {
    const pin = at >= this.from && at <= this.until ? at : (this.from + this.until) / 2;
    this.show(pin - (pin - this.from) * factor, pin + (this.until - pin) * factor);
  }

  /** @param {number} part of the view */
  move(part) {
    const by = (this.until - this.from) * part;
    this.show(this.from + by, this.until + by);
  }

  /** Shows a thing, and selects it.
   * @param {Thing} thing */
  reveal(thing) {
    this.selected = thing;
    const at = timeOf(thing);
    const view = this.until - this.from;
    const end = this.model.picture.ends_at;
    // From far away, a moment is no place: come nearer.
    const near = Math.min(view, Math.max(end / 20, 200_000));
    if (at < this.from + view * 0.05 || at > this.until - view * 0.05 || near < view) {
      this.show(at - near / 2, at + near / 2);
    }
    this.redraw();
  }

  /** Makes the canvas high enough for all nodes. */
  fit() {
    const { length } = this.model.picture.nodes.filter(({ id }) => !this.hiddenNodes.has(id));
    this.canvas.style.minHeight = `${66 + Diagram.ROW * length}px`;
  }

  layout() {
    const box = this.canvas.getBoundingClientRect();
    const nodes = this.model.picture.nodes.filter(({ id }) => !this.hiddenNodes.has(id));
    const left = Math.min(150, Math.max(64, box.width * 0.14));
    const top = 58;
    const row = Math.max(Diagram.ROW, (box.height - top - 8) / Math.max(1, nodes.length));
    /** @type {Map<number, number>} */
    const lines = new Map(nodes.map(({ id }, n) => [id, top + row * (n + 0.5)]));
    return { width: box.width, height: box.height, left, top, row, lines, nodes };
  }

  /** @param {number} at
   * @param {{ left: number, width: number }} layout */
  x(at, { left, width }) {
    return left + ((at - this.from) / (this.until - this.from)) * (width - left);
  }

  /** @param {number} x
   * @param {{ left: number, width: number }} layout */
  time(x, { left, width }) {
    return this.from + ((x - left) / (width - left)) * (this.until - this.from);
  }

  draw() {
    const layout = this.layout();
    const { width, height, left } = layout;
    const scale = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
    }
    const context = this.context;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = this.colour("paper");
    context.fillRect(0, 0, width, height);
    context.save();
    context.beginPath();
    context.rect(left, 0, width - left, height);
    context.clip();
    this.drawTimes(layout);
    this.drawSpans(layout);
    this.drawDatagrams(layout);
    this.drawLabels(layout);
    this.drawNotes(layout);
    this.drawPlayhead(layout);
    context.restore();
    this.drawNames(layout);
  }

  /** @param {ReturnType<Diagram["layout"]>} layout */
  drawTimes(layout) {
    const { context } = this;
    const view = this.until - this.from;
    const rough = view / Math.max(2, (layout.width - layout.left) / 110);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "top";
    context.textAlign = "left";
    for (let at = Math.ceil(Math.max(0, this.from) / step) * step; at <= this.until; at += step) {
      const x = Math.round(this.x(at, layout)) + 0.5;
      context.strokeStyle = this.colour("rule");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, layout.height);
      context.stroke();
      context.fillStyle = this.colour("faint");
      context.fillText(clock(at, view), x + 3, 3);
    }
  }

  /** @param {ReturnType<Diagram["layout"]>} layout */
  drawSpans(layout) {
    const { context } = this;
    for (const [id, y] of layout.lines) {
      const spans = this.model.spansOf.get(id) ?? [];
      for (const span of spans) {
        if (span.until < this.from || span.from > this.until) continue;
        const begin = Math.max(layout.left, this.x(span.from, layout));
        const end = Math.max(begin + 1, Math.min(layout.width, this.x(span.until, layout)));
        if (span.band === "quorum") {
          context.fillStyle = this.colour(span.state ? "quorate" : "inquorate");
          context.fillRect(begin, y - 11, end - begin, 22);
        } else if (span.band === "dc" && (span.state === "acts" || span.state === "waits")) {
          context.fillStyle = this.colour(span.state === "acts" ? "acts" : "waits");
          context.fillRect(begin, y - 19, end - begin, 8);
        }
      }
      for (const span of spans) {
        if (span.band !== "ring" || span.until < this.from || span.from > this.until) continue;
        const begin = Math.max(layout.left, this.x(span.from, layout));
        const end = Math.max(begin + 1, Math.min(layout.width, this.x(span.until, layout)));
        const state = String(span.state);
        context.strokeStyle = this.colour(state === "commit" ? "commits" : state);
        // The pattern says the same as the colour.
        const dash = { gather: [7, 3], commit: [2, 2], recovery: [12, 2, 2, 2], down: [1, 5], paused: [4, 4] }[state];
        context.lineWidth = state === "down" ? 2 : 6;
        context.setLineDash(dash ?? []);
        context.beginPath();
        context.moveTo(begin, y);
        context.lineTo(end, y);
        context.stroke();
        context.setLineDash([]);
      }
    }
  }

  /** Names the bands, on top of the arrows.
   * @param {ReturnType<Diagram["layout"]>} layout */
  drawLabels(layout) {
    for (const [id, y] of layout.lines) {
      for (const { band, state, from, until } of this.model.spansOf.get(id) ?? []) {
        if (until < this.from || from > this.until) continue;
        const begin = Math.max(layout.left, this.x(from, layout));
        const end = Math.min(layout.width, this.x(until, layout));
        if (band === "quorum" && !state) this.label("no quorum", begin, y + 12, end, "faint");
        if (band === "dc" && state === "acts") this.label("DC, may act", begin, y - 32, end, "ink");
        if (band === "dc" && state === "waits") this.label("DC, may not act", begin, y - 32, end, "ink");
      }
    }
  }

  /** Writes a text if it fits.
   * @param {string} text
   * @param {number} x
   * @param {number} y
   * @param {number} end
   * @param {string} colour */
  label(text, x, y, end, colour) {
    const { context } = this;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "top";
    context.textAlign = "left";
    if (context.measureText(text).width + 4 > end - x) return;
    context.strokeStyle = this.colour("paper");
    context.lineWidth = 3;
    context.lineJoin = "round";
    context.strokeText(text, x + 2, y);
    context.fillStyle = this.colour(colour);
    context.fillText(text, x + 2, y);
  }

  /** @param {Datagram} datagram */
  isShown(datagram) {
    return !this.hiddenKinds.has(datagram.kind) && (datagram.from === null || !this.hiddenNodes.has(datagram.from));
  }

  /** @param {ReturnType<Diagram["layout"]>} layout */
  drawDatagrams(layout) {
    const [first, end] = this.model.underWay(this.from, this.until);
    const many = end - first > 1500;
    // From far away, one arrow of a kind for each pixel is all that can be seen.
    const drawn = many ? new Set() : null;
    this.context.globalAlpha = many ? 0.35 : 1;
    for (let n = first; n < end; n++) {
      const datagram = /** @type {Datagram} */ (this.model.picture.datagrams[n]);
      if (!this.isShown(datagram)) continue;
      const x = this.x(datagram.at, layout);
      if (drawn) {
        const lost = datagram.to.some((arrival) => arrival.lost !== null);
        const key = `${Math.round(x)} ${datagram.from} ${datagram.kind} ${lost} ${datagram.to.length === 1 ? datagram.to[0]?.node : ""}`;
        if (drawn.has(key)) continue;
        drawn.add(key);
      }
      this.drawDatagram(datagram, x, layout, !many);
    }
    this.context.globalAlpha = 1;
    if (this.selected && "datagram" in this.selected) {
      const { datagram } = this.selected;
      this.drawDatagram(datagram, this.x(datagram.at, layout), layout, true, true);
    }
  }

  /** @param {Datagram} datagram
   * @param {number} x
   * @param {ReturnType<Diagram["layout"]>} layout
   * @param {boolean} heads
   * @param {boolean} [selected] */
  drawDatagram(datagram, x, layout, heads, selected = false) {
    const { context } = this;
    const { kind } = datagram;
    const colour = { "merge-detect": "merge", "hold-cancel": "hold", leave: "join" }[kind] ?? kind;
    context.strokeStyle = context.fillStyle = this.colour(colour);
    context.lineWidth = selected ? 4 : kind === "token" ? 1.4 : 1.1;
    const y = datagram.from === null ? layout.top : layout.lines.get(datagram.from);
    if (y === undefined) return;
    context.setLineDash(datagram.again ? [5, 3] : kind === "merge-detect" || kind === "leave" ? [2, 3] : []);
    for (const arrival of datagram.to) {
      const yTo = layout.lines.get(arrival.node);
      if (yTo === undefined) continue;
      const isUnderWay = arrival.at === null && this.model.runs;
      let xTo = this.x(arrival.at ?? (isUnderWay ? this.model.picture.ends_at : datagram.at), layout);
      let yEnd = yTo;
      if (isUnderWay) {
        yEnd = (y + yTo) / 2;
      } else if (arrival.lost !== null) {
        xTo = x + (xTo - x) * 0.7;
        yEnd = y + (yTo - y) * 0.7;
      } else {
        yEnd = yTo + (yTo > y ? -4 : yTo < y ? 4 : 0);
      }
      if (arrival.node === datagram.from) {
        context.beginPath();
        context.arc(x, y - 5, 5, 0, 2 * Math.PI);
        context.stroke();
        continue;
      }
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(xTo, yEnd);
      context.stroke();
      if (arrival.lost !== null) this.drawCross(xTo, yEnd);
      else if (heads && !isUnderWay) this.drawHead(x, y, xTo, yEnd);
    }
    context.setLineDash([]);
    if (datagram.to.length === 0) {
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x, y - 14);
      context.stroke();
    }
  }

  /** @param {number} x
   * @param {number} y */
  drawCross(x, y) {
    const { context } = this;
    context.save();
    context.setLineDash([]);
    context.strokeStyle = this.colour("refused");
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x - 4, y - 4);
    context.lineTo(x + 4, y + 4);
    context.moveTo(x - 4, y + 4);
    context.lineTo(x + 4, y - 4);
    context.stroke();
    context.restore();
  }

  /** @param {number} fromX
   * @param {number} fromY
   * @param {number} x
   * @param {number} y */
  drawHead(fromX, fromY, x, y) {
    const { context } = this;
    const angle = Math.atan2(y - fromY, x - fromX);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x - 7 * Math.cos(angle - 0.4), y - 7 * Math.sin(angle - 0.4));
    context.lineTo(x - 7 * Math.cos(angle + 0.4), y - 7 * Math.sin(angle + 0.4));
    context.fill();
  }

  /** @param {ReturnType<Diagram["layout"]>} layout */
  drawNotes(layout) {
    const { context } = this;
    const { notes } = this.model.picture;
    const first = firstFrom(notes, (note) => note.at, this.from);
    const end = firstFrom(notes, (note) => note.at, this.until);
    /** @type {{ note: Note, x: number }[]} */
    const labels = [];
    let last = -10;
    for (let n = first; n < end; n++) {
      const note = /** @type {Note} */ (notes[n]);
      if (this.hiddenNotes.has(note.kind)) continue;
      if (note.node !== null && this.hiddenNodes.has(note.node)) continue;
      const x = this.x(note.at, layout);
      const selected = this.selected !== null && "note" in this.selected && this.selected.note === note;
      if (!selected && note.kind !== "violation" && x - last < 1 && end - first > 400) continue;
      last = x;
      const y = (note.node === null ? undefined : layout.lines.get(note.node)) ?? 48;
      context.fillStyle = this.colour(note.kind === "violation" ? "refused" : "mark");
      context.beginPath();
      if (note.node === null) {
        context.moveTo(x - 5, y - 5);
        context.lineTo(x + 5, y - 5);
        context.lineTo(x, y + 5);
      } else {
        context.arc(x, y, selected ? 6 : 3.5, 0, 2 * Math.PI);
      }
      context.fill();
      if (note.node === null || selected) {
        context.strokeStyle = this.colour("mark");
        context.lineWidth = selected ? 2 : 0.7;
        context.beginPath();
        context.moveTo(x, 43);
        context.lineTo(x, layout.height);
        context.stroke();
      }
      if (selected || note.kind !== "message") labels.push({ note, x });
    }
    this.drawNoteLabels(labels, layout);
  }

  /** Writes what happened, as far as there is room. What says most comes first.
   * @param {{ note: Note, x: number }[]} labels
   * @param {ReturnType<Diagram["layout"]>} layout */
  drawNoteLabels(labels, layout) {
    const { context } = this;
    const selected = this.selected !== null && "note" in this.selected ? this.selected.note : null;
    const kinds = ["violation", "fault", "life", "ring", "dc", "quorum"];
    const rank = (/** @type {{ note: Note }} */ { note }) => (note === selected ? -1 : kinds.indexOf(note.kind));
    /** @type {[number, number][]} */
    const taken = [];
    context.textBaseline = "top";
    context.textAlign = "left";
    context.fillStyle = this.colour("ink");
    // The last event of a burst is its outcome.
    for (const { note, x } of labels.sort((a, b) => rank(a) - rank(b) || b.x - a.x)) {
      context.font = note === selected ? "bold 11px system-ui, sans-serif" : "11px system-ui, sans-serif";
      const text = note.text.length > 60 ? `${note.text.slice(0, 58)}…` : note.text;
      const wide = context.measureText(text).width;
      // At the right edge, the text ends there.
      const begin = Math.max(layout.left, Math.min(x + 5, layout.width - wide - 5));
      if (taken.some(([from, until]) => begin < until && begin + wide + 9 > from)) continue;
      taken.push([begin, begin + wide + 9]);
      context.fillText(text, begin, 23);
    }
  }

  /** @param {ReturnType<Diagram["layout"]>} layout */
  drawPlayhead(layout) {
    if (this.playhead === null) return;
    const { context } = this;
    const x = this.x(this.playhead, layout);
    context.strokeStyle = this.colour("ink");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, 16);
    context.lineTo(x, layout.height);
    context.stroke();
    for (const { from, to, part } of this.model.tokensAt(this.playhead)) {
      const [start, end] = [layout.lines.get(from), layout.lines.get(to)];
      if (start === undefined || end === undefined) continue;
      context.fillStyle = this.colour("token");
      context.strokeStyle = this.colour("paper");
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, start + (end - start) * part, 8, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
  }

  /** @param {ReturnType<Diagram["layout"]>} layout */
  drawNames(layout) {
    const { context } = this;
    const at = this.playhead;
    for (const { id, name } of layout.nodes) {
      const y = layout.lines.get(id) ?? 0;
      context.textBaseline = "middle";
      context.textAlign = "right";
      context.font = "bold 13px system-ui, sans-serif";
      context.fillStyle = this.colour("ink");
      context.fillText(name, layout.left - 8, y, layout.left - 12);
      const state = at === null ? undefined : this.model.spanAt(id, "ring", at);
      if (state) {
        context.font = "11px system-ui, sans-serif";
        context.fillStyle = this.colour("faint");
        context.fillText(String(state.state), layout.left - 8, y + 15, layout.left - 12);
      }
    }
  }

  /** Returns what is at a place of the canvas.
   * @param {number} x
   * @param {number} y
   * @returns {Thing | null} */
  thingAt(x, y) {
    const layout = this.layout();
    if (x < layout.left) return null;
    const near = this.time(x + 8, layout) - this.time(x, layout);
    const at = this.time(x, layout);
    const { notes, datagrams } = this.model.picture;
    /** @type {Thing | null} */
    let best = null;
    let distance = 8;
    const end = firstFrom(notes, (note) => note.at, at + near);
    for (let n = firstFrom(notes, (note) => note.at, at - near); n < end; n++) {
      const note = /** @type {Note} */ (notes[n]);
      if (this.hiddenNotes.has(note.kind) || (note.node !== null && this.hiddenNodes.has(note.node))) continue;
      const line = note.node === null ? undefined : layout.lines.get(note.node);
      const away = Math.hypot(this.x(note.at, layout) - x, (line ?? 46) - y);
      if (away < distance) [best, distance] = [{ note }, away];
    }
    const [first, last] = this.model.underWay(at - near, at + near);
    for (let n = first; n < last; n++) {
      const datagram = /** @type {Datagram} */ (datagrams[n]);
      const start = datagram.from === null ? layout.top : layout.lines.get(datagram.from);
      if (!this.isShown(datagram) || start === undefined) continue;
      if (datagram.to.length === 0) {
        const x1 = this.x(datagram.at, layout);
        const away = toSegment(x, y, x1, start, x1, start - 14);
        if (away < distance) [best, distance] = [{ datagram }, away];
      }
      for (const arrival of datagram.to) {
        const stop = layout.lines.get(arrival.node);
        if (stop === undefined) continue;
        const away = toSegment(x, y, this.x(datagram.at, layout), start, this.x(arrival.at ?? datagram.at, layout), stop);
        if (away < distance) [best, distance] = [{ datagram }, away];
      }
    }
    if (best) return best;
    for (const [id, line] of layout.lines) {
      if (Math.abs(line - y) > 20) continue;
      /** @type {Span["band"][]} */
      const bands = y < line - 11 ? ["dc", "ring"] : Math.abs(line - y) < 5 ? ["ring"] : ["quorum", "ring"];
      for (const band of bands) {
        const span = this.model.spanAt(id, band, at);
        // Only the DC's own band is drawn.
        if (span && span.state !== "other" && span.state !== "named") return { span };
      }
    }
    return null;
  }

  listen() {
    const { canvas } = this;
    /** @type {Map<number, { x: number, y: number }>} */
    const fingers = new Map();
    let moved = 0;
    const place = (/** @type {PointerEvent | WheelEvent} */ event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, place(event));
      moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const layout = this.layout();
      const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, finger]) => finger);
      moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
      const other = others[0];
      if (other) {
        const factor = Math.max(20, Math.abs(before.x - other.x)) / Math.max(20, Math.abs(now.x - other.x));
        this.zoom(factor, this.time(other.x, layout));
      } else if (moved > 4) {
        canvas.classList.add("drags");
        const by = this.time(before.x, layout) - this.time(now.x, layout);
        this.show(this.from + by, this.until + by);
      }
      fingers.set(event.pointerId, now);
    });
    const up = (/** @type {PointerEvent} */ event) => {
      canvas.classList.remove("drags");
      if (fingers.delete(event.pointerId) && moved <= 4 && event.type === "pointerup") {
        const { x, y } = place(event);
        this.selected = this.thingAt(x, y);
        this.chosen(this.selected);
        this.redraw();
      }
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return this.move(event.deltaX / 800);
      this.zoom(1.0015 ** event.deltaY, this.time(place(event).x, this.layout()));
    }, { passive: false });
  }
}

/** @param {Thing} thing */
function timeOf(thing) {
  if ("datagram" in thing) return thing.datagram.at;
  return "note" in thing ? thing.note.at : thing.span.from;
}

/** Returns the distance of a point from a segment.
 * @param {number} x
 * @param {number} y
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2 */
function toSegment(x, y, x1, y1, x2, y2) {
  const square = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const part = square === 0 ? 0 : Math.min(1, Math.max(0, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / square));
  return Math.hypot(x - x1 - part * (x2 - x1), y - y1 - part * (y2 - y1));
}
