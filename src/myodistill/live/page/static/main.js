// Puts the page together: what comes from the server goes to those who show it.

import { OneChannel } from "./channel.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { byId, say } from "./dom.js";
import { ElectrodeMap } from "./electrodes.js";
import { log, notify, startEvents, startNotice } from "./events.js";
import { Game } from "./game.js";
import { Gestures } from "./gestures.js";
import { Guide } from "./guide.js";
import { VERSION } from "./messages.js";
import { MANY, Signals } from "./signals.js";
import { Status } from "./status.js";
import { startTheme } from "./theme.js";
import { startViews } from "./views.js";

startTheme();
startEvents();
startNotice();

const connection = new Connection();
const signals = new Signals();
const parts = {
  status: new Status(), signals, one: new OneChannel(signals), electrodes: new ElectrodeMap(),
  gestures: new Gestures(), controls: new Controls(connection, signals),
  guide: new Guide(connection), game: new Game(),
};
const style = byId("signal-style");
let channels = 0;

connection.on("hello", (hello) => {
  if (hello.version !== VERSION) {
    notify("This page is of another version than the server. Reload it.", "bad");
    return;
  }
  if (hello.channels !== channels) {
    channels = hello.channels;
    style.value = channels > MANY ? "heat" : "lines";
    signals.show(style.value);
  }
  for (const part of Object.values(parts)) part.hello?.(hello);
});
connection.on("decision", (decision) => {
  parts.gestures.take(decision, performance.now());
  parts.game.decision(decision, performance.now());
});
connection.on("signals", (frame) => signals.take(frame, performance.now()));
connection.on("channels", (message) => {
  signals.channels(message);
  parts.electrodes.take(message);
});
connection.on("counters", (message) => {
  parts.status.counters(message);
  parts.controls.adapting(message.adapt);
});
connection.on("event", ({ line }) => log(line));
connection.on("record", (message) => parts.controls.recordState(message));
connection.on("guide", (message) => parts.guide.take(message, performance.now()));
connection.on("refused", ({ line }) => {
  log(line, "refused");
  notify(`Not done: ${line}`, "bad");
});
connection.on("open", () => {
  if (!byId("connection").hidden) log("Connected again", "page");
  byId("connection").hidden = true;
});
connection.on("lost", ({ attempt, wait }) => {
  if (attempt === 1) log("Connection lost", "page");
  parts.status.state("lost");
  byId("connection").hidden = false;
  const again = `Trying again in ${wait < 1000 ? "half a second" : `${Math.round(wait / 1000)} s`}.`;
  const hint = attempt < 4 ? "" : " If the command was started anew, open the address that it printed.";
  say(byId("connection-line"), `No connection to MyoDistill. ${again}${hint}`);
});
byId("connect-now").addEventListener("click", () => connection.open());
style.addEventListener("change", () => signals.show(style.value));

startViews();
connection.open();
