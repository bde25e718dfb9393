// A recording that is uploaded and transcribed.

import { $, clock } from "./dom.js";
import { kept } from "./state.js";
import { Upload } from "./upload.js";

/** Has recordings transcribed, one at a time. */
export class Recordings {
  #page;
  /** @type {Upload | null} */
  #upload = null;
  /** @type {File | null} */
  #file = null;

  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.#page = page;
  }

  /**
   * Upload a recording and show its words as they come.
   *
   * @param {File} file
   */
  read(file) {
    const { state, transcript, player } = this.#page;
    if (state.activity !== "idle" || state.waiting !== null || !this.#page.clear()) return;
    const limit = state.configuration?.settings.max_upload_bytes ?? Infinity;
    if (file.size > limit) {
      const limitMib = Math.round((limit / 2 ** 20) * 100) / 100;
      this.#page.tell({
        type: "problem",
        message: `${file.name} is too large. The limit is ${limitMib} MiB.`,
        remedy: null,
      });
      return;
    }
    this.#file = file;
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
      },
      failed: (problem) => {
        this.#end({ type: "upload fails" });
        this.#page.report({ message: problem.message + kept(this.#page.state), code: problem.code }, "retry");
      },
    });
    this.#page.tell({ type: "upload starts", name: file.name });
    $("cancel", HTMLElement).focus();
  }

  /** Upload the last recording once more. */
  retry() {
    if (this.#file) this.read(this.#file);
  }

  cancel() {
    this.#upload?.cancel();
    this.#end({ type: "upload is cancelled" });
  }

  /** @param {import("./state.js").Event} event */
  #end(event) {
    const hasFocus = $("cancel", HTMLElement) === document.activeElement;
    this.#upload = null;
    this.#page.transcript.draft("", "");
    this.#page.tell(event);
    // Whoever was on the button that goes is led to the words.
    if (hasFocus) (this.#page.transcript.stop ?? $("file", HTMLElement)).focus({ preventScroll: true });
  }
}
