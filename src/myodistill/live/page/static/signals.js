// The scrolling signals. New buckets are drawn once into a ring of pixels, which is then only
// copied to the screen: the cost of a frame does not grow with what is in sight.

import { Buckets } from "./buckets.js";
import { byId, round125, say, short } from "./dom.js";
import { eachFrame } from "./frames.js";
import { drawGutter } from "./gutter.js";
import { colour, onColours, prefersStill } from "./theme.js";

const SLACK = 48; // pixels of the ring that are not in sight
const KEPT = 12; // seconds
const BEHIND = 0.06; // seconds that drawing lags, so that frames that come late do not jolt
const OVERLAP = 4; // rows that a signal may cover where there are many
const LEVELS = 24; // of the heat map
export const MANY = 32; // channels from which a heat map is the easier reading

export class Signals {
  constructor() {
    this.canvas = byId("signals");
    this.ring = document.createElement("canvas");
    this.buckets = null;
    this.unit = "";
    this.quality = [];
    this.style = "lines";
    this.paused = false;
    this.head = 0; // bucket at the right edge
    this.drawn = 0; // buckets before this are in the ring
    this.half = 0; // what half a row stands for, in the unit
    this.stale = true;
    this.seen = 0;
    new ResizeObserver(() => { this.stale = true; }).observe(this.canvas.parentElement);
    onColours(() => { this.stale = true; });
    eachFrame((now) => this.#frame(now));
  }

  hello({ channels, rate, unit }) {
    this.unit = unit;
    const perSecond = Math.min(125, rate);
    if (this.buckets?.channels === channels) return;
    this.buckets = new Buckets(channels, perSecond, Math.ceil(KEPT * perSecond));
    this.quality = [];
    this.half = 0;
    this.stale = true;
    this.canvas.parentElement.style.setProperty("--rows", channels);
    this.#tall();
  }

  take(frame, now) {
    if (!this.buckets || frame.channels !== this.buckets.channels) return;
    if (!this.buckets.take(frame, now)) {
      this.head = this.drawn = this.buckets.begin;
      this.stale = true;
    }
  }

  channels({ quality }) {
    const changed = quality.some((one, index) => one !== this.quality[index]);
    this.quality = quality;
    if (changed && this.size) this.#gutter();
  }

  show(style) {
    this.style = style;
    this.#tall();
    this.stale = true;
  }

  #tall() {
    const tall = this.style === "lines" && this.buckets?.channels > 2 * MANY;
    this.canvas.parentElement.dataset.tall = tall;
  }

  pause(paused) {
    this.paused = paused;
    if (!paused) this.stale = true;
  }

  #frame(now) {
    const passed = Math.min((now - this.seen) / 1000, 0.25);
    this.seen = now;
    if (!this.buckets || this.paused || document.hidden || !this.canvas.offsetParent) return;
    this.#advance(passed);
    this.#rescale(now);
    if (Math.abs(this.buckets.perSecond / this.laidOut - 1) > 0.05) this.stale = true;
    if (this.stale) this.#layout();
    if (!this.size) return;
    this.#drawNew();
    this.#copy();
  }

  #advance(passed) {
    const { end, perSecond, begin } = this.buckets;
    const target = end - BEHIND * perSecond;
    if (Math.abs(target - this.head) > perSecond) this.head = target;
    this.head += passed * perSecond + (target - this.head) * Math.min(1, 3 * passed);
    this.head = Math.max(begin, Math.min(this.head, end));
  }

  #rescale(now) {
    if (now < this.rescaled && this.half) return;
    this.rescaled = now + 1000;
    const { values, channels, end, begin, perSecond } = this.buckets;
    const spans = [];
    const step = Math.max(1, Math.floor(channels / 64));
    for (let index = Math.max(begin, end - Math.floor(4 * perSecond)); index < end; index += 2) {
      const at = this.buckets.at(index);
      for (let channel = 0; channel < channels; channel += step) {
        if (this.quality[channel] && this.quality[channel] !== "good") continue;
        const span = values[at + 2 * channel + 1] - values[at + 2 * channel];
        if (span > 0) spans.push(span);
      }
    }
    if (spans.length < 20) return;
    spans.sort((a, b) => a - b);
    const wanted = 0.75 * spans[Math.floor(0.98 * (spans.length - 1))];
    if (this.half && wanted < 1.5 * this.half && wanted > 0.4 * this.half) return;
    this.half = wanted;
    this.stale = true;
  }

  #layout() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.stale = false;
    const density = Math.min(devicePixelRatio || 1, this.buckets.channels > MANY ? 1 : 2);
    this.size = [Math.round(width * density), Math.round(height * density)];
    [this.canvas.width, this.canvas.height] = this.size;
    this.seconds = Math.max(4, Math.min(10, width / 90));
    this.still = prefersStill();
    this.ring.width = this.size[0] + (this.still ? 0 : SLACK * 2);
    this.ring.height = this.size[1];
    this.density = density;
    this.laidOut = this.buckets.perSecond;
    this.perBucket = this.size[0] / (this.seconds * this.buckets.perSecond);
    this.pen = this.ring.getContext("2d");
    this.screen = this.canvas.getContext("2d");
    this.inks = { good: colour("signal"), bad: colour("signal-bad") };
    this.heats = [...heats(), colour("bad-soft")];
    this.drawn = Math.max(this.buckets.begin, Math.floor(this.head - this.seconds * this.buckets.perSecond));
    this.#gutter();
    this.#scale();
  }

  #gutter() {
    drawGutter(byId("gutter"), this.buckets.channels, this.quality);
  }

  #scale() {
    const half = this.half;
    const many = this.buckets.channels > MANY;
    const ink = this.style === "heat"
      ? `Brightest: ${short(rowSpan(half))} ${this.unit} peak to peak`
      : `Height of ${many ? `${OVERLAP} rows` : "a row"}: ${short(rowSpan(half))} ${this.unit}`;
    say(byId("signal-scale"), half ? ink : "");
    say(byId("signal-span"), `${short(Math.round(this.seconds))} s in sight`);
    if (half) this.half = rowSpan(half) / 2;
  }

  #drawNew() {
    const { end } = this.buckets;
    if (end <= this.drawn) return;
    const width = this.ring.width;
    const [from, to] = [(this.drawn - 1) * this.perBucket, end * this.perBucket];
    this.#clear(this.drawn * this.perBucket, to + SLACK);
    for (let turn = Math.floor(from / width); turn <= Math.floor(to / width); turn += 1) {
      this.pen.setTransform(1, 0, 0, 1, -turn * width, 0);
      if (this.style === "heat") this.#heat(this.drawn, end);
      else this.#lines(this.drawn, end);
    }
    this.pen.setTransform(1, 0, 0, 1, 0, 0);
    this.drawn = end;
  }

  /** Clears ahead of what is drawn, once each pixel: `cleared` is how far. */
  #clear(from, to) {
    const width = this.ring.width;
    let x = Math.floor(Math.max(from, Math.min(this.cleared ?? from, to)));
    if (to - from >= width || !(this.cleared >= from && this.cleared <= from + 2 * SLACK)) x = Math.floor(from);
    const until = Math.ceil(to);
    this.cleared = until;
    if (until - x >= width) {
      this.pen.clearRect(0, 0, width, this.ring.height);
      return;
    }
    for (; x < until;) {
      const at = ((x % width) + width) % width;
      const length = Math.min(until - x, width - at);
      this.pen.clearRect(at, 0, length, this.ring.height);
      x += length;
    }
  }

  #lines(from, to) {
    const { channels } = this.buckets;
    const many = channels > MANY;
    this.pen.globalAlpha = many ? 0.5 : 1; // where they overlap, they darken
    for (const kind of ["good", "bad"]) {
      this.pen.fillStyle = this.pen.strokeStyle = this.inks[kind];
      this.pen.beginPath();
      for (let channel = 0; channel < channels; channel += 1) {
        const good = (this.quality[channel] ?? "good") === "good";
        if (good !== (kind === "good")) continue;
        if (many) this.#bars(channel, from, to);
        else this.#line(channel, from, to);
      }
      this.pen.lineWidth = 1.1 * this.density;
      this.pen.lineJoin = "round";
      if (!many) this.pen.stroke();
    }
    this.pen.globalAlpha = 1;
  }

  #line(channel, from, to) {
    const { values, channels, base, begin } = this.buckets;
    const row = this.size[1] / channels;
    const middle = (channel + 0.5) * row;
    const gain = -row / 2 / (this.half || 1);
    const offset = base[channel];
    let open = false;
    for (let index = Math.max(from - 1, begin); index < to; index += 1) {
      const at = this.buckets.at(index) + 2 * channel;
      const [low, high] = [values[at], values[at + 1]];
      if (Number.isNaN(low)) {
        open = false;
        continue;
      }
      const x = index * this.perBucket;
      const [a, b] = index % 2 ? [low, high] : [high, low]; // up, then down: a line without steps
      if (open) this.pen.lineTo(x, middle + (a - offset) * gain);
      else this.pen.moveTo(x, middle + (a - offset) * gain);
      this.pen.lineTo(x + this.perBucket / 2, middle + (b - offset) * gain);
      open = true;
    }
  }

  #bars(channel, from, to) {
    const { values, channels, base } = this.buckets;
    const row = this.size[1] / channels;
    const middle = (channel + 0.5) * row;
    const gain = (OVERLAP * row) / 2 / (this.half || 1);
    const offset = base[channel];
    for (let index = from; index < to; index += 1) {
      const at = this.buckets.at(index) + 2 * channel;
      const top = Math.round(middle - (values[at + 1] - offset) * gain);
      const height = Math.round((values[at + 1] - values[at]) * gain);
      if (!(height >= 0)) continue;
      const left = Math.round(index * this.perBucket); // whole pixels are filled much faster
      this.pen.fillRect(left, top, Math.round((index + 1) * this.perBucket) - left, height || 1);
    }
  }

  #heat(from, to) {
    const { values, channels } = this.buckets;
    const row = this.size[1] / channels;
    const scale = (LEVELS - 1) / (2 * this.half || 1);
    const paths = new Map();
    for (let index = from; index < to; index += 1) {
      const left = Math.round(index * this.perBucket);
      const wide = Math.round((index + 1) * this.perBucket) - left;
      for (let channel = 0; channel < channels && wide; channel += 1) {
        const at = this.buckets.at(index) + 2 * channel;
        const span = values[at + 1] - values[at];
        if (!(span >= 0)) continue;
        const bad = (this.quality[channel] ?? "good") !== "good";
        const level = bad ? LEVELS : Math.min(LEVELS - 1, Math.floor(span * scale));
        const top = Math.round(channel * row);
        let path = paths.get(level);
        if (!path) paths.set(level, path = []);
        path.push(left, top, wide, Math.round((channel + 1) * row) - top);
      }
    }
    for (const [level, path] of paths) {
      this.pen.fillStyle = this.heats[level];
      for (let at = 0; at < path.length; at += 4) {
        this.pen.fillRect(path[at], path[at + 1], path[at + 2], path[at + 3]);
      }
    }
  }

  #copy() {
    const [width, height] = this.size;
    const ring = this.ring.width;
    const right = Math.floor(this.head * this.perBucket);
    const left = right - width;
    const at = ((left % ring) + ring) % ring;
    const first = Math.min(width, ring - at);
    this.screen.clearRect(0, 0, width, height);
    if (this.still) { // the newest replaces the oldest where it is
      this.screen.drawImage(this.ring, 0, 0);
      return;
    }
    this.screen.drawImage(this.ring, at, 0, first, height, 0, 0, first, height);
    if (first < width) {
      this.screen.drawImage(this.ring, 0, 0, width - first, height, first, 0, width - first, height);
    }
  }
}

/** A round number near what a row spans. */
const rowSpan = (half) => round125(2.4 * half || 1);

/** Colours of the heat map, from none to all. */
function heats() {
  const [low, high] = [colour("heat-low"), colour("heat-high")].map((text) =>
    text.match(/[\d.]+/g).slice(0, 3).map(Number));
  return Array.from({ length: LEVELS }, (_, level) => {
    const share = Math.sqrt(level / (LEVELS - 1));
    const mixed = low.map((from, part) => Math.round(from + share * (high[part] - from)));
    return `rgb(${mixed.join(",")})`;
  });
}
