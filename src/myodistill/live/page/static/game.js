// The target test: a cursor that is moved by gestures, or by the arrow keys without a band.

import { byId, download, draw, make, mark, number, say } from "./dom.js";
import { generator, makeTargets, RANGE, summarize, toCsv, Trial } from "./fitts.js";
import { eachFrame } from "./frames.js";
import { settings } from "./game_settings.js";
import { tell } from "./spoken.js";
import { onView } from "./views.js";

const PAUSE = 0.9; // seconds between two targets
const STALE = 500; // milliseconds after which a decision moves nothing
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class Game {
  constructor() {
    this.pressed = new Set();
    this.settings = settings();
    this.decided = { gesture: null, at: -Infinity };
    this.used = new Set();
    this.results = [];
    this.#build();
    onView((view) => { if (view !== "test") this.#stop(); });
    eachFrame((now) => this.#frame(now));
  }

  hello({ gestures, name }) {
    this.name = name;
    this.settings.gestures(gestures);
  }

  /** Names the gesture of each direction at the edges of the field. */
  #hint(flat) {
    const places = {
      ArrowLeft: [-490, -16, "start", "← "], ArrowRight: [490, -16, "end", "", " →"],
      ArrowUp: [0, -470, "middle", "↑ "], ArrowDown: [0, 490, "middle", "↓ "],
    };
    const shown = Object.entries(places).filter(([key]) => !flat || KEYS[key][0]);
    const texts = shown.map(([key, [, , , before, after = ""]]) => {
      const gesture = this.settings.gesture(key);
      return gesture ? `${before}${gesture}${after}` : "";
    });
    if (texts.join("\n") === this.hinted) return;
    this.hinted = texts.join("\n");
    this.hints.replaceChildren(...shown.map(([, [x, y, anchor]], index) =>
      draw("text", { x, y, "text-anchor": anchor }, texts[index])));
  }

  decision({ gesture }, now) {
    this.decided = { gesture, at: now };
  }

  #build() {
    this.target = draw("g");
    this.hints = draw("g", { class: "hints" });
    this.dwell = draw("circle", { class: "dwell", r: 24, pathLength: 1, "stroke-dasharray": "0 1" });
    this.cursor = draw("g", { class: "cursor" }, draw("circle", { r: 16 }), this.dwell);
    this.arena = draw("svg", {
      class: "arena", viewBox: "-520 -520 1040 1040", tabindex: 0, role: "application",
      "aria-label": "Target test. Move with the arrow keys, or by your gestures. Escape ends the test.",
      "data-state": "idle",
    }, draw("rect", { class: "ground", x: -516, y: -516, width: 1032, height: 1032, rx: 20 }),
    draw("path", { class: "cross", d: "M-500 0H500M0 -500V500" }), this.hints, this.target, this.cursor);
    this.arena.addEventListener("keydown", (event) => this.#key(event, true));
    this.arena.addEventListener("keyup", (event) => this.#key(event, false));
    this.arena.addEventListener("blur", () => this.pressed.clear());
    this.line = make("p", { class: "line" }, "Move the cursor into each target and stay there.");
    this.start = make("button", { type: "button", class: "primary", onclick: () => this.#begin() }, "Start");
    this.moves = make("p", { class: "moves muted" });
    this.outcome = make("section", { class: "panel outcome", "aria-labelledby": "outcome-title", hidden: true });
    byId("game").append(
      make("section", { class: "panel field", "aria-labelledby": "field-title" },
        make("div", { class: "panel-top" }, make("h3", { id: "field-title" }, "Target test"), this.moves),
        this.arena, make("div", { class: "row" }, this.start, this.line)),
      make("div", { class: "beside" }, this.outcome, this.settings.element));
  }

  #key(event, down) {
    if (event.key === "Escape" && down) this.#stop();
    if (!Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    if (down) this.pressed.add(event.key);
    else this.pressed.delete(event.key);
  }

  #begin() {
    this.plan = { ...this.settings.values(), seed: Date.now() % 2 ** 31 };
    this.targets = makeTargets(this.plan.targets, this.plan.dimensions, generator(this.plan.seed));
    [this.results, this.used] = [[], new Set()];
    this.outcome.hidden = true;
    say(this.start, "Start again");
    this.arena.focus({ preventScroll: true });
    this.arena.scrollIntoView({ block: "nearest" });
    this.#next();
  }

  #next() {
    const target = this.targets[this.results.length];
    if (!target) {
      this.#end();
      return;
    }
    this.trial = new Trial(target, this.plan);
    this.wait = PAUSE;
    mark(this.arena, "data-state", "wait");
    this.target.replaceChildren(this.plan.dimensions === 1
      ? draw("rect", { class: "target", x: target.x - target.width / 2, y: -300, width: target.width, height: 600, rx: 14 })
      : draw("circle", { class: "target", cx: target.x, cy: -target.y, r: target.width / 2 }));
    say(this.line, `Target ${this.results.length + 1} of ${this.targets.length}`);
    this.#place();
  }

  #stop() {
    if (!this.trial) return;
    this.trial = null;
    this.#end();
  }

  #frame(now) {
    const passed = Math.min((now - (this.last ?? now)) / 1000, 0.1);
    this.last = now;
    if (!this.arena.checkVisibility()) return;
    const [direction, by] = this.#direction(now);
    say(this.moves, by);
    this.#hint((this.trial ? this.plan : this.settings.values()).dimensions === 1);
    if (!this.trial) return;
    if (this.wait > 0) {
      this.wait -= passed;
      if (this.wait <= 0) mark(this.arena, "data-state", "running");
      return;
    }
    this.trial.move(direction, passed);
    this.#place();
    if (this.trial.state !== "running") this.#over();
  }

  #direction(now) {
    if (this.pressed.size) {
      if (this.trial) this.used.add("keyboard");
      const sum = [...this.pressed].reduce(([x, y], key) => [x + KEYS[key][0], y + KEYS[key][1]], [0, 0]);
      return [sum, "Arrow keys"];
    }
    const { gesture, at } = this.decided;
    if (gesture === null || now - at > STALE) return [[0, 0], "Cursor rests"];
    const direction = this.settings.direction(gesture);
    if (!direction) return [[0, 0], `${gesture}: no direction`];
    if (this.trial) this.used.add("gestures");
    return [KEYS[direction], `${gesture}: ${direction.slice(5).toLowerCase()}`];
  }

  #place() {
    const { x, y, inside, dwell, isInside } = this.trial;
    mark(this.cursor, "transform", `translate(${x.toFixed(1)} ${(-y).toFixed(1)})`);
    mark(this.arena, "data-inside", isInside);
    mark(this.dwell, "stroke-dasharray", `${Math.min(1, inside / dwell).toFixed(3)} 1`);
  }

  #over() {
    const result = this.trial.result();
    this.results.push(result);
    tell(result.hit ? `Hit, ${number(result.seconds, 1)} seconds` : "Missed: time is up");
    this.#next();
  }

  #end() {
    this.trial = null;
    mark(this.arena, "data-state", "idle");
    mark(this.cursor, "transform", "translate(0 0)");
    mark(this.dwell, "stroke-dasharray", "0 1");
    this.target.replaceChildren();
    say(this.line, "Move the cursor into each target and stay there.");
    if (!this.results.length) return;
    this.#report(summarize(this.results));
  }

  #report(sum) {
    const part = (value, text) => (value === null ? "–" : text(value));
    const percent = (value) => `${Math.round(100 * value)} %`;
    const cells = [
      ["Completion rate", `${sum.completed} of ${sum.targets} (${percent(sum.completion_rate)})`],
      ["Throughput", part(sum.throughput_bits_per_second, (value) => `${number(value, 2)} bits/s`)],
      ["Path efficiency", part(sum.path_efficiency, percent)],
      ["Time to target", part(sum.seconds, (value) => `${number(value, 2)} s`)],
      ["Overshoots per target", part(sum.overshoots_per_target, (value) => number(value, 2))],
    ];
    const report = { ...this.plan, controlled_by: [...this.used].sort(), decoder: this.name, at: new Date().toISOString(), summary: sum, trials: this.results };
    const results = this.results;
    this.outcome.replaceChildren(
      make("h3", { id: "outcome-title", tabindex: -1 }, "Result"),
      make("dl", {}, ...cells.map(([title, text]) => make("div", {}, make("dt", {}, title), make("dd", {}, text)))),
      make("p", { class: "muted" }, `Moved by ${report.controlled_by.join(" and ") || "nothing"}.`),
      make("div", { class: "row" },
        make("button", { type: "button", onclick: () => download("target-test.csv", "text/csv", toCsv(results)) }, "Download CSV"),
        make("button", { type: "button", onclick: () => download("target-test.json", "application/json", JSON.stringify(report, null, 2)) }, "Download JSON")));
    this.outcome.hidden = false;
    this.outcome.firstChild.focus();
    tell(`Result: ${cells.map(([title, text]) => `${title} ${text}`).join(", ")}`);
  }
}
