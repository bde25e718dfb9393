// A recording that is uploaded and transcribed.

import { $, clock } from "./dom.js";
import { kept } from "./state.js";
import { Upload } from "./upload.js";

/**
 * A recording, and its words once they have been read.
 *
 * @typedef {{file: File, words: import("./captions.js").Word[]}} Item
 */

/** Has recordings transcribed, one after the other. */
export class Recordings {
  #page;
  /** @type {Upload | null} */
  #upload = null;
  /** @type {Item[]} */
  #items = [];

  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.#page = page;
  }

  /**
   * Transcribe these, after those that wait already.
   *
   * @param {File[]} files
   */
  add(files) {
    const { state } = this.#page;
    if (state.waiting !== null) return;
    // What was spoken makes room, if it may.
    if (state.source?.type === "speech" && !this.#page.clear()) return;
    const limit = state.configuration?.settings.max_upload_bytes ?? Infinity;
    const [fit, large] = [files.filter(({ size }) => size <= limit), files.filter(({ size }) => size > limit)];
    this.#items.push(...fit.map((file) => ({ file, words: [] })));
    this.#page.tell({ type: "recordings are added", names: fit.map(({ name }) => name) });
    if (state.activity === "idle") this.#next();
    if (!large.length) return;
    const limitMib = Math.round((limit / 2 ** 20) * 100) / 100;
    const [names, are] = [large.map(({ name }) => name).join(", "), large.length > 1 ? "are" : "is"];
    const message = `${names} ${are} too large. The limit is ${limitMib} MiB.`;
    this.#page.tell({ type: "problem", message, remedy: null });
  }

  /** Upload the recording that is shown once more. */
  retry() {
    if (this.#page.state.activity === "idle") this.#read(this.#page.state.shown);
  }

  /**
   * Show the transcript of another one.
   *
   * @param {number} at
   */
  show(at) {
    const { state, transcript, player } = this.#page;
    if (state.activity !== "idle" || at === state.shown || state.recordings[at]?.progress === "waiting") return;
    const { file, words } = this.#items[at];
    transcript.clear();
    transcript.add(words);
    player.load(file);
    this.#page.tell({ type: "recording is shown", at, words: words.length });
    player.measure();
  }

  /** Stop, and read none of those that wait. */
  cancel() {
    this.#upload?.cancel();
    this.#end({ type: "upload is cancelled" });
  }

  /** Forget all of them. */
  clear() {
    this.#items = [];
  }

  /** Read the next one that waits, if there is one. */
  #next() {
    const at = this.#page.state.recordings.findIndex(({ progress }) => progress === "waiting");
    if (at >= 0) this.#read(at);
    return at >= 0;
  }

  /** @param {number} at */
  #read(at) {
    const { transcript, player } = this.#page;
    const { file } = this.#items[at];
    transcript.clear();
    player.load(file);
    this.#upload = new Upload(file, {
      sent: (share) => this.#page.tell({ type: "upload is sent", share }),
      progress: ({ words, draft, read_until: untilS }) => {
        transcript.add(words);
        transcript.draft("", draft.map((word) => word.text).join(" "));
        this.#page.tell({
          type: "upload is read",
          words: transcript.words.length,
          label: `Transcribing: ${clock(untilS)} so far`,
          share: player.duration ? untilS / player.duration : null,
        });
      },
      done: (answer) => {
        transcript.settle(answer.timestamps.words);
        player.measure();
        this.#end({ type: "upload is done", words: transcript.words.length });
        this.#next();
      },
      failed: (problem) => {
        this.#end({ type: "upload fails" });
        const { state } = this.#page;
        // Another one may well be read; a key or a service that is missing would fail it, too.
        const isItsOwn = problem.code === "undecodable_audio" || problem.code === "empty_audio";
        if (isItsOwn && this.#next()) return;
        this.#page.report({ message: problem.message + kept(state), code: problem.code }, "retry");
      },
    });
    this.#page.tell({ type: "upload starts", at });
    $("cancel", HTMLElement).focus();
  }

  /** @param {import("./state.js").Event} event */
  #end(event) {
    const hasFocus = $("cancel", HTMLElement) === document.activeElement;
    const { state, transcript } = this.#page;
    this.#upload = null;
    this.#items[state.shown].words = [...transcript.words];
    transcript.draft("", "");
    this.#page.tell(event);
    // Whoever was on the button that goes is led to the words.
    if (hasFocus) (transcript.stop ?? $("file", HTMLElement)).focus({ preventScroll: true });
  }
}
