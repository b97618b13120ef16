// How the quality of an electrode is told: a mark, a word and what to do, never colour alone.

export const QUALITY = {
  good: { mark: "●", word: "good", advice: "" },
  flat: { mark: "▬", word: "flat", advice: "no signal: check the contact" },
  saturated: { mark: "▲", word: "saturated", advice: "at the end of the range" },
  noisy: { mark: "≈", word: "noisy", advice: "mains hum or a loose electrode" },
  missing: { mark: "✕", word: "missing", advice: "no values come" },
};

/** One sentence about all electrodes. */
export function summary(quality) {
  const bad = quality.map((one, index) => [one, index + 1]).filter(([one]) => one !== "good");
  if (!bad.length) return `All ${quality.length} electrodes are good`;
  const kinds = Object.keys(QUALITY).slice(1).flatMap((kind) => {
    const which = bad.filter(([one]) => one === kind).map(([, channel]) => channel);
    if (!which.length) return [];
    const names = which.length > 6 ? `${which.length}` : which.join(", ");
    return [which.length > 6 ? `${names} ${kind}` : `${kind}: ${names}`];
  });
  const count = bad.length === 1 ? "1 electrode needs" : `${bad.length} electrodes need`;
  return `${count} a look (${kinds.join("; ")})`;
}
