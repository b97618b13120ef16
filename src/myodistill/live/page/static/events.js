// The log of events: the newest first, and no more than fit into a bounded list.

import { byId, make } from "./dom.js";
import { tell } from "./spoken.js";

const KEPT = 200;
const SPOKEN_EVERY = 3000;
let spokenAt = -Infinity;

export function startEvents() {
  byId("events-clear").addEventListener("click", () => byId("events").replaceChildren());
}

/** Adds a line; `kind` is "event", "refused" or "page". */
export function log(line, kind = "event") {
  const list = byId("events");
  const time = new Date().toLocaleTimeString("en-GB");
  list.prepend(make("li", { "data-kind": kind }, make("time", {}, time), ` ${line}`));
  while (list.children.length > KEPT) list.lastChild.remove();
  const now = performance.now();
  if (now - spokenAt < SPOKEN_EVERY && kind === "event") return;
  spokenAt = now;
  tell(line);
}

/** Shows a line above everything until it is closed. */
export function notify(line, kind = "info") {
  byId("notice").hidden = false;
  byId("notice").dataset.kind = kind;
  byId("notice-line").textContent = line;
}

export function startNotice() {
  byId("notice-close").addEventListener("click", () => { byId("notice").hidden = true; });
}
