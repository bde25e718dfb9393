// A recording on its way to the service, and its words on their way back.

import { address, credentials, Problem, problemIn, UNREACHABLE } from "./service.js";

/** @typedef {import("./captions.js").Word} Word */

/**
 * @typedef {{type: "progress", words: Word[], draft: Word[], read_until: number}} Progress
 * @typedef {{type: "done", text: string, timestamps: {words: Word[]}}} Answer
 * @typedef {{type: "error", error: {message: string, code: string}}} Failure
 */

/**
 * What is told of an upload.
 *
 * @typedef {object} Listener
 * @property {(share: number) => void} sent How much has left this machine, in [0, 1].
 * @property {(progress: Progress) => void} progress
 * @property {(answer: Answer) => void} done
 * @property {(problem: Problem) => void} failed
 */

/** One `POST /transcribe`. */
export class Upload {
  // Not `fetch`: that one does not tell how much of the recording has been sent.
  #request = new XMLHttpRequest();
  #read = 0;
  #over = false;

  /**
   * @param {File} file
   * @param {Listener} on
   */
  constructor(file, on) {
    const form = new FormData();
    form.append("include_timestamps", "true");
    form.append("stream", "true");
    form.append("file", file);
    const request = this.#request;
    request.open("POST", address("transcribe"));
    for (const [name, value] of Object.entries(credentials())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => on.sent(loaded / total);
    request.upload.onload = () => on.sent(1);
    request.onprogress = () => this.#take(on);
    request.onload = () => {
      if (request.status === 200) this.#take(on);
      else {
        this.#end(() =>
          on.failed(problemIn(request.status, request.responseText, request.getResponseHeader("retry-after")))
        );
      }
      this.#end(() => on.failed(new Problem("The answer ended too early.", { code: UNREACHABLE })));
    };
    request.onerror = () => this.#end(() => on.failed(new Problem("The connection was lost.", { code: UNREACHABLE })));
    request.send(form);
  }

  /** Stop; nothing more is told. The service stops its work, too. */
  cancel() {
    this.#over = true;
    this.#request.abort();
  }

  /**
   * Tell the server-sent events that have come as a whole.
   *
   * @param {Listener} on
   */
  #take(on) {
    if (this.#request.status !== 200) return;
    const text = this.#request.responseText;
    for (let end; (end = text.indexOf("\n\n", this.#read)) >= 0;) {
      const piece = text.slice(this.#read, end);
      this.#read = end + 2;
      // The others are comments, signs of life.
      if (!piece.startsWith("data: ") || this.#over) continue;
      /** @type {Progress | Answer | Failure} */
      const event = JSON.parse(piece.slice("data: ".length));
      if (event.type === "progress") on.progress(event);
      else if (event.type === "done") this.#end(() => on.done(event));
      else this.#end(() => on.failed(new Problem(event.error.message, { code: event.error.code })));
    }
  }

  /** @param {() => void} tell */
  #end(tell) {
    if (this.#over) return;
    this.#over = true;
    tell();
  }
}
