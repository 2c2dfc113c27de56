// The data of a picture, and how to find things in it. Times are microseconds.

// The fields of a datagram are JSON of their own, which is read when it is shown.

/**
 * @typedef {{ node: number, at: number | null, lost: string | null }} Arrival
 * @typedef {{ at: number, from: number | null, kind: string, again: boolean, why: string,
 *   fields: string, to: Arrival[], number?: number }} Datagram
 * @typedef {{ node: number, from: number, until: number, band: "ring" | "quorum" | "dc",
 *   state: string | boolean, text: string }} Span
 * @typedef {{ at: number, node: number | null, kind: string, text: string }} Note
 * @typedef {{ id: number, name: string }} PictureNode
 * @typedef {{ title: string, about: [string, string][], nodes: PictureNode[], ends_at: number,
 *   datagrams: Datagram[], spans: Span[], notes: Note[] }} Picture
 * @typedef {{ now: number, first: number, datagrams: Datagram[], late: [number, Arrival][], since: number,
 *   spans: Span[], notes: Note[] }} News
 * @typedef {{ datagram: Datagram } | { note: Note } | { span: Span }} Thing
 */

/** What a node knows of the DC, by the state of its band. @type {Record<string, string>} */
const DC = {
  named: "is the DC in name only, because there is no quorum",
  waits: "is the DC, and may not act: earlier leases may still run, its own is not renewed, or it gives up the role",
  acts: "is the DC, and may act: its lease runs",
};

/** What each kind of datagram is called, in the order of the legend. */
const KINDS = /** @type {const} */ ({
  token: "token",
  multicast: "message",
  join: "JOIN",
  leave: "LEAVE",
  commit: "commit token",
  "merge-detect": "merge detect",
  "hold-cancel": "hold cancel",
  refused: "malformed",
});

/** What each state of the protocol means. */
const STATES = /** @type {const} */ ({
  operational: "operational: delivers messages in a ring",
  gather: "gather: agrees with others on the members",
  commit: "commit: the members of a new ring get to know what each has",
  recovery: "recovery: they send each other what is missing",
  paused: "paused: the process does not run for a while",
  down: "down: not started, ended, or has left",
});

/**
 * Returns the index of the first element whose time is at least `at`.
 * @template T
 * @param {readonly T[]} sorted
 * @param {(element: T) => number} time
 * @param {number} at
 */
function firstFrom(sorted, time, at) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time(/** @type {T} */ (sorted[middle])) < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A picture with indexes. */
class Model {
  /** @param {Picture} picture */
  constructor(picture) {
    this.picture = picture;
    /** Whether more is to come, so that a datagram without a known arrival is under way. */
    this.runs = false;
    /** The longest flight of a datagram. @type {number} */
    this.longest = 0;
    /** @type {Datagram[]} */
    this.tokens = [];
    /** The rings of tokens, and their numbers there, as far as they have been read.
     * @type {WeakMap<Datagram, { ring: string, hop: number }>} */
    this.hops = new WeakMap();
    for (const datagram of picture.datagrams) this.index(datagram);
    /** @type {Map<number, Span[]>} */
    this.spansOf = new Map(picture.nodes.map(({ id }) => [id, []]));
    for (const span of picture.spans) this.spansOf.get(span.node)?.push(span);
    for (const spans of this.spansOf.values()) spans.sort((a, b) => a.from - b.from);
  }

  /** @param {Datagram} datagram */
  index(datagram) {
    for (const arrival of datagram.to) this.arrives(datagram, arrival);
    if (datagram.kind === "token") this.tokens.push(datagram);
  }

  /** @param {Datagram} token */
  hop(token) {
    const known = this.hops.get(token);
    if (known) return known;
    const { ring, token_seq: hop } = JSON.parse(token.fields);
    this.hops.set(token, { ring, hop });
    return { ring, hop };
  }

  /** @param {Datagram} datagram
   * @param {Arrival} arrival */
  arrives(datagram, { at }) {
    if (at !== null) this.longest = Math.max(this.longest, at - datagram.at);
  }

  /** The most datagrams, and the most events, that are kept of a live run. */
  static KEPT = 40_000;

  /** Adds what has happened since.
   * @param {News} news */
  append(news) {
    const { datagrams, notes } = this.picture;
    this.runs = true;
    this.picture.ends_at = news.now;
    news.datagrams.forEach((datagram, n) => {
      datagrams.push(Object.assign(datagram, { number: news.first + n }));
      this.index(datagram);
    });
    for (const [number, arrival] of news.late) {
      const datagram = datagrams[firstFrom(datagrams, (one) => one.number ?? 0, number)];
      if (datagram?.number !== number) continue;
      const expected = datagram.to.find(({ node, at }) => node === arrival.node && at === null);
      if (expected) Object.assign(expected, arrival);
      else datagram.to.push(arrival);
      this.arrives(datagram, arrival);
    }
    // An event may become known later than others.
    for (const note of news.notes) notes.splice(firstFrom(notes, ({ at }) => at, note.at + 1), 0, note);
    for (const [node, spans] of this.spansOf) {
      const kept = spans.filter(({ until }) => until < news.since);
      const told = news.spans.filter((span) => span.node === node);
      this.spansOf.set(node, [...kept, ...told].sort((a, b) => a.from - b.from));
    }
    this.forget();
  }

  /** Keeps the picture of a live run small. */
  forget() {
    const { datagrams, notes } = this.picture;
    if (notes.length > Model.KEPT) notes.splice(0, notes.length - Model.KEPT / 2);
    if (datagrams.length <= Model.KEPT) return;
    datagrams.splice(0, datagrams.length - Model.KEPT / 2);
    const oldest = datagrams[0]?.at ?? 0;
    this.tokens = this.tokens.filter(({ at }) => at >= oldest);
    for (const [node, spans] of this.spansOf) this.spansOf.set(node, spans.filter(({ until }) => until >= oldest));
  }

  /** Returns the range of datagrams that are under way in this time.
   * @param {number} from
   * @param {number} until
   * @returns {[number, number]} */
  underWay(from, until) {
    const time = (/** @type {Datagram} */ datagram) => datagram.at;
    return [firstFrom(this.picture.datagrams, time, from - this.longest), firstFrom(this.picture.datagrams, time, until)];
  }

  /** Returns what is true of a node at a time, in one band.
   * @param {number} node
   * @param {Span["band"]} band
   * @param {number} at */
  spanAt(node, band, at) {
    return this.spansOf.get(node)?.find((span) => span.band === band && span.from <= at && at < span.until);
  }

  /** Returns where tokens are at a time: at a node, or under way between two.
   * @param {number} at
   * @returns {{ from: number, to: number, part: number, token: Datagram }[]} */
  tokensAt(at) {
    /** The newest token of each ring, in all its copies. @type {Map<string, { hop: number, copies: Datagram[] }>} */
    const rings = new Map();
    /** Nodes that have taken part in a newer token. @type {Set<number>} */
    const busy = new Set();
    const end = firstFrom(this.tokens, (token) => token.at, at + 1);
    for (let n = end - 1; n >= 0 && n > end - 2000; n--) {
      const token = /** @type {Datagram} */ (this.tokens[n]);
      const { ring, hop } = this.hop(token);
      const known = rings.get(ring);
      const to = token.to[0];
      if (token.from === null || !to) continue;
      if (known) {
        if (known.hop === hop) known.copies.push(token);
      } else if (!busy.has(token.from)) {
        rings.set(ring, { hop, copies: [token] });
      }
      busy.add(token.from).add(to.node);
      if (busy.size >= this.picture.nodes.length && known && known.hop !== hop) break;
    }
    const places = [];
    for (const { copies } of rings.values()) {
      // The first copy that arrives counts.
      const arriving = copies.filter((token) => token.to[0]?.lost === null).pop();
      const token = arriving ?? copies[0];
      const to = token?.to[0];
      if (!token || !to || token.from === null) continue;
      const arrives = to.at ?? (this.runs ? Infinity : token.at);
      if (to.lost !== null && arrives <= at) continue;
      const part = arrives === Infinity ? 0.5 : arrives > at ? (at - token.at) / Math.max(1, arrives - token.at) : 1;
      const ring = this.spanAt(part < 1 ? token.from : to.node, "ring", at);
      // A node in recovery has given up the ring of an older token.
      const isOld = ring?.state === "recovery" && token.at < ring.from;
      if (!ring || (["operational", "recovery", "paused"].includes(String(ring.state)) && !isOld)) {
        places.push({ from: token.from, to: to.node, part, token });
      }
    }
    return places;
  }
}

/** Returns a time as text, with as many digits as matter in a view of this length.
 * @param {number} at
 * @param {number} view */
function clock(at, view) {
  const digits = view > 5e6 ? 1 : view > 5e5 ? 2 : view > 5e4 ? 3 : view > 5e3 ? 4 : 6;
  return `${(at / 1e6).toFixed(digits)} s`;
}

/** Returns the pause between two moments as text.
 * @param {number} micros */
function pause(micros) {
  if (micros < 1000) return `${Math.round(micros)} µs`;
  if (micros < 1e6) return `${(micros / 1000).toFixed(micros < 1e4 ? 2 : 1)} ms`;
  return `${(micros / 1e6).toFixed(3)} s`;
}
