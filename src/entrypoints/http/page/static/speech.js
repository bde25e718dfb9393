// What is spoken: from the microphone to the service, and kept.

import { $, clock } from "./dom.js";
import { Live } from "./live.js";
import { openMicrophone } from "./microphone.js";
import { Problem, UNREACHABLE } from "./service.js";
import { Sound } from "./sound.js";
import { kept } from "./state.js";

const LOST_S = 1;
// No utterance is longer: what lies farther back than this has been read, or is silence.
const LONGEST_UNREAD_S = 60;
const GIVE_UP_S = 30;
const LONGEST_WAIT_MS = 10_000;
// After these, the same may work a little later; the empty one is a connection that was lost.
const PASSING = ["", UNREACHABLE, "model_not_ready", "too_many_streams", "shutting_down"];

/** Listens, and goes on later where it stopped. */
export class Speech {
  #page;
  /** @type {Sound | null} */
  #sound = null;
  /** @type {import("./microphone.js").Microphone | null} */
  #microphone = null;
  /** @type {Live | null} */
  #live = null;
  /** So many samples of the sound are among the words, or hold none. */
  #read = 0;
  #isSpeaking = false;
  /** Ends the waiting for the browser to open the microphone. */
  #opening = new AbortController();
  #isConnected = false;
  /** How often it was connected in vain since it was connected last. */
  #failures = 0;
  #retry = 0; // the timer of the next attempt

  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.#page = page;
  }

  /** All that was spoken, as a file. */
  wav() {
    if (!this.#sound) throw new Error("nothing was spoken");
    return this.#sound.wav();
  }

  /** Begin to listen, or go on: what a broken connection left unread is read first. */
  async listen() {
    const { state, player } = this.#page;
    if (state.activity !== "idle") return;
    if (state.source?.type === "recording" && !this.#page.clear()) return;
    player.unload();
    this.#page.tell({ type: "microphone opens" });
    this.#opening = new AbortController();
    this.#isConnected = false;
    this.#failures = 0;
    try {
      const microphone = await openMicrophone(
        (block) => this.#hear(block),
        () => this.stop("The microphone was disconnected."),
        this.#opening.signal,
        this.#sound?.rateHz,
      );
      if (!microphone) {
        this.#page.tell({ type: "microphone fails" });
        return;
      }
      this.#microphone = microphone;
      this.#sound ??= new Sound(microphone.rateHz);
      this.#live = this.#connect(this.#sound);
      this.#page.tell({ type: "microphone is open" });
    } catch (error) {
      await this.#closeMicrophone();
      this.#page.tell({ type: "microphone fails" });
      if (!(error instanceof Problem)) throw error;
      this.#page.report(error);
    }
  }

  /** Do not wait for the browser any longer. */
  cancel() {
    this.#opening.abort();
  }

  /**
   * Close the microphone, and wait for the last words.
   *
   * @param {string} [why] To be told, if nobody asked for it.
   */
  async stop(why = "") {
    if (this.#page.state.activity !== "listening") return;
    const live = this.#live;
    this.#page.tell({ type: "microphone closes", why });
    await this.#closeMicrophone();
    clearTimeout(this.#retry);
    if (live) live.finish();
    else if (this.#sound) this.#breakOff(this.#sound, new Problem("The connection was lost."), true);
  }

  /** Forget what was spoken. */
  clear() {
    this.#sound = null;
    this.#read = 0;
    $("spoken", HTMLElement).replaceChildren();
  }

  /** @param {Float32Array} block */
  #hear(block) {
    if (!this.#sound) return;
    this.#sound.append(block);
    this.#live?.push();
    const loudness = Math.sqrt(block.reduce((sum, sample) => sum + sample * sample, 0) / (block.length || 1));
    // From -60 dB to 0 dB.
    this.#meter(Math.max(0, 1 + Math.log10(Math.max(loudness, 1e-6)) / 3));
    if (this.#live && this.#live.stalledS > GIVE_UP_S) this.#live.giveUp();
  }

  /** @param {number} level */
  #meter(level) {
    const seconds = this.#sound?.seconds ?? 0;
    const [lagS, unsentS] = [this.#live?.lagS ?? 0, this.#live?.unsentS ?? 0];
    this.#page.tell({ type: "microphone is metered", meter: { seconds, level, lagS, unsentS } });
  }

  /** @param {Sound} sound */
  #connect(sound) {
    const { transcript } = this.#page;
    this.#isSpeaking = false;
    const live = new Live(sound, this.#read, {
      opened: () => {
        this.#isConnected = true;
        this.#failures = 0;
        if (this.#page.state.isReconnecting) this.#page.tell({ type: "connection is back" });
      },
      started: () => {
        this.#isSpeaking = true;
      },
      partial: (text, draft) => {
        transcript.draft(text.slice(0, text.length - draft.length).trimEnd(), draft);
        this.#meter(this.#page.state.meter.level);
      },
      final: (words) => {
        this.#isSpeaking = false;
        transcript.draft("", "");
        const last = words.at(-1);
        if (!last) return;
        this.#read = Math.round(last.end * sound.rateHz);
        transcript.add(words);
        this.#page.tell({ type: "words are heard", words: transcript.words.length });
        readOut(words.map((word) => word.text).join(" "));
      },
      closed: (problem) => this.#closed(sound, live, problem),
    });
    return live;
  }

  /**
   * @param {Sound} sound
   * @param {Live} live
   * @param {Problem | null} problem
   */
  async #closed(sound, live, problem) {
    const isLost = this.#isSpeaking || live.unsentS > LOST_S;
    this.#live = null;
    // What was sent longer ago than an utterance lasts has been read; what could not be sent has not.
    const unsent = Math.round(live.unsentS * sound.rateHz);
    this.#read = Math.max(this.#read, sound.length - unsent - LONGEST_UNREAD_S * sound.rateHz);
    const goesOn = problem && this.#isConnected && PASSING.includes(problem.code);
    if (goesOn && this.#page.state.activity === "listening") {
      this.#reconnect(sound, problem);
      return;
    }
    if (problem && this.#page.state.activity === "listening") this.#page.tell({ type: "microphone closes", why: "" });
    await this.#closeMicrophone();
    if (!problem) {
      if (sound.length) this.#page.player.load(sound.wav());
      this.#read = sound.length;
      this.#page.transcript.draft("", "");
      this.#page.tell({ type: "speech is read" });
      return;
    }
    this.#breakOff(sound, problem, isLost);
  }

  /**
   * The microphone goes on; what it hears is kept until the service can be had again.
   *
   * @param {Sound} sound
   * @param {Problem} problem
   */
  #reconnect(sound, problem) {
    const why = `${problem.message} The microphone is still on: what you say is kept, and transcribed when the ` +
      "service is back.";
    this.#page.tell({ type: "connection is lost", why });
    this.#page.meet();
    const waitMs = Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.#failures++);
    this.#retry = setTimeout(() => {
      if (this.#page.state.activity === "listening") this.#live = this.#connect(sound);
    }, waitMs);
  }

  /**
   * The end, but not the one that was wished for.
   *
   * @param {Sound} sound
   * @param {Problem} problem
   * @param {boolean} isLost Whether something was said that has not been transcribed.
   */
  #breakOff(sound, problem, isLost) {
    if (sound.length) this.#page.player.load(sound.wav());
    this.#page.tell({ type: "speech breaks off" });
    const since = clock(this.#read / sound.rateHz);
    const lost =
      ` What you said after ${since} has not been transcribed yet. It is kept, and will be transcribed when you reconnect.`;
    const message = problem.message + kept(this.#page.state.words) + (isLost ? lost : "");
    this.#page.report({ message, code: problem.code }, isLost ? "reconnect" : "continue");
  }

  /** Close the microphone, if it is open; its last samples come before this is done. */
  async #closeMicrophone() {
    const open = this.#microphone;
    this.#microphone = null;
    await open?.stop();
  }
}

/**
 * Let a screen reader say what was said last, once it is final.
 *
 * @param {string} text
 */
function readOut(text) {
  const spoken = $("spoken", HTMLElement);
  const line = document.createElement("p");
  line.textContent = text;
  spoken.append(line);
  if (spoken.children.length > 3) spoken.firstElementChild?.remove();
}
