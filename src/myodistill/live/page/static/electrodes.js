// Strength and quality of each electrode: a ring around the arm, or a grid; and a table.

import { byId, draw, make, mark, say, short } from "./dom.js";
import { atMost } from "./frames.js";
import { QUALITY, summary } from "./quality.js";

const point = (angle, radius) => [100 + radius * Math.sin(angle), 100 - radius * Math.cos(angle)];

export class ElectrodeMap {
  constructor() {
    this.marks = [];
    this.peak = 0;
    this.newest = null;
    byId("legend").append(...Object.values(QUALITY).map(({ mark: sign, word }) =>
      make("li", { "data-quality": word }, make("b", { "aria-hidden": "true" }, sign), ` ${word}`)));
    byId("electrode-details").addEventListener("toggle", () => this.#table());
    atMost(5, () => this.#paint());
    atMost(1, () => this.#table());
  }

  hello({ channels, layout, unit }) {
    const key = `${channels} ${layout.kind} ${layout.rows} ${layout.columns}`;
    this.unit = unit;
    if (key === this.key) return;
    this.key = key;
    const grid = layout.kind === "grid";
    this.marks = [];
    byId("electrode-map").replaceChildren(grid ? this.#grid(channels, layout) : this.#ring(channels));
    this.rows = Array.from({ length: channels }, (_, index) => {
      const cells = [make("td"), make("td")];
      return { cells, row: make("tr", {}, make("th", { scope: "row" }, String(index + 1)), ...cells) };
    });
    byId("electrode-table").replaceChildren(...this.rows.map(({ row }) => row));
    this.peak = 0;
  }

  take(message) {
    if (message.rms.length !== this.marks.length) return;
    if (message.quality.length !== this.marks.length) return;
    this.newest = message;
    this.fresh = true;
  }

  #paint() {
    if (!this.fresh || !byId("electrode-map").offsetParent) return;
    this.fresh = false;
    const { rms, quality } = this.newest;
    const sound = rms.filter((value, index) => value !== null && quality[index] === "good");
    this.peak = Math.max(this.peak * 0.985, ...sound, 0);
    this.marks.forEach((set, index) => {
      set(Math.min(1, (rms[index] ?? 0) / (this.peak || 1)), quality[index]);
    });
    say(byId("electrode-summary"), summary(quality));
    mark(byId("electrode-summary"), "data-ok", quality.every((one) => one === "good"));
    say(byId("electrode-scale"), `${short(Number(this.peak.toPrecision(2)))} ${this.unit} RMS`);
  }

  #table() {
    if (!byId("electrode-details").open || !this.newest) return;
    this.rows.forEach(({ cells: [strength, quality], row }, index) => {
      const { mark: sign, word, advice } = QUALITY[this.newest.quality[index]];
      say(strength, `${short(this.newest.rms[index] ?? NaN)} ${this.unit}`);
      say(quality, advice ? `${sign} ${word}: ${advice}` : `${sign} ${word}`);
      mark(row, "data-quality", word);
    });
  }

  #ring(channels) {
    const svg = draw("svg", { viewBox: "-12 -12 224 224", class: "map ring", "aria-hidden": "true" });
    const wide = (2 * Math.PI) / channels;
    svg.append(draw("circle", { cx: 100, cy: 100, r: 82, class: "skin" }),
      draw("circle", { cx: 100, cy: 100, r: 26, class: "bone" }));
    for (let channel = 0; channel < channels; channel += 1) {
      const angle = channel * wide;
      const [low, high] = [angle - wide * 0.42, angle + wide * 0.42];
      const back = draw("path", { d: sector(low, high, 28, 80), class: "track" });
      const bar = draw("path", { class: "bar" });
      const [x, y] = point(angle, 97);
      const name = draw("text", { x, y, class: "name" });
      svg.append(back, bar, name);
      this.marks.push((value, quality) => {
        bar.setAttribute("d", sector(low, high, 28, 28 + 52 * Math.max(0.02, value)));
        bar.style.setProperty("--share", `${Math.round(100 * value)}%`);
        mark(bar, "data-quality", quality);
        mark(name, "data-quality", quality);
        mark(back, "data-quality", quality);
        say(name, quality === "good" ? `${channel + 1}` : `${channel + 1}${QUALITY[quality].mark}`);
      });
    }
    return svg;
  }

  #grid(channels, { rows, columns }) {
    const svg = draw("svg", {
      viewBox: `0 0 ${columns * 10} ${rows * 10}`, class: "map grid", "aria-hidden": "true",
    });
    svg.style.setProperty("--shape", `${columns} / ${rows}`);
    for (let channel = 0; channel < channels; channel += 1) {
      const [x, y] = [(channel % columns) * 10, Math.floor(channel / columns) * 10];
      const cell = draw("rect", { x: x + 0.4, y: y + 0.4, width: 9.2, height: 9.2, rx: 1.6, class: "cell" });
      const sign = draw("text", { x: x + 5, y: y + 5.2, class: "sign" });
      svg.append(cell, sign);
      let last = -1;
      this.marks.push((value, quality) => {
        const share = Math.round(20 * Math.sqrt(value)) * 5;
        if (share !== last) cell.style.setProperty("--share", `${share}%`);
        last = share;
        mark(cell, "data-quality", quality);
        say(sign, quality === "good" ? "" : QUALITY[quality].mark);
      });
    }
    return svg;
  }
}

function sector(low, high, inner, outer) {
  const at = (angle, radius) => point(angle, radius).map((value) => value.toFixed(1)).join(" ");
  const large = high - low > Math.PI ? 1 : 0;
  return `M${at(low, inner)} L${at(low, outer)} A${outer} ${outer} 0 ${large} 1 ${at(high, outer)}`
    + ` L${at(high, inner)} A${inner} ${inner} 0 ${large} 0 ${at(low, inner)} Z`;
}
