// What may come from the server. A message that is not as agreed is dropped, never half used.

export const VERSION = 1;
const MOST_CHANNELS = 4096;
const MOST_BUCKETS = 4096;
const QUALITIES = new Set(["good", "flat", "saturated", "noisy", "missing"]);
const STATES = new Set(["waiting", "streaming", "silent", "ended"]);
const PHASES = new Set([
  "idle", "ready", "perform", "rest", "review", "paused", "learning", "done", "failed",
]);

const is = {
  text: (value) => typeof value === "string",
  real: Number.isFinite,
  count: (value) => Number.isInteger(value) && value >= 0,
  flag: (value) => typeof value === "boolean",
  list: (of, most = 10000) => (value) =>
    Array.isArray(value) && value.length <= most && value.every(of),
  maybe: (of) => (value) => value === null || value === undefined || of(value),
  one: (set) => (value) => set.has(value),
  shape: (fields) => (value) =>
    value !== null && typeof value === "object" && !Array.isArray(value) &&
    Object.entries(fields).every(([name, of]) => of(value[name])),
};

const adapt = is.shape({ available: is.flag, on: is.flag, suspended: is.flag });
const layout = (value) =>
  is.shape({ kind: is.text })(value) &&
  (value.kind === "ring" || (value.kind === "grid" && value.rows > 0 && value.columns > 0));

const KNOWN = {
  hello: is.shape({
    version: is.count, mode: is.text, name: is.text, source: is.text, gestures: is.list(is.text),
    channels: (value) => is.count(value) && value > 0 && value <= MOST_CHANNELS,
    rate: (value) => is.real(value) && value > 0, unit: is.text, layout, adapt,
    threshold: is.maybe(is.real), record: is.flag, guide: is.flag,
  }),
  decision: is.shape({
    seconds: is.real, gesture: is.maybe(is.text), label: Number.isInteger,
    confidence: is.maybe(is.real), probabilities: is.maybe(is.list(is.real)),
    abstained: is.flag, delay_ms: is.maybe(is.real),
  }),
  channels: is.shape({ rms: is.list(is.maybe(is.real)), quality: is.list(is.one(QUALITIES)) }),
  counters: is.shape({
    decisions: is.count, abstained: is.count, gaps: is.count, lost: is.count,
    rate: is.maybe(is.real), state: is.one(STATES),
    delay_ms: is.maybe(is.shape({ median: is.maybe(is.real), p99: is.maybe(is.real) })),
    adapt: is.maybe(adapt),
  }),
  event: is.shape({ line: is.text }),
  record: is.shape({
    on: is.flag, gesture: is.maybe(is.text), session: is.maybe(is.text), repetitions: is.count,
  }),
  guide: is.shape({
    phase: is.one(PHASES), gesture: is.maybe(is.text), next: is.maybe(is.text), step: is.count,
    steps: is.count, repetition: is.count, repetitions: is.count, remaining: is.maybe(is.real),
    quality: is.maybe(is.shape({ ok: is.flag, line: is.text })),
    takes: is.list(is.shape({
      gesture: is.text, repetition: is.count, ok: is.flag, line: is.text,
    })),
    expected: is.maybe(is.shape({ line: is.text })), line: is.maybe(is.text),
  }),
  refused: is.shape({ line: is.text }),
};

/** The message of a text frame, or null where it is none that this page knows. */
export function readText(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    return null;
  }
  const type = message?.type;
  return is.text(type) && Object.hasOwn(KNOWN, type) && KNOWN[type](message) ? message : null;
}

/**
 * The signals of a binary frame, or null: index of the first bucket, their number, channels,
 * and values [bucket][channel][minimum, maximum].
 */
export function readSignals(buffer) {
  if (buffer.byteLength < 12) return null;
  const view = new DataView(buffer);
  const [version, first] = [view.getUint32(0, true), view.getUint32(4, true)];
  const [buckets, channels] = [view.getUint16(8, true), view.getUint16(10, true)];
  const sound = version === VERSION && channels > 0 && buckets <= MOST_BUCKETS &&
    channels <= MOST_CHANNELS && buffer.byteLength === 12 + 8 * buckets * channels;
  return sound ? { first, buckets, channels, values: new Float32Array(buffer, 12) } : null;
}
