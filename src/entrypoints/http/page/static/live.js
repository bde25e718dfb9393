// The live protocol at `/ws`: sound goes out, words come in.

import { key, liveAddress, Problem, whyRefused } from "./service.js";

const GOING_AWAY = 1001;
const DONE = 1000;
const LOST = 1006;
const MOST_FRAME = 1 << 17; // samples; the service takes 1 MiB a message
const MOST_UNSENT = 1 << 20; // bytes that wait in the browser; the rest waits in the sound

/**
 * What the service says.
 *
 * @typedef {{type: "ready"}
 *   | {type: "speech_started"}
 *   | {type: "partial", text: string, draft: string, lag_ms: number}
 *   | {type: "final", words: import("./captions.js").Word[]}
 *   | {type: "error", message: string, code: string, retry_after_ms?: number}
 * } Message
 */

/**
 * What is told of a session.
 *
 * @typedef {object} Listener
 * @property {() => void} opened The service listens.
 * @property {() => void} started Somebody speaks.
 * @property {(text: string, draft: string) => void} partial `draft` is the end of `text` that may still change.
 * @property {(words: import("./captions.js").Word[]) => void} final
 * @property {(problem: Problem | null) => void} closed The end: `null` if it is the one that was asked for.
 */

/** Sends a `Sound` while it grows, from one of its samples on, and tells what is heard of it. */
export class Live {
  #socket;
  #sound;
  #from;
  #sent;
  #sending = false;
  #opened = false;
  #ending = false;
  #lagS = 0;
  /** @type {Problem | null} */
  #error = null;
  #on;
  #progress = { sent: 0, at: performance.now() };

  /**
   * @param {import("./sound.js").Sound} sound
   * @param {number} from The first sample to be read; all times are seconds from the sound's own beginning.
   * @param {Listener} on
   * @throws {Problem} The key cannot be used in a browser.
   */
  constructor(sound, from, on) {
    this.#sound = sound;
    this.#from = from;
    this.#sent = from;
    this.#on = on;
    try {
      this.#socket = new WebSocket(liveAddress("ws"), key.value ? ["parakeet", `key.${key.value}`] : ["parakeet"]);
    } catch {
      throw new Problem(
        "Browsers cannot send this key for live audio, because of the characters in it. It works for recordings.",
      );
    }
    this.#socket.onopen = () => {
      this.#opened = true;
      this.#socket.send(JSON.stringify({ type: "config", encoding: "pcm_s16le", sample_rate: sound.rateHz }));
      this.push();
    };
    this.#socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    this.#socket.onclose = ({ code }) => this.#close(code);
  }

  /** Seconds of sound that are not in the text yet, as far as is known. */
  get lagS() {
    return this.#lagS + this.unsentS;
  }

  /** Seconds of sound that have not left this machine yet. */
  get unsentS() {
    const waiting = this.#sound.length - this.#sent + this.#socket.bufferedAmount / 2;
    return waiting / this.#sound.rateHz;
  }

  /** Seconds for which something has waited to leave and nothing did: a network may vanish without a word. */
  get stalledS() {
    const sent = this.#sent * 2 - this.#socket.bufferedAmount;
    if (sent !== this.#progress.sent || !this.#isOpen) this.#progress = { sent, at: performance.now() };
    return (performance.now() - this.#progress.at) / 1000;
  }

  /** Close without waiting for anything. */
  giveUp() {
    this.#error = new Problem("The connection was lost: the network has stopped responding.");
    // The browser itself may wait for the other side's goodbye; nobody else does.
    this.#socket.onclose = null;
    this.#socket.close();
    this.#close(LOST);
  }

  /** Send what the sound has grown by, as far as the network takes it. */
  async push() {
    if (this.#sending) return;
    this.#sending = true;
    while (this.#isOpen && this.#sent < this.#sound.length) {
      if (this.#socket.bufferedAmount > MOST_UNSENT) {
        // The next block of sound comes back to it; once there are no more of them, we do.
        if (!this.#ending) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
        continue;
      }
      const until = Math.min(this.#sound.length, this.#sent + MOST_FRAME);
      const bytes = await this.#sound.read(this.#sent, until);
      if (!this.#isOpen) break;
      this.#socket.send(bytes);
      this.#sent = until;
    }
    this.#sending = false;
    if (this.#ending && this.#isOpen) this.#socket.send('{"type":"close"}');
  }

  /** No more sound comes: have the rest read, then close. */
  finish() {
    this.#ending = true;
    this.push();
  }

  get #isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** @param {Message} message */
  #hear(message) {
    const beginS = this.#from / this.#sound.rateHz;
    switch (message.type) {
      case "ready":
        this.#on.opened();
        break;
      case "speech_started":
        this.#on.started();
        break;
      case "partial":
        this.#lagS = message.lag_ms / 1000;
        this.#on.partial(message.text, message.draft);
        break;
      case "final":
        this.#lagS = 0;
        this.#on.final(
          message.words.map(({ text, start, end }) => ({ text, start: start + beginS, end: end + beginS })),
        );
        break;
      case "error":
        this.#error = new Problem(message.message, {
          code: message.code,
          retryAfterS: (message.retry_after_ms ?? 0) / 1000,
        });
    }
  }

  /** @param {number} code */
  async #close(code) {
    this.#on.closed(this.#opened || this.#error ? this.#reason(code) : await whyRefused());
  }

  /** @param {number} code */
  #reason(code) {
    if (this.#error) return this.#error;
    if (code === GOING_AWAY) return new Problem("The service is shutting down or restarting.");
    if (code === DONE && this.#ending) return null;
    return new Problem("The connection was lost.");
  }
}
