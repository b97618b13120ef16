// Name, source, state, counters, and the delay of the last two minutes.

import { byId, make, mark, number, say } from "./dom.js";
import { Plot } from "./plot.js";

const STATES = {
  connecting: "Connecting", lost: "Disconnected", waiting: "Waiting", streaming: "Streaming",
  silent: "Silent", ended: "Ended",
};
const FIELDS = [
  ["decisions", "Decisions"], ["abstained", "Abstained"], ["delay", "Delay, median"],
  ["late", "Delay, 99th percentile"], ["rate", "Rate"], ["gaps", "Gaps"],
  ["lost", "Lost samples"], ["other", "Doubled, late, broken"], ["skipped", "Not sent to this page"],
];
const TOP = [["decisions", "Decisions"], ["delay", "Delay"], ["late", "p99"], ["gaps", "Gaps"], ["lost", "Lost"]];
const KEPT = 240; // counters of two minutes

export class Status {
  constructor() {
    this.cells = new Map(FIELDS.map(([key, title]) => {
      const value = make("dd", {}, "–");
      byId("counters").append(make("div", {}, make("dt", {}, title), value));
      return [key, value];
    }));
    this.top = new Map(TOP.map(([key, title]) => {
      const value = make("b", {}, "–");
      byId("top-counters").append(make("span", {}, `${title} `, value));
      return [key, value];
    }));
    this.delays = [[], [], []]; // seconds ago, median, 99th percentile
    this.plot = new Plot(byId("delay-plot"), {
      height: 132, unit: "ms", fill: 1,
      series: [{ label: "median", ink: "accent" }, { label: "99th percentile", ink: "warn", dash: [4, 3] }],
    });
    this.state("connecting");
  }

  hello({ name, source, rate, channels, mode }) {
    if (this.shown === "connecting" || this.shown === "lost") this.state("waiting");
    say(byId("name"), name);
    say(byId("source"), `${source} · ${channels} channels at ${number(rate)} Hz`);
    byId("source").title = byId("source").textContent;
    document.title = `${name} – MyoDistill live`;
    mark(document.body, "data-mode", mode);
  }

  state(state) {
    this.shown = state;
    mark(byId("state"), "data-state", state);
    say(byId("state"), STATES[state]);
  }

  counters(message) {
    this.state(message.state);
    const { delay_ms: delay, rate } = message;
    const other = ["duplicated", "late", "broken", "refused"]
      .reduce((sum, key) => sum + (message[key] ?? 0), 0);
    const texts = {
      decisions: number(message.decisions), abstained: number(message.abstained),
      delay: milliseconds(delay?.median), late: milliseconds(delay?.p99),
      rate: rate == null ? "–" : `${number(rate, 1)} Hz`,
      gaps: number(message.gaps), lost: number(message.lost), other: number(other),
      skipped: number(message.skipped ?? 0),
    };
    for (const [key, text] of Object.entries(texts)) say(this.cells.get(key), text);
    for (const [key, value] of this.top) say(value, texts[key]);
    const troubled = { gaps: message.gaps, lost: message.lost, other, skipped: message.skipped };
    for (const [key, count] of Object.entries(troubled)) {
      mark(this.cells.get(key), "data-trouble", count > 0);
      if (this.top.has(key)) mark(this.top.get(key).parentElement, "data-trouble", count > 0);
    }
    this.#delay(delay);
  }

  #delay(delay) {
    const [ago, median, late] = this.delays;
    median.push(delay?.median ?? null);
    late.push(delay?.p99 ?? null);
    for (const list of [median, late]) if (list.length > KEPT) list.shift();
    ago.length = 0;
    for (let index = 0; index < median.length; index += 1) ago.push((index + 1 - median.length) / 2);
    this.plot.show([ago, median, late], [-120, 0]);
  }
}

function milliseconds(value) {
  return value == null ? "–" : `${number(value, value < 10 ? 1 : 0)} ms`;
}
