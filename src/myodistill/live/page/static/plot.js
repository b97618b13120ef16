// A chart with axes, by uPlot, in the colours of the page.

import uPlot from "./vendor/uPlot.esm.js";
import { colour, onColours } from "./theme.js";

export class Plot {
  /** `series`: {label, ink, dash}; `band`: fill between the two; `fill`: series that is filled. */
  constructor(place, options) {
    this.place = place;
    this.options = options;
    this.data = null;
    onColours(() => this.#make());
    new ResizeObserver(() => this.#resize()).observe(place);
  }

  show(data, range) {
    this.data = data;
    this.range = range;
    if (!this.place.offsetParent) return;
    if (!this.plot) this.#make();
    else this.plot.setData(data);
  }

  #resize() {
    const width = this.place.clientWidth;
    if (!width) return;
    if (!this.plot) this.#make();
    else if (width !== this.plot.width) this.plot.setSize({ width, height: this.options.height });
  }

  #make() {
    this.plot?.destroy();
    this.plot = null;
    const width = this.place.clientWidth;
    if (!this.data || !width) return;
    const { height, unit, series, band, fill } = this.options;
    const font = `11px ${getComputedStyle(this.place).fontFamily}`;
    const axis = {
      font, stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
    };
    this.plot = new uPlot({
      width, height, legend: { show: false }, cursor: { show: false }, padding: [6, 16, 0, 0],
      scales: {
        x: { time: false, range: () => this.range },
        y: { range: band ? undefined : (_, low, high) => [0, Math.max(1, 1.15 * (high ?? 0))] },
      },
      axes: [
        { ...axis, size: 26, gap: 8, space: 74, values: (_, ticks) => ticks.map((tick) => (tick ? `${tick} s`.replace("-", "−") : "now")) },
        { ...axis, size: 58, gap: 4, space: 28, values: (_, ticks) => ticks.map((tick) => `${tick} ${unit}`.replace("-", "−")) },
      ],
      series: [{}, ...series.map(({ label, ink, dash }, index) => ({
        label, dash, stroke: colour(ink), width: 1.5, points: { show: false },
        fill: fill === index + 1 ? colour("accent-soft") : undefined,
      }))],
      bands: band ? [{ series: [2, 1], fill: colour("signal") }] : [],
    }, this.data, this.place);
  }
}
