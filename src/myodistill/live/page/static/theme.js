// Light, dark, or as the system says; and the colours of the style sheet for canvases.

import { byId, make } from "./dom.js";

const probe = make("span", { class: "hidden" });
const changed = new Set();

/** Calls back when colours change. */
export function onColours(listener) {
  changed.add(listener);
}

/** A custom property of the style sheet as a colour that a canvas takes. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

export const prefersStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function startTheme() {
  document.body.append(probe);
  const select = byId("theme");
  const tell = () => changed.forEach((listener) => listener());
  const set = () => {
    document.documentElement.dataset.theme = select.value;
    tell();
  };
  select.value = recall() ?? "auto";
  set();
  select.addEventListener("change", () => {
    keep(select.value);
    set();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
}

function recall() { // storage may be forbidden
  try {
    const value = localStorage.getItem("theme");
    return ["auto", "light", "dark"].includes(value) ? value : null;
  } catch {
    return null;
  }
}

function keep(value) {
  try {
    localStorage.setItem("theme", value);
  } catch { /* the choice lasts as long as the page */ }
}
