// One view at a time, named in the address: #live, #calibrate, #test, #help.

import { byId, mark, say } from "./dom.js";

const TITLES = { live: "Live", calibrate: "Calibrate", test: "Target test", help: "Help" };
const listeners = new Set();

export const onView = (listener) => listeners.add(listener);
export const currentView = () => (Object.hasOwn(TITLES, location.hash.slice(1)) ? location.hash.slice(1) : "live");
export const goTo = (view) => { location.hash = view; };

export function startViews() {
  addEventListener("hashchange", () => {
    show();
    byId("content").focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  show();
}

function show() {
  const view = currentView();
  for (const part of document.querySelectorAll("[data-shows]")) {
    part.hidden = part.dataset.shows !== view;
  }
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === view) mark(link, "aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  say(byId("view-title"), TITLES[view]);
  mark(document.body, "data-view", view);
  listeners.forEach((listener) => listener(view));
}
