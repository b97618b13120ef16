// The target test without its looks: targets, trials, and the measures of online control.

export const RANGE = 500; // the cursor moves in [-RANGE, RANGE]
const DISTANCES = [220, 400];
const WIDTHS = [80, 120, 170];

/** Small generator of pseudo-random numbers in [0, 1), so that a test can be repeated. */
export function generator(seed) {
  let state = seed >>> 0;
  return () => { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Targets {x, y, width, distance} in an order of chance, each kind as often as can be. */
export function makeTargets(count, dimensions, random) {
  const turns = dimensions === 1 ? [0, 4] : [0, 1, 2, 3, 4, 5, 6, 7];
  const shuffled = (list) => list.map((one) => [random(), one]).sort(([a], [b]) => a - b).map(([, one]) => one);
  const kinds = DISTANCES.flatMap((distance) => WIDTHS.map((width) => ({ distance, width })));
  const cycle = (list, length) => {
    const all = [];
    while (all.length < length) all.push(...shuffled(list));
    return all.slice(0, length);
  };
  const directions = cycle(turns, count);
  return cycle(kinds, count).map((kind, index) => {
    const angle = (directions[index] * Math.PI) / 4;
    return { ...kind, x: kind.distance * Math.cos(angle), y: kind.distance * Math.sin(angle) };
  });
}

/** Index of difficulty in bits, by Shannon's formulation. */
export const difficulty = ({ distance, width }) => Math.log2(distance / width + 1);

/** One target from its appearance until it is selected or time is up. */
export class Trial {
  constructor(target, { dimensions, dwell, limit, speed }) {
    Object.assign(this, { target, dimensions, dwell, limit, speed });
    [this.x, this.y, this.seconds, this.path, this.inside, this.entries] = [0, 0, 0, 0, 0, 0];
    this.entered = null; // when the cursor came in to stay
    this.state = "running";
  }

  /** Moves the cursor by a direction, each part of it -1, 0 or 1. */
  move([right, up], passed) {
    if (this.state !== "running") return;
    const [x, y] = [this.x, this.y];
    const length = Math.hypot(right, up) || 1;
    const step = (this.speed * passed) / length;
    this.x = clamp(x + right * step);
    this.y = this.dimensions === 1 ? 0 : clamp(y + up * step);
    this.path += Math.hypot(this.x - x, this.y - y);
    this.seconds += passed;
    this.#dwell(passed);
    if (this.state === "running" && this.seconds >= this.limit) this.state = "missed";
  }

  get isInside() {
    return Math.hypot(this.x - this.target.x, this.y - this.target.y) <= this.target.width / 2;
  }

  #dwell(passed) {
    if (!this.isInside) {
      this.inside = 0;
      return;
    }
    if (this.inside === 0) {
      this.entries += 1;
      this.entered = this.seconds;
    }
    this.inside += passed;
    if (this.inside >= this.dwell) this.state = "hit";
  }

  /** What is kept of it: bits, seconds without the dwell, bits a second, share of a straight path. */
  result() {
    const hit = this.state === "hit";
    const bits = difficulty(this.target);
    const { distance, width, x, y } = this.target;
    const time = hit ? Math.max(this.entered, 0.001) : null;
    return {
      hit, distance, width, x: Math.round(x), y: Math.round(y), difficulty_bits: bits,
      seconds: time, throughput: hit ? bits / time : null,
      path_efficiency: hit && this.path > 0 ? Math.min(1, Math.hypot(this.x, this.y) / this.path) : null,
      overshoots: Math.max(0, this.entries - 1),
    };
  }
}

/** Completion rate, and means over what was selected. */
export function summarize(results) {
  const hits = results.filter(({ hit }) => hit);
  const mean = (key) => (hits.length ? hits.reduce((sum, one) => sum + one[key], 0) / hits.length : null);
  return {
    targets: results.length, completed: hits.length,
    completion_rate: results.length ? hits.length / results.length : null,
    throughput_bits_per_second: mean("throughput"), path_efficiency: mean("path_efficiency"),
    seconds: mean("seconds"),
    overshoots_per_target: results.length
      ? results.reduce((sum, { overshoots }) => sum + overshoots, 0) / results.length : null,
  };
}

/** Results as a table with commas. */
export function toCsv(results) {
  const columns = Object.keys(results[0] ?? {});
  const cell = (value) => (value === null ? "" : typeof value === "boolean" ? Number(value)
    : Number.isInteger(value) ? value : value.toFixed(4));
  const lines = results.map((one, index) => [index + 1, ...columns.map((key) => cell(one[key]))]);
  return [["target", ...columns], ...lines].map((line) => line.join(",")).join("\n") + "\n";
}

function clamp(value) {
  return Math.max(-RANGE, Math.min(RANGE, value));
}
