// What a screen reader says: seldom, and only what has lasted.

import { byId, say } from "./dom.js";

const LASTED = 700; // milliseconds before something counts
const EVERY = 2000; // milliseconds between two announcements

let wanted = "";
let since = 0;
let spokenAt = -Infinity;

/** Says the decision of now if it lasts. */
export function speak(text, now) {
  if (text !== wanted) {
    wanted = text;
    since = now;
    return;
  }
  if (now - since < LASTED || now - spokenAt < EVERY) return;
  if (byId("spoken").textContent === text) return;
  spokenAt = now;
  say(byId("spoken"), text);
}

/** Says what happens once, such as an event or the next step of a calibration. */
export function tell(text) {
  say(byId("spoken-events"), text);
}
