// Recordings that are sent and transcribed: short ones while the page waits, long ones as jobs of the service.

import { $, clock } from "./dom.js";
import { Following, isLong, newIdempotencyKey, remove, Submission } from "./job.js";
import { KnownJobs } from "./jobs.js";
import { Problem } from "./service.js";
import { kept } from "./state.js";
import { Upload } from "./upload.js";

/**
 * A recording, and its words as far as they have been read.
 *
 * @typedef {object} Item
 * @property {string} name
 * @property {File} [file] Absent if it was sent before the page was loaded.
 * @property {import("./captions.js").Word[]} words
 * @property {string} [job] The id of its job, if it has one.
 * @property {string} lastId Of the last event of the job that was heard.
 * @property {string} sendKey Makes one job of a recording that is sent again.
 */

/** Has recordings transcribed: sends one after the other, and then follows the jobs among them. */
export class Recordings {
  #page;
  /** @type {{cancel: () => void} | null} */
  #transfer = null;
  /** @type {Item[]} */
  #items = [];
  /** @type {KnownJobs | null} */
  #known = null;

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
    this.#items.push(...fit.map((file) => newItem(file.name, file)));
    this.#page.tell({ type: "recordings are added", names: fit.map(({ name }) => name) });
    // A job goes on without us.
    if (fit.length) this.#leave();
    if (this.#page.state.activity === "idle") this.#next();
    if (!large.length) return;
    const limitMib = Math.round((limit / 2 ** 20) * 100) / 100;
    const [names, are] = [large.map(({ name }) => name).join(", "), large.length > 1 ? "are" : "is"];
    const message = `${names} ${are} too large. The limit is ${limitMib} MiB.`;
    this.#page.tell({ type: "problem", message, remedy: null });
  }

  /** Take up the jobs that this browser has sent, now that the service has told whose we see. */
  find() {
    const { configuration, source } = this.#page.state;
    const owner = configuration?.jobs?.owner;
    if (this.#known && this.#known.owner !== owner && this.#items.some(({ job }) => job)) this.#page.empty();
    this.#known = owner ? new KnownJobs(owner) : null;
    if (source?.type === "speech") return;
    const here = new Set(this.#items.map(({ job }) => job));
    const found = this.#known?.all.filter(({ id }) => !here.has(id)) ?? [];
    this.#items.push(...found.map(({ id, name }) => ({ ...newItem(name), job: id })));
    this.#page.tell({ type: "jobs are found", names: found.map(({ name }) => name) });
    if (this.#page.state.activity === "idle") this.#followNext();
  }

  /** Send the recording that is shown once more. */
  retry() {
    const at = this.#page.state.shown;
    const file = this.#items[at]?.file;
    if (!file) return;
    this.#leave();
    if (this.#page.state.activity !== "idle") return;
    const { sendKey, job } = this.#items[at];
    // What has failed as a job is to become another one.
    this.#items[at] = { ...newItem(file.name, file), ...(job ? {} : { sendKey }) };
    this.#read(at);
  }

  /**
   * Show the transcript of another one.
   *
   * @param {number} at
   */
  show(at) {
    const { state, transcript, player } = this.#page;
    const progress = state.recordings[at]?.progress;
    if (at === state.shown || progress === "waiting") return;
    if (state.activity !== "idle" && !(this.#transfer instanceof Following)) return;
    // We listen to one at a time, for browsers have few connections: to that one which is looked at.
    if (progress === "sent") this.#leave();
    const { file, words } = this.#items[at];
    transcript.clear();
    transcript.add(words);
    if (file) player.load(file);
    else player.unload();
    this.#page.tell({ type: "recording is shown", at, words: words.length });
    player.measure();
    if (progress === "sent") this.#follow(at);
  }

  /** Stop, and read none of those that wait; a job is stopped, too, and goes from the service. */
  async cancel() {
    const item = this.#items[this.#page.state.reading];
    if (!item) return;
    this.#transfer?.cancel();
    this.#end("upload is cancelled");
    if (item.job) await this.#remove(item);
    if (this.#page.state.activity === "idle") this.#followNext();
  }

  /** Delete the recording that is shown, with all that the service knows of it. */
  async remove() {
    const item = this.#items[this.#page.state.shown];
    if (!await this.#remove(item)) return;
    this.#takeOff(item);
  }

  /**
   * Delete what the service keeps of those that have been read.
   *
   * @returns {Promise<boolean>} Whether nothing of them is left there.
   */
  async discard() {
    const { recordings } = this.#page.state;
    const done = this.#items.filter((_, at) => recordings[at].progress === "done");
    const removed = await Promise.all(done.map((item) => this.#remove(item)));
    return removed.every(Boolean);
  }

  /** Forget all of them; their jobs go on. */
  clear() {
    this.#transfer?.cancel();
    this.#transfer = null;
    this.#items = [];
  }

  /** Send the next one that waits, if there is one; else listen to the next one that was sent. */
  #next() {
    const at = this.#page.state.recordings.findIndex(({ progress }) => progress === "waiting");
    if (at >= 0) this.#read(at);
    return at >= 0 || this.#followNext();
  }

  #followNext() {
    const { recordings, shown } = this.#page.state;
    const isSent = (/** @type {import("./state.js").Recording} */ one) => one.progress === "sent";
    // Above all the one that somebody looks at.
    const at = shown >= 0 && isSent(recordings[shown]) ? shown : recordings.findIndex(isSent);
    if (at >= 0) this.#follow(at);
    return at >= 0;
  }

  /** @param {number} at */
  async #read(at) {
    const { transcript, player } = this.#page;
    const item = this.#items[at];
    const { file } = item;
    if (!file) return;
    transcript.clear();
    player.load(file);
    let isCancelled = false;
    this.#transfer = { cancel: () => (isCancelled = true) };
    this.#page.tell({ type: "upload starts", at });
    $("cancel", HTMLElement).focus();
    const isJob = this.#known && await isLong(file);
    if (!isCancelled) this.#transfer = isJob ? this.#submit(item, file) : this.#upload(item, file);
  }

  /**
   * @param {Item} item
   * @param {File} file
   */
  #upload(item, file) {
    const { transcript, player } = this.#page;
    return new Upload(file, {
      sent: (share) => this.#page.tell({ type: "upload is sent", share }),
      progress: ({ words, draft, read_until: untilS }) =>
        this.#hear(item, words, draft.map((word) => word.text).join(" "), untilS, player.duration),
      done: (answer) => {
        item.words = answer.timestamps.words;
        transcript.settle(item.words);
        player.measure();
        this.#end("upload is done");
        this.#next();
      },
      failed: (problem) => {
        this.#end("upload fails");
        // Another one may well be read; a key or a service that is missing would fail it, too.
        const isItsOwn = problem.code === "undecodable_audio" || problem.code === "empty_audio";
        if (isItsOwn && this.#next()) return;
        this.#report(item, problem);
      },
    });
  }

  /**
   * @param {Item} item
   * @param {File} file
   */
  #submit(item, file) {
    return new Submission(file, item.sendKey, {
      sent: (share) => this.#page.tell({ type: "upload is sent", share }),
      stored: (id) => {
        item.job = id;
        const isKnown = this.#known?.add({ id, name: item.name });
        this.#transfer = null;
        this.#page.tell({ type: "job is sent" });
        this.#next();
        if (isKnown) return;
        const message =
          "This browser remembers nothing for this page. Leave the page open until the transcript is there.";
        this.#page.tell({ type: "problem", message, remedy: null });
      },
      failed: (problem) => {
        this.#end("upload fails");
        this.#report(item, problem);
      },
    });
  }

  /**
   * A recording could not be sent; jobs that were are listened to all the same, if we may.
   *
   * @param {Item} item
   * @param {Problem} problem
   */
  #report({ words }, { message, code }) {
    this.#page.report({ message: message + kept(words.length), code }, "retry");
    if (code !== "unauthorized") this.#followNext();
  }

  /** @param {number} at */
  #follow(at) {
    const { transcript, player } = this.#page;
    const item = this.#items[at];
    const isShown = () => this.#items[this.#page.state.shown] === item;
    this.#page.tell({ type: "job is followed", at });
    if (isShown() && !item.file) player.unload();
    this.#transfer = new Following(item.job ?? "", item.lastId, {
      met: ({ status, progress }) => {
        if (status === "queued") this.#wait(item, "Waiting for its turn");
        else this.#hear(item, [], "", progress.done_s, progress.duration_s ?? NaN);
      },
      progress: ({ words, draft, done_s: doneS, duration_s: durationS }, id) => {
        item.lastId = id;
        this.#hear(item, words, draft, doneS, durationS);
      },
      waits: (problem) => {
        this.#wait(item, `${problem.message} Trying again`);
        this.#page.meet();
      },
      done: (words) => {
        item.words = words;
        if (isShown()) transcript.settle(words);
        player.measure();
        this.#end("upload is done");
        this.#next();
      },
      failed: (problem) => this.#fail(item, problem),
      gone: () => this.#lose(item),
      lost: (problem) => {
        this.#leave();
        this.#page.report(problem);
      },
    });
  }

  /**
   * A job has ended without a transcript.
   *
   * @param {Item} item
   * @param {Problem} problem
   */
  #fail(item, { message, code }) {
    if (item.job) this.#known?.remove(item.job);
    this.#end("upload fails");
    const isShown = this.#items[this.#page.state.shown] === item;
    const told = `${item.name}: ${message}${kept(item.words.length)}`;
    this.#page.report({ message: told, code }, isShown && item.file ? "retry" : null);
    this.#next();
  }

  /**
   * The service has no such job any more.
   *
   * @param {Item} item
   */
  #lose(item) {
    if (item.job) this.#known?.remove(item.job);
    this.#end("upload fails");
    if (!item.words.length) this.#takeOff(item);
    const message = `The service no longer keeps ${item.name}.${kept(item.words.length)}`;
    this.#page.tell({ type: "problem", message, remedy: null });
    this.#next();
  }

  /** Listen no more to a job, which goes on. */
  #leave() {
    if (!(this.#transfer instanceof Following)) return;
    this.#transfer.cancel();
    this.#transfer = null;
    this.#page.transcript.draft("", "");
    this.#page.tell({ type: "job is left" });
  }

  /**
   * Have the job of a recording gone from the service.
   *
   * @param {Item} item
   * @returns {Promise<boolean>} Whether it is.
   */
  async #remove({ job, name }) {
    if (!job) return true;
    try {
      await remove(job);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#page.report({ message: `${name} is still on the service. ${error.message}`, code: error.code });
      return false;
    }
    this.#known?.remove(job);
    return true;
  }

  /**
   * Take a recording off the page, and show another one.
   *
   * @param {Item} item
   */
  #takeOff(item) {
    const at = this.#items.indexOf(item);
    if (at < 0) return;
    this.#items.splice(at, 1);
    this.#page.tell({ type: "recording is removed", at });
    const { recordings, shown } = this.#page.state;
    if (!recordings.length) this.#page.empty();
    else if (shown < 0) this.show(Math.max(recordings.findIndex(({ progress }) => progress !== "waiting"), 0));
  }

  /**
   * New words of the one that is read.
   *
   * @param {Item} item
   * @param {import("./captions.js").Word[]} words
   * @param {string} draft
   * @param {number} untilS How far it has been read.
   * @param {number} durationS `NaN` if that is unknown.
   */
  #hear(item, words, draft, untilS, durationS) {
    const { transcript, state } = this.#page;
    item.words.push(...words);
    if (this.#items[state.shown] === item) {
      transcript.add(words);
      transcript.draft("", draft);
    }
    const whole = item.job && durationS ? `of ${clock(durationS)}` : "so far";
    this.#page.tell({
      type: "upload is read",
      words: item.words.length,
      label: `Transcribing: ${clock(untilS)} ${whole}`,
      share: durationS ? untilS / durationS : null,
    });
  }

  /**
   * @param {Item} item
   * @param {string} label
   */
  #wait(item, label) {
    this.#page.tell({ type: "upload is read", words: item.words.length, label, share: null });
  }

  /** @param {"upload is done" | "upload fails" | "upload is cancelled"} type */
  #end(type) {
    const hasFocus = $("cancel", HTMLElement) === document.activeElement;
    const { state, transcript } = this.#page;
    this.#transfer = null;
    transcript.draft("", "");
    this.#page.tell({ type, words: this.#items[state.reading].words.length });
    // Whoever was on the button that goes is led to the words.
    if (hasFocus) (transcript.stop ?? $("file", HTMLElement)).focus({ preventScroll: true });
  }
}

/**
 * @param {string} name
 * @param {File} [file]
 * @returns {Item}
 */
function newItem(name, file) {
  return { name, file, words: [], lastId: "", sendKey: newIdempotencyKey() };
}
