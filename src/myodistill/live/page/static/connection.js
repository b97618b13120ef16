// The WebSocket: what comes is checked and passed on; a connection that is lost is made anew.

import { readSignals, readText } from "./messages.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;

/** Events: a message's type, `signals`, `open`, and `lost` with {attempt, wait, code}. */
export class Connection extends EventTarget {
  #socket = null;
  #attempt = 0;
  #timer = 0;
  dropped = 0; // messages that were not as agreed

  on(type, listener) {
    this.addEventListener(type, (event) => listener(event.detail));
  }

  open() {
    clearTimeout(this.#timer);
    this.#socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws`);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => this.#tell("open"));
    socket.addEventListener("message", ({ data }) => this.#take(data));
    socket.addEventListener("close", ({ code }) => {
      if (socket === this.#socket) this.#lost(code);
    });
  }

  /** Sends a request; false where there is no connection. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #take(data) {
    const isText = typeof data === "string";
    const message = isText ? readText(data) : readSignals(data);
    if (!message) {
      this.dropped += 1;
      return;
    }
    this.#attempt = 0;
    this.#tell(isText ? message.type : "signals", message);
  }

  #lost(code) {
    this.#socket = null;
    const wait = Math.min(FIRST_WAIT * 2 ** this.#attempt, LONGEST_WAIT);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.open(), wait);
    this.#tell("lost", { attempt: this.#attempt, wait, code });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
