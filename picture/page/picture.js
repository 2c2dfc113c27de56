// Starts the page of a picture: reads its data, and connects the controls.

/** Returns the picture in the page.
 * @returns {Promise<Picture>} */
async function readPicture() {
  const packed = atob((byId("data").textContent ?? "").trim());
  const bytes = new Uint8Array(packed.length);
  for (let n = 0; n < packed.length; n++) bytes[n] = packed.charCodeAt(n);
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unpacked).json();
}

/** The page. */
class Page {
  /** @param {Picture} picture */
  constructor(picture) {
    this.picture = picture;
    this.model = new Model(picture);
    this.diagram = new Diagram(byId("canvas"), this.model, (thing) => this.choose(thing));
    this.speed = 1;
    this.plays = false;
    byId("canvas").setAttribute("aria-label", `${picture.nodes.length} nodes, ${picture.datagrams.length} datagrams, `
      + `${picture.notes.length} events in ${pause(picture.ends_at)}. The events are in the list beside this.`);
    this.choose(null);
    this.buttons();
    this.filters();
    this.list();
    showLegend(byId("legend"));
    this.about();
    this.diagram.show(0, picture.ends_at);
  }

  /** @param {Thing | null} thing */
  choose(thing) {
    showDetail(byId("detail"), thing);
    for (const button of byId("notes").querySelectorAll("button")) {
      const note = this.picture.notes[Number(button.dataset["note"])];
      button.setAttribute("aria-current", String(thing !== null && "note" in thing && thing.note === note));
    }
  }

  /** Shows and selects a thing.
   * @param {Thing | undefined} thing */
  go(thing) {
    if (!thing) return;
    this.diagram.reveal(thing);
    this.choose(thing);
  }

  /** Goes to the next event, or the one before.
   * @param {1 | -1} step */
  event(step) {
    const { selected, from } = this.diagram;
    const notes = this.shownNotes();
    const at = selected ? timeOf(selected) : Math.max(from, this.diagram.playhead ?? from);
    const here = selected && "note" in selected ? notes.indexOf(selected.note) : -1;
    const after = firstFrom(notes, (note) => note.at, step > 0 ? at + 1 : at);
    const next = here >= 0 ? here + step : step > 0 ? after : after - 1;
    const note = notes[next];
    if (note) this.go({ note });
  }

  /** Goes to the next datagram that is drawn, or the one before.
   * @param {1 | -1} step */
  step(step) {
    const { datagrams } = this.picture;
    const { selected, from } = this.diagram;
    let n = selected && "datagram" in selected
      ? datagrams.indexOf(selected.datagram)
      : firstFrom(datagrams, (datagram) => datagram.at, selected ? timeOf(selected) : from) - (step > 0 ? 1 : 0);
    for (n += step; n >= 0 && n < datagrams.length; n += step) {
      const datagram = /** @type {Datagram} */ (datagrams[n]);
      if (this.diagram.isShown(datagram)) return this.go({ datagram });
    }
  }

  shownNotes() {
    const { hiddenNotes, hiddenNodes } = this.diagram;
    return this.picture.notes.filter((note) => !hiddenNotes.has(note.kind)
      && (note.node === null || !hiddenNodes.has(note.node)));
  }

  play() {
    const { diagram } = this;
    this.plays = !this.plays;
    byId("play").textContent = this.plays ? "Pause" : "Play";
    if (!this.plays) return;
    if (diagram.playhead === null || diagram.playhead >= this.picture.ends_at) {
      diagram.playhead = this.diagram.selected ? timeOf(this.diagram.selected) : Math.max(0, diagram.from);
    }
    let last = performance.now();
    const frame = (/** @type {number} */ now) => {
      if (!this.plays) return;
      const at = (diagram.playhead ?? 0) + (now - last) * 1000 * this.speed;
      last = now;
      diagram.playhead = Math.min(at, this.picture.ends_at);
      const view = diagram.until - diagram.from;
      if (diagram.playhead > diagram.until - view * 0.1) {
        diagram.show(diagram.playhead - view * 0.1, diagram.playhead + view * 0.9);
      }
      diagram.redraw();
      if (diagram.playhead >= this.picture.ends_at) return this.play();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  buttons() {
    const { diagram } = this;
    const speeds = [1, 0.1, 0.01, 0.001];
    const names = ["real time", "1/10", "1/100", "1/1000"];
    const select = /** @type {HTMLSelectElement} */ (byId("speed"));
    speeds.forEach((speed, n) => select.append(new Option(names[n], String(speed))));
    select.value = "0.1";
    this.speed = 0.1;
    select.addEventListener("change", () => { this.speed = Number(select.value); });
    const theme = () => changeTheme(diagram);
    if (matchMedia("(prefers-color-scheme: dark)").matches) theme();
    /** @type {Record<string, () => void>} */
    const keys = {
      " ": () => this.play(), n: () => this.event(1), p: () => this.event(-1), j: () => this.step(1),
      k: () => this.step(-1), "+": () => diagram.zoom(1 / 1.5), "=": () => diagram.zoom(1 / 1.5),
      "-": () => diagram.zoom(1.5), 0: () => diagram.show(0, this.picture.ends_at), t: theme, "?": toggleHelp,
      ArrowLeft: () => diagram.move(-0.2), ArrowRight: () => diagram.move(0.2),
      Home: () => diagram.show(0, diagram.until - diagram.from),
      End: () => diagram.show(this.picture.ends_at - (diagram.until - diagram.from), this.picture.ends_at),
      Escape: () => { diagram.selected = null; this.choose(null); diagram.redraw(); },
    };
    const presses = { play: " ", back: "p", forth: "n", in: "+", out: "-", fit: "0", theme: "t", keys: "?" };
    for (const [id, key] of Object.entries(presses)) byId(id).addEventListener("click", () => keys[key]?.());
    document.addEventListener("keydown", (event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      const types = target.matches("select") || (target.matches("button, input") && event.key === " ");
      const action = event.ctrlKey || event.metaKey || event.altKey || types ? undefined : keys[event.key];
      if (action) {
        event.preventDefault();
        action();
      }
    });
  }

  filters() {
    /** @template T
     * @param {HTMLElement} bar
     * @param {T} value
     * @param {string} name
     * @param {Set<T>} hidden
     * @param {boolean} [off] */
    const filter = (bar, value, name, hidden, off = false) => {
      const box = /** @type {HTMLInputElement} */ (element("input", { type: "checkbox" }));
      box.checked = !off;
      if (off) hidden.add(value);
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(value);
        else hidden.add(value);
        this.diagram.fit();
        this.diagram.redraw();
        this.list();
      });
      bar.append(element("label", {}, box, ` ${name}`));
    };
    const { datagrams, nodes, notes } = this.picture;
    const kinds = new Set(datagrams.map(({ kind }) => kind));
    for (const [kind, name] of Object.entries(KINDS)) {
      if (kinds.has(kind)) filter(byId("kinds"), kind, name, this.diagram.hiddenKinds);
    }
    for (const { id, name } of nodes) filter(byId("nodes"), id, name, this.diagram.hiddenNodes);
    for (const kind of new Set(notes.map(({ kind }) => kind))) {
      filter(byId("noteKinds"), kind, kind === "dc" ? "DC" : kind, this.diagram.hiddenNotes, kind === "message");
    }
  }

  list() {
    const most = 500;
    const shown = this.shownNotes();
    // A violation comes first, because all else is about it.
    const notes = [...shown.filter(({ kind }) => kind === "violation"), ...shown.filter(({ kind }) => kind !== "violation")];
    const numbers = new Map(this.picture.notes.map((note, number) => [note, number]));
    const items = notes.slice(0, most).map((note) => {
      const node = note.node === null ? "" : `node ${note.node}: `;
      const said = note.text.startsWith("node ") ? "" : node;
      const button = element("button", { "data-note": String(numbers.get(note)) },
        element("time", {}, clock(note.at, this.picture.ends_at / 10)), `${said}${note.text}`);
      button.addEventListener("click", () => this.go({ note }));
      return element("li", {}, button);
    });
    if (notes.length > most) items.push(element("li", {}, `and ${notes.length - most} more, in the diagram`));
    byId("notes").replaceChildren(...items);
  }

  about() {
    const about = byId("about");
    for (const [name, text] of this.picture.about) {
      about.append(element("h2", {}, name), text.includes("\n") ? element("pre", {}, text) : element("p", {}, text));
    }
  }
}

readPicture().then((picture) => {
  Object.assign(window, { page: new Page(picture) });
}).catch((error) => {
  const text = `The data of this page cannot be shown: ${error}`;
  showDetail(byId("detail"), { note: { at: 0, node: null, kind: "violation", text } });
});
