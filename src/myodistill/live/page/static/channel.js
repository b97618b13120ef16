// One channel with its axes, instead of all.

import { byId, make } from "./dom.js";
import { atMost } from "./frames.js";
import { Plot } from "./plot.js";

const SECONDS = 4;

export class OneChannel {
  constructor(signals) {
    this.signals = signals;
    this.select = byId("signal-view");
    this.plot = null;
    this.select.addEventListener("change", () => this.#switch());
    atMost(30, () => this.#paint());
  }

  hello({ channels, unit }) {
    if (this.select.options.length === channels + 1 && unit === this.unit) return;
    this.unit = unit;
    this.select.replaceChildren(make("option", { value: "all" }, "all channels"),
      ...Array.from({ length: channels }, (_, index) =>
        make("option", { value: index }, `channel ${index + 1}`)));
    byId("signal-one").replaceChildren();
    this.plot = new Plot(byId("signal-one"), {
      height: 330, unit, band: true,
      series: [{ label: "least", ink: "signal" }, { label: "greatest", ink: "signal" }],
    });
    this.#switch();
  }

  get channel() {
    return this.select.value === "all" ? null : Number(this.select.value);
  }

  #switch() {
    const one = this.channel !== null;
    byId("signal-one").hidden = !one;
    byId("signal-all").hidden = one;
    byId("style-label").hidden = one;
    byId("signal-scale").hidden = byId("signal-span").hidden = one;
    byId("signal-one").setAttribute("aria-label", `Signal of ${this.select.selectedOptions[0].text}`);
  }

  #paint() {
    const { buckets, paused } = this.signals;
    if (this.channel === null || !buckets || paused) return;
    const count = Math.round(SECONDS * buckets.perSecond);
    const [ago, low, high] = [[], [], []];
    for (let index = buckets.end - count; index < buckets.end; index += 1) {
      const known = index >= buckets.begin;
      const at = known ? buckets.at(index) + 2 * this.channel : 0;
      const value = (part) => (known && Number.isFinite(buckets.values[at + part]) ? buckets.values[at + part] : null);
      ago.push((index + 1 - buckets.end) / buckets.perSecond);
      low.push(value(0));
      high.push(value(1));
    }
    this.plot.show([ago, low, high], [-SECONDS, 0]);
  }
}
