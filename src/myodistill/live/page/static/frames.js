// One animation loop for everything that is drawn; it measures its own frame times.

const painters = new Set();
const kept = 1200;
const times = [];
let last = 0;

/** Calls `paint(now)` before each frame. */
export function eachFrame(paint) {
  painters.add(paint);
}

/** Calls `paint(now)` at most so many times a second. */
export function atMost(perSecond, paint) {
  let due = 0;
  eachFrame((now) => {
    if (now < due) return;
    due = Math.max(due + 1000 / perSecond, now);
    paint(now);
  });
}

/** Milliseconds between the last frames, and forgets them. */
export function takeFrameTimes() {
  return times.splice(0);
}

function frame(now) {
  if (last) times.push(now - last);
  if (times.length > kept) times.shift();
  last = now;
  for (const paint of painters) paint(now);
  requestAnimationFrame(frame);
}

requestAnimationFrame(frame);
