// Simple drawings of common gestures. A gesture that is not known gets none: its name is enough.

import { draw } from "./dom.js";

const KINDS = [ // the first that fits a name
  [/\b(rest|neutral|no[ _-]?motion|relax)/, "rest"],
  [/extension|extend|raise\b|wave[ _-]?out/, "extension"],
  [/flex|lower\b|wave[ _-]?in/, "flexion"],
  [/radial/, "radial"],
  [/ulnar/, "ulnar"],
  [/supinat/, "supination"],
  [/pronat/, "pronation"],
  [/chuck|tripod|three[ _-]?finger/, "chuck"],
  [/pinch|\bok\b/, "pinch"],
  [/thumb[s]?[ _-]?up/, "thumb"],
  [/point|^index$/, "point"],
  [/victory|peace|two[ _-]?finger/, "victory"],
  [/fist|power|clos|grasp|grip/, "fist"],
  [/open|spread|abduct/, "open"],
];
const SEEN = { // closed hands are small
  fist: "18 34 84 84", thumb: "18 34 84 84", extension: "10 20 104 104", flexion: "10 12 104 104",
};
const SINGLE = /finger|thumb|digit|motion \d/; // what a finger does is not drawn,
const WHOLE = /pinch|chuck|tripod|point|victory|peace|thumbs?[ _-]?up/; // but for these

/** The drawing of a gesture as an SVG element, or null. */
export function hand(gesture) {
  const name = gesture.toLowerCase();
  const kind = KINDS.find(([pattern]) => pattern.test(name))?.[1];
  if (!kind || (SINGLE.test(name) && !WHOLE.test(name))) return null;
  return draw("svg", { viewBox: SEEN[kind] ?? "8 10 104 104", class: "hand", focusable: "false" }, ...DRAWN[kind]());
}

const path = (d, cls) => draw("path", { d, class: cls });
const limb = (d) => [path(d, "hand-edge"), path(d, "hand-fill")];
const forearm = "M60 118 V92";
const PALM = "M44 64 Q44 56 52 56 H70 Q78 56 78 64 V82 Q78 94 66 94 H56 Q44 94 44 82 Z";
const arrow = (d) => path(d, "hand-arrow");

// From the front: bases of index, middle, ring and little finger, tips when stretched and bent.
const FINGERS = [
  [[48, 60], [43, 24], [48, 52]],
  [[57, 58], [55, 16], [57, 49]],
  [[66, 58], [68, 19], [66, 50]],
  [[74, 61], [81, 30], [74, 54]],
];
const CLOSED_FINGERS = [[48, 36], [56, 30], [64, 32], [72, 40]];

function front(stretched, thumb) {
  const fingers = FINGERS.flatMap(([base, tip, bent], index) => {
    if (stretched[index] === null) return [];
    const [x, y] = stretched[index] === 2 ? CLOSED_FINGERS[index] : stretched[index] ? tip : bent;
    return [`M${base[0]} ${base[1]} L${x} ${y}`];
  });
  const all = [forearm, ...fingers, thumb];
  return [
    path(forearm, "hand-edge arm"), path(PALM, "hand-edge palm"),
    ...all.slice(1).map((d) => path(d, "hand-edge")),
    path(forearm, "hand-fill arm"), path(PALM, "hand-fill palm"),
    ...all.slice(1).map((d) => path(d, "hand-fill")),
  ];
}

const THUMB = {
  out: "M48 80 Q36 74 28 58", in: "M48 80 Q44 74 58 70", up: "M48 78 Q38 66 40 46",
  side: "M48 80 Q38 74 36 62",
};
const knuckles = [
  path("M48 56 V66 M57 54 V66 M66 54 V66 M74 57 V66", "hand-line"),
];

// From the side, the forearm on the left and the hand turned about the wrist.
function side(angle, arrows) {
  const turned = draw("g", { transform: `rotate(${angle} 62 66)` },
    ...both(["M62 66 H84"], "palm-side"), ...both(["M84 64 H106"]), ...both(["M70 70 L86 80"]));
  return [...both(["M10 66 H62"], "arm"), turned, arrow(arrows)];
}

function both(paths, more = "") {
  return ["edge", "fill"].flatMap((part) =>
    paths.map((d) => path(d, `hand-${part} ${more}`)));
}

function tilted(angle, arrows) {
  return [
    path("M60 118 V90", "hand-edge arm"), path("M60 118 V90", "hand-fill arm"),
    draw("g", { transform: `rotate(${angle} 60 92)` }, ...front([2, 2, 2, 2], THUMB.side)
      .filter((part) => !part.classList.contains("arm"))),
    arrow(arrows),
  ];
}

const DRAWN = {
  rest: () => front([2, 2, 2, 2], THUMB.side),
  open: () => front([1, 1, 1, 1], THUMB.out),
  fist: () => [...front([0, 0, 0, 0], THUMB.in), ...knuckles],
  point: () => [...front([1, 0, 0, 0], THUMB.in)],
  victory: () => front([1, 1, 0, 0], THUMB.in),
  thumb: () => front([0, 0, 0, 0], THUMB.up),
  pinch: () => pinched([null, 1, 1, 1], BENT),
  chuck: () => pinched([null, null, 0, 0], "M57 60 C56 32 36 30 30 52", BENT),
  extension: () => side(-42, "M104 96 Q116 74 104 52 m-6 7 l6 -8 l8 6"),
  flexion: () => side(42, "M104 36 Q116 58 104 80 m-6 -7 l6 8 l8 -6"),
  radial: () => tilted(-26, "M96 34 Q70 4 34 22 m9 3 l-10 -2 l4 -10"),
  ulnar: () => tilted(26, "M24 34 Q50 4 86 22 m-9 3 l10 -2 l-4 -10"),
  supination: () => [...front([2, 2, 2, 2], THUMB.side),
    arrow("M92 104 Q60 122 28 104 m2 10 l-3 -11 l11 -1")],
  pronation: () => [...front([2, 2, 2, 2], THUMB.side),
    arrow("M28 104 Q60 122 92 104 m-2 10 l3 -11 l-11 -1")],
};

// Fingers bent to the tip of the thumb, so that they form a ring with it.
const BENT = "M48 62 C46 38 24 38 23 60";

function pinched(stretched, ...bent) {
  const thumb = "M48 84 C36 84 23 78 23 64";
  return [...front(stretched, thumb), ...both(bent)];
}
