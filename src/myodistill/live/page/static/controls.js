// Adaptation, threshold, recording by hand, and pausing the drawing.

import { byId, make, mark, say } from "./dom.js";

const EVERY = 100; // milliseconds between two requests of the slider

export class Controls {
  constructor(connection, signals) {
    this.connection = connection;
    this.adapt = { available: false, on: false, suspended: false };
    this.recording = false;
    this.touched = -Infinity;
    this.#adaptation();
    this.#slider();
    this.#recorder();
    byId("pause").addEventListener("click", () => {
      signals.pause(!signals.paused);
      mark(byId("pause"), "aria-pressed", signals.paused);
    });
  }

  hello({ adapt, threshold, gestures, record, mode }) {
    this.adapting(adapt);
    const decodes = mode === "decode";
    byId("threshold").disabled = !decodes || threshold == null;
    if (threshold != null && performance.now() - this.touched > 1000) this.#threshold(threshold);
    byId("record-control").hidden = !record;
    const select = byId("record-gesture");
    if (Array.from(select.options, ({ value }) => value).join("\n") !== gestures.join("\n")) {
      select.replaceChildren(...gestures.map((name) => make("option", { value: name }, name)));
    }
  }

  adapting(adapt) {
    if (!adapt) return;
    this.adapt = adapt;
    const { available, on, suspended } = adapt;
    const button = byId("adapt");
    button.disabled = byId("adapt-reset").disabled = !available;
    mark(button, "aria-checked", on);
    mark(button, "data-suspended", on && suspended);
    say(byId("adapt-line"), !available ? "This decoder cannot adapt."
      : !on ? "Off: the decoder stays as it was calibrated."
        : suspended ? "Suspended: the signal does not look like the gestures that are known."
          : "On: the decoder follows slow changes of the signal.");
  }

  recordState({ on, gesture, session, repetitions }) {
    this.recording = on;
    say(byId("record"), on ? "Stop recording" : "Start recording");
    mark(byId("record"), "data-recording", on);
    byId("record-gesture").disabled = on;
    const count = `${repetitions} ${repetitions === 1 ? "repetition" : "repetitions"}`;
    const where = session ? ` in session ${session}` : "";
    say(byId("record-line"), on ? `Recording ${gesture}. Hold it until you stop.`
      : `${count} recorded${where}.`);
  }

  #adaptation() {
    byId("adapt").addEventListener("click", () =>
      this.connection.send({ type: "adapt", on: !this.adapt.on }));
    byId("adapt-reset").addEventListener("click", () =>
      this.connection.send({ type: "adapt-reset" }));
  }

  #slider() {
    const slider = byId("threshold");
    let timer = 0;
    slider.addEventListener("input", () => {
      this.touched = performance.now();
      this.#threshold(Number(slider.value));
      clearTimeout(timer);
      timer = setTimeout(() =>
        this.connection.send({ type: "threshold", value: Number(slider.value) }), EVERY);
    });
  }

  #threshold(value) {
    byId("threshold").value = value;
    mark(byId("threshold"), "aria-valuetext", `${Math.round(100 * value)} percent`);
    say(byId("threshold-value"), `${Math.round(100 * value)} %`);
    byId("now-threshold").style.setProperty("--at", value);
  }

  #recorder() {
    byId("record").addEventListener("click", () => {
      const gesture = byId("record-gesture").value;
      this.connection.send(this.recording ? { type: "record", on: false }
        : { type: "record", on: true, gesture });
    });
  }
}
