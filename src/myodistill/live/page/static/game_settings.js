// Settings of the target test, and which gesture moves the cursor where.

import { make } from "./dom.js";

const CHOICES = {
  dimensions: ["Directions", [[2, "four (2-D)"], [1, "left and right (1-D)"]]],
  targets: ["Targets", [[12, "12"], [4, "4"], [24, "24"], [48, "48"]]],
  speed: ["Speed", [[260, "medium"], [160, "slow"], [420, "fast"]]],
  dwell: ["Stay inside for", [[1, "1 s"], [0.5, "0.5 s"], [2, "2 s"]]],
  limit: ["Time limit", [[15, "15 s"], [8, "8 s"], [30, "30 s"]]],
};
const MOVES = [
  ["ArrowLeft", "Left", [/flexion|wave in/, /close|fist|grip/]],
  ["ArrowRight", "Right", [/extension|wave out/, /open/]],
  ["ArrowUp", "Up", [/radial/, /open/, /point/]],
  ["ArrowDown", "Down", [/ulnar/, /fist|close|power/, /pinch/]],
];

/** The form: its element, `values()`, `gestures(names)` and `direction(gesture)`. */
export function settings() {
  const choices = Object.fromEntries(Object.entries(CHOICES).map(([key, [, options]]) =>
    [key, make("select", { id: `test-${key}` }, ...options.map(([value, text]) => make("option", { value }, text)))]));
  const moves = MOVES.map(([key, title]) => [key, title, make("select", { id: `test-${key}` })]);
  const field = (id, title, select) =>
    make("div", { class: "field-row" }, make("label", { for: id }, title), select);
  const element = make("section", { class: "panel settings", "aria-labelledby": "settings-title" },
    make("h3", { id: "settings-title" }, "Settings"),
    make("fieldset", {}, make("legend", {}, "Test"),
      ...Object.entries(CHOICES).map(([key, [title]]) => field(`test-${key}`, title, choices[key]))),
    make("fieldset", {}, make("legend", {}, "Gesture for each direction"),
      ...moves.map(([key, title, select]) => field(`test-${key}`, title, select))));
  return {
    element,
    values: () => Object.fromEntries(Object.entries(choices).map(([key, select]) => [key, Number(select.value)])),
    gestures: (names) => assign(moves, names),
    gesture: (key) => moves.find(([one]) => one === key)[2].value,
    direction: (gesture) => moves.find(([, , select]) => select.value === gesture)?.[0] ?? null,
  };
}

function assign(moves, names) {
  const taken = new Set();
  moves.forEach(([, , select], index) => {
    const before = select.value;
    const known = Array.from(select.options, ({ value }) => value).slice(1);
    if (known.join("\n") === names.join("\n")) return;
    const fits = MOVES[index][2].map((pattern) =>
      names.find((name) => pattern.test(name.toLowerCase()) && !taken.has(name)));
    const chosen = names.includes(before) ? before : fits.find(Boolean) ?? "";
    taken.add(chosen);
    select.replaceChildren(make("option", { value: "" }, "none"),
      ...names.map((name) => make("option", { value: name }, name)));
    select.value = chosen;
  });
}
