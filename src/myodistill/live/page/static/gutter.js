// Numbers and quality of the channels, left of their signals.

import { QUALITY } from "./quality.js";
import { colour } from "./theme.js";

export function drawGutter(canvas, channels, quality) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return;
  const density = devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const pen = canvas.getContext("2d");
  pen.scale(density, density);
  const row = height / channels;
  const size = Math.max(10, Math.min(13, row * 0.6));
  const every = stride(12 / row);
  pen.font = `${size}px ${getComputedStyle(canvas).fontFamily}`;
  pen.textBaseline = "middle";
  const inks = { good: colour("muted"), bad: colour("bad"), mark: colour("good") };
  let free = 0; // above this, there is text already
  for (let channel = 0; channel < channels; channel += 1) {
    const kind = quality[channel] ?? "good";
    const y = Math.max(size / 2, Math.min((channel + 0.5) * row, height - size / 2));
    const named = channel % every === 0 || (every > 1 && channel === channels - 1);
    if (kind === "good" && !named) continue;
    if (y - size / 2 < free) continue;
    if (kind === "good" && nextBad(quality, channel, size / row)) continue;
    pen.fillStyle = kind === "good" ? inks.good : inks.bad;
    pen.textAlign = "right";
    pen.fillText(String(channel + 1), width - 20, y);
    pen.textAlign = "center";
    if (kind !== "good") pen.fillText(QUALITY[kind].mark, width - 9, y);
    else if (every === 1 && quality.length) {
      pen.fillStyle = inks.mark;
      pen.fillText(QUALITY.good.mark, width - 9, y);
    }
    free = y + size / 2;
  }
}

function nextBad(quality, channel, reach) {
  for (let next = channel + 1; next < channel + reach && next < quality.length; next += 1) {
    if (quality[next] !== "good") return true;
  }
  return false;
}

function stride(least) {
  return [1, 2, 4, 8, 16, 32, 64, 128].find((step) => step >= least) ?? 256;
}
