// The gesture decided now, the probability of each, and what was decided in the last 30 seconds.

import { byId, make, mark, say } from "./dom.js";
import { atMost } from "./frames.js";
import { hand } from "./hands.js";
import { speak } from "./spoken.js";
import { colour, onColours } from "./theme.js";

const HISTORY = 30; // seconds
const STALE = 1500; // milliseconds after which a decision is no longer of now
const percent = (value) => `${Math.round(100 * value)}\u00a0%`;
const below = (value) => `${Math.floor(100 * value + 1e-9)}\u00a0%`; // never the threshold itself

export class Gestures {
  constructor() {
    this.names = [];
    this.rows = [];
    this.runs = []; // {from, to, label}: the same decision without a break
    this.newest = null;
    this.threshold = 0;
    this.canvas = byId("history");
    onColours(() => { this.stale = true; });
    new ResizeObserver(() => { this.stale = true; }).observe(this.canvas);
    atMost(20, (now) => this.#paint(now));
  }

  hello({ gestures, threshold, mode }) {
    if (!this.newest) say(byId("now-why"), mode === "calibrate" ? "No decoder yet: calibrate first" : "No decision yet");
    this.threshold = threshold ?? 0;
    byId("now-threshold").style.setProperty("--at", this.threshold);
    if (gestures.join("\n") === this.names.join("\n") && this.rows.length) return;
    this.names = gestures;
    this.runs = [];
    this.newest = null;
    this.rows = [...gestures, "withheld"].map((name, index) => {
      const bar = make("i");
      const value = make("span", { class: "value" });
      const row = make("li", { class: index === gestures.length ? "withheld" : "" },
        make("span", { class: "name", title: name }, name),
        make("span", { class: "bar", "aria-hidden": "true" }, bar), value);
      return { row, bar, value };
    });
    byId("gesture-rows").replaceChildren(...this.rows.map(({ row }) => row));
    mark(byId("gesture-rows").parentElement, "data-many", gestures.length > 14);
    this.stale = true;
  }

  take(decision, now) {
    this.newest = decision;
    this.arrived = now;
    this.fresh = true;
    const label = decision.abstained ? -2 : decision.gesture === null ? -1 : decision.label;
    const last = this.runs.at(-1);
    const { seconds } = decision;
    if (last && seconds < last.to) this.runs = [];
    const joined = last && seconds >= last.to && seconds - last.to < 1;
    if (joined) last.to = seconds;
    if (!joined || last.label !== label) this.runs.push({ from: seconds, to: seconds, label });
    while (this.runs.length && this.runs[0].to < seconds - HISTORY - 1) this.runs.shift();
    speak(decision.abstained ? "No decision: samples are missing or unusable"
      : decision.gesture ?? "Withheld", now);
  }

  #paint(now) {
    if (!this.newest) return;
    const old = now - this.arrived > STALE;
    if (old !== this.old) this.fresh = true;
    this.old = old;
    if (!this.canvas.offsetParent) return;
    if (this.fresh) this.#now(old);
    this.fresh = false;
    if (!old || this.stale) this.#history(now);
    this.stale = false;
  }

  #now(old) {
    const { gesture, abstained, probabilities, confidence } = this.newest;
    const state = old ? "old" : abstained ? "abstained" : gesture === null ? "withheld" : "decided";
    mark(byId("now"), "data-state", state);
    const best = probabilities?.length ? probabilities.indexOf(Math.max(...probabilities)) : -1;
    const sure = confidence ?? probabilities?.[best] ?? 0;
    const texts = {
      old: ["–", "No decisions come"],
      abstained: ["No decision", "Abstained: samples are missing or unusable"],
      withheld: ["Withheld", best >= 0 ? `Perhaps ${this.names[best] ?? "another"}, ${below(sure)}: not certain enough` : "Not certain enough"],
      decided: [gesture ?? "", `${percent(sure)} certain`],
    };
    say(byId("now-gesture"), texts[state][0]);
    say(byId("now-why"), texts[state][1]);
    mark(byId("now-gesture"), "data-long", texts[state][0].length > 12);
    byId("now-meter").style.setProperty("--share", old || abstained ? 0 : sure);
    this.#picture(state, gesture);
    this.rows.forEach(({ row, bar, value }, index) => {
      const share = old ? 0 : probabilities?.[index] ?? 0;
      const withheld = index === this.names.length;
      bar.style.setProperty("--share", share);
      if (!withheld) say(value, old || !probabilities ? "–" : percent(share));
      const chosen = withheld ? state === "withheld" || state === "abstained"
        : state === "decided" && this.names[index] === gesture;
      mark(row, "data-chosen", chosen);
      if (withheld) say(value, chosen ? "now" : "");
    });
  }

  #picture(state, gesture) {
    const shown = state === "decided" ? gesture : state;
    if (shown === this.shown) return;
    this.shown = shown;
    const sign = { withheld: "?", abstained: "✕" }[state];
    const picture = sign ? make("span", { class: "sign" }, sign)
      : state === "decided" ? hand(gesture) : null;
    byId("now-picture").replaceChildren(...(picture ? [picture] : []));
  }

  #history(now) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const density = devicePixelRatio || 1;
    if (this.stale) {
      this.canvas.width = Math.round(width * density);
      this.canvas.height = Math.round(height * density);
      this.inks = { run: colour("accent"), none: colour("muted"), line: colour("line"), bad: colour("bad") };
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, width, height);
    const row = height / this.rows.length;
    const end = this.newest.seconds + Math.min((now - this.arrived) / 1000, 0.2);
    const x = (seconds) => width * (1 - (end - seconds) / HISTORY);
    pen.fillStyle = this.inks.line;
    for (let index = 0; index < this.rows.length; index += 1) {
      pen.fillRect(0, Math.round((index + 0.5) * row), width, 1);
    }
    for (const { from, to, label } of this.runs) {
      const [left, right] = [Math.max(0, x(from)), Math.min(width, x(to))];
      if (right <= 0) continue;
      const withheld = label < 0;
      const index = withheld ? this.names.length : label;
      const thick = Math.min(14, row * (withheld ? 0.4 : 0.62));
      pen.fillStyle = label === -2 ? this.inks.bad : withheld ? this.inks.none : this.inks.run;
      pen.beginPath();
      pen.roundRect(left, (index + 0.5) * row - thick / 2, Math.max(2, right - left), thick, Math.min(3, thick / 2));
      pen.fill();
    }
  }
}
