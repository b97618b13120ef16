// Guided calibration: what to do now, what comes next, how it went.

import { byId, draw, make, mark, number, say } from "./dom.js";
import { notify } from "./events.js";
import { eachFrame } from "./frames.js";
import { hand } from "./hands.js";
import { tell } from "./spoken.js";
import { currentView, goTo } from "./views.js";

const AROUND = 2 * Math.PI * 54;
const WORDS = {
  idle: "Calibrate to your arm", ready: "Get ready", perform: "Hold", rest: "Relax",
  review: "All gestures done", paused: "Paused", learning: "Learning…",
  done: "Ready", failed: "Calibration failed",
};
const SIGNS = { review: "✓", done: "✓", paused: "‖", failed: "!" };
const RUNS = new Set(["ready", "perform", "rest"]);
const BUSY = new Set([...RUNS, "paused"]);

export class Guide {
  constructor(connection) {
    this.connection = connection;
    this.state = { phase: "idle", takes: [], step: 0, steps: 0, remaining: 0 };
    this.allowed = false;
    this.#build();
    eachFrame((now) => this.#count(now));
  }

  hello({ guide, mode, gestures }) {
    this.allowed = guide;
    const began = mode === "calibrate" && this.mode === undefined;
    const learned = this.mode === "calibrate" && mode === "decode";
    [this.mode, this.gestures] = [mode, gestures];
    if (began && currentView() === "live") goTo("calibrate");
    if (learned) this.#live();
    for (const link of document.querySelectorAll("[data-view=calibrate]")) {
      link.hidden = !guide && mode === "decode";
    }
    this.#show();
  }

  take(state, now) {
    const before = this.state;
    this.state = state;
    this.arrived = now;
    const expected = state.expected?.line;
    if (state.phase === "done" && expected && expected !== before.expected?.line) this.#live();
    if (before.phase !== state.phase || before.gesture !== state.gesture) this.#entered(before);
    this.length = Math.max(state.phase === before.phase && state.step === before.step
      ? this.length : 0, state.remaining ?? 0);
    this.#show();
  }

  #request(action, more = {}) {
    this.connection.send({ type: "guide", action, ...more });
  }

  #entered(before) {
    const { phase, gesture, line } = this.state;
    const named = gesture && phase !== "rest" ? `: ${gesture}` : "";
    tell(`${WORDS[phase]}${named}${line ? `. ${line}` : ""}`);
    if (phase === "done" && before.phase === "learning") this.#live();
  }

  /** Decoding has begun: show it at once. */
  #live() {
    const expected = this.state.expected?.line;
    notify(`You are live: the decoder has learned your gestures.${expected ? ` ${expected}` : ""}`);
    if (currentView() === "calibrate") goTo("live");
  }

  #build() {
    this.ring = draw("circle", { cx: 60, cy: 60, r: 54, class: "time", "stroke-dasharray": AROUND });
    this.picture = make("div", { class: "picture", "aria-hidden": "true" });
    this.gallery = make("ul", { class: "gallery", "aria-label": "Gestures" });
    this.seconds = make("p", { class: "seconds", "aria-hidden": "true" });
    this.word = make("p", { class: "word" });
    this.gesture = make("p", { class: "gesture" });
    this.line = make("p", { class: "line" });
    this.quality = make("p", { class: "live-quality" });
    this.next = make("p", { class: "next" });
    this.progress = make("progress", { max: 1, value: 0, "aria-label": "Performances done" });
    this.count = make("p", { class: "count muted" });
    this.takes = make("ol", { class: "takes", "aria-labelledby": "takes-title" });
    this.none = make("p", { class: "muted" }, "Each performance is listed here and can be done again.");
    this.primary = make("button", { type: "button", class: "primary", onclick: () => this.#main() });
    this.finish = this.#button("Finish now", "finish");
    this.cancel = this.#button("Cancel", "cancel");
    this.form = this.#form();
    const clock = draw("svg", { viewBox: "0 0 120 120", class: "clock", "aria-hidden": "true" },
      draw("circle", { cx: 60, cy: 60, r: 54, class: "track" }), this.ring);
    this.stage = make("section", { class: "panel stage", "aria-label": "What to do now" },
      this.dial = make("div", { class: "dial" }, clock, this.picture, this.seconds),
      this.gallery, make("div", { class: "words" }, this.word, this.gesture, this.line, this.quality, this.next,
        this.form, make("div", { class: "row actions" }, this.primary, this.finish, this.cancel)),
      make("div", { class: "progress" }, this.progress, this.count));
    byId("guide").append(this.stage,
      make("section", { class: "panel", "aria-labelledby": "takes-title" },
        make("h3", { id: "takes-title" }, "Performances"), this.none, this.takes));
  }

  #button(text, action) {
    return make("button", { type: "button", onclick: () => this.#request(action) }, text);
  }

  #form() {
    this.repetitions = make("input", { type: "number", id: "guide-repetitions", min: 1, max: 20, value: 3 });
    this.hold = make("input", { type: "number", id: "guide-seconds", min: 1, max: 30, value: 3 });
    return make("div", { class: "row form" },
      make("label", { for: "guide-repetitions" }, "Repetitions of each gesture ", this.repetitions),
      make("label", { for: "guide-seconds" }, "Seconds to hold ", this.hold));
  }

  /** What the main button does in each phase. */
  #main() {
    const { phase } = this.state;
    if (phase === "idle" || phase === "done") {
      const [repetitions, seconds] = [this.repetitions, this.hold].map(whole);
      this.#request("start", { repetitions, seconds });
    } else if (RUNS.has(phase)) this.#request("pause");
    else if (phase === "paused" || this.#missing()) this.#request("go-on");
    else this.#request("finish");
  }

  #missing() {
    return this.state.takes.length < this.state.steps;
  }

  #show() {
    const { phase, gesture, line, next, quality, expected, takes } = this.state;
    const resting = phase === "idle" || phase === "done";
    mark(this.stage, "data-phase", phase);
    say(this.word, WORDS[phase]);
    say(this.gesture, phase === "rest" ? "" : gesture ?? "");
    mark(this.gesture, "data-long", (gesture ?? "").length > 14);
    say(this.line, this.#explain(line));
    say(this.quality, quality ? `${quality.ok ? "✓ Good" : "! Not yet"}: ${quality.line}` : "");
    mark(this.quality, "data-ok", quality?.ok ?? "");
    const coming = phase === "rest" || phase === "ready" || phase === "perform";
    say(this.next, coming && next ? `Next: ${next}` : phase === "done" && expected ? expected.line : "");
    this.#picture(phase === "rest" ? next : gesture);
    this.gallery.hidden = !resting;
    this.form.hidden = !resting || !this.allowed;
    this.dial.hidden = resting;
    this.#gallery();
    this.#buttons(phase, resting);
    this.#progress();
    this.#list(takes, phase);
  }

  #explain(line) {
    const { phase } = this.state;
    if (!this.allowed) return "Nobody can be calibrated here. Start the command with a population.";
    if (line) return line;
    const count = this.gestures?.length ?? 0;
    return {
      idle: `You will be shown ${count} gestures, one at a time. Hold each until the ring is empty, then relax. Hold it as you would in everyday use, not as hard as you can.`,
      paused: "Go on when you are ready. A performance that was broken off begins again.",
      review: "Do any of them again, or let the decoder learn from them.",
      learning: "The decoder is learning from your performances. This takes less than half a minute.",
      done: "The decoder has learned your gestures.",
    }[phase] ?? "";
  }

  #buttons(phase, resting) {
    const text = resting ? (phase === "done" ? "Calibrate again" : "Start") : RUNS.has(phase) ? "Pause"
      : phase === "paused" || (this.#missing() && phase !== "learning") ? "Go on"
        : phase === "failed" ? "Try again" : "Learn from these";
    say(this.primary, text);
    this.primary.hidden = phase === "learning" || !this.allowed;
    this.finish.hidden = !(BUSY.has(phase) || ((phase === "review" || phase === "failed") && this.#missing()));
    this.finish.disabled = this.state.step < (this.gestures?.length ?? 1);
    this.cancel.hidden = resting || phase === "learning" || !this.allowed;
  }

  #progress() {
    const { step, steps, phase, repetition, repetitions } = this.state;
    this.progress.hidden = !steps || phase === "idle" || phase === "done";
    this.progress.max = steps || 1;
    this.progress.value = step;
    const round = BUSY.has(phase) && repetition ? ` · repetition ${repetition} of ${repetitions}` : "";
    say(this.count, this.progress.hidden ? "" : `${step} of ${steps} performances${round}`);
  }

  #picture(gesture) {
    const sign = SIGNS[this.state.phase] ?? "";
    const shown = sign || gesture || "";
    if (shown === this.pictured) return;
    this.pictured = shown;
    const picture = sign ? make("span", { class: "sign" }, sign) : gesture ? hand(gesture) : null;
    this.picture.replaceChildren(...(picture ? [picture] : []));
  }

  #gallery() {
    const names = this.gestures ?? [];
    if (names === this.listedNames) return;
    this.listedNames = names;
    this.gallery.replaceChildren(...names.map((name) =>
      make("li", {}, make("div", { class: "picture", "aria-hidden": "true" }, hand(name)),
        make("span", {}, name))));
  }

  #list(takes, phase) {
    const open = BUSY.has(phase) || phase === "review" || phase === "failed";
    const key = JSON.stringify([takes, open]);
    if (key === this.listed) return;
    this.listed = key;
    this.none.hidden = takes.length > 0;
    this.takes.replaceChildren(...takes.map(({ gesture, repetition, ok, line }, step) =>
      make("li", { "data-ok": String(ok) },
        make("span", { class: "verdict" }, make("b", { "aria-hidden": "true" }, ok ? "✓" : "!"),
          make("span", { class: "hidden" }, ok ? "Good: " : "Not good: ")),
        make("span", { class: "what" }, `${gesture} ${repetition}`),
        make("span", { class: "muted why" }, line),
        make("button", {
          type: "button", disabled: !open, "aria-label": `Do ${gesture} ${repetition} again`,
          onclick: () => this.#request("redo", { step }),
        }, "Again"))).reverse());
  }

  /** Counts down between two messages. */
  #count(now) {
    const { phase, remaining } = this.state;
    if (!byId("guide").offsetParent) return;
    const left = RUNS.has(phase) ? Math.max(0, (remaining ?? 0) - (now - this.arrived) / 1000) : 0;
    const share = this.length ? Math.min(1, left / this.length) : 0;
    mark(this.ring, "stroke-dashoffset", (AROUND * (1 - share)).toFixed(1));
    say(this.seconds, RUNS.has(phase) ? number(Math.ceil(left)) : "");
  }
}

function whole(input) {
  const [value, low, high] = [Math.round(Number(input.value)), Number(input.min), Number(input.max)];
  input.value = Math.min(high, Math.max(low, Number.isFinite(value) ? value : low));
  return Number(input.value);
}
