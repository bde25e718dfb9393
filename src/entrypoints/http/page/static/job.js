// A long recording that the service transcribes in the background: sent once, and followed until its end.

import { address, credentials, Problem, problemIn, UNREACHABLE } from "./service.js";

/** @typedef {import("./captions.js").Word} Word */

/**
 * A job as the service tells it.
 *
 * @typedef {object} Job
 * @property {string} id
 * @property {"queued" | "running" | "completed" | "failed" | "cancelled"} status
 * @property {{done_s: number, duration_s: number | null}} progress
 * @property {{code: string, message: string} | null} error
 */

/** @typedef {{done_s: number, duration_s: number, words: Word[], draft: string}} Progress */

/**
 * @typedef {object} SubmissionListener
 * @property {(share: number) => void} sent How much has left this machine, in [0, 1].
 * @property {(id: string) => void} stored The service has it, and keeps it whatever happens to the page.
 * @property {(problem: Problem) => void} failed
 */

/**
 * @typedef {object} FollowingListener
 * @property {(job: Job) => void} met How it stands now.
 * @property {(progress: Progress, id: string) => void} progress With the id of the event.
 * @property {(problem: Problem) => void} waits The service does not answer; it is asked again.
 * @property {(words: Word[]) => void} done
 * @property {(problem: Problem) => void} failed It has ended without a transcript.
 * @property {() => void} gone The service has no such job any more.
 * @property {(problem: Problem) => void} lost It goes on, but we may not hear of it.
 */

const LONG_S = 600;
const LARGE_BYTES = 16 << 20;
const MEASURE_MS = 3000;
const PAUSES_MS = [500, 1000, 2000, 5000];
// The service says every ten seconds that it lives.
const QUIET_MS = 30_000;

/**
 * Whether a recording is sent as a job: one of more than ten minutes, or of more than 16 MiB where the browser cannot
 * tell how long it is.
 *
 * @param {File} file
 */
export async function isLong(file) {
  const seconds = await durationOf(file);
  return Number.isFinite(seconds) ? seconds > LONG_S : file.size > LARGE_BYTES;
}

/** @param {File} file */
async function durationOf(file) {
  const audio = new Audio();
  const url = URL.createObjectURL(file);
  try {
    return await new Promise((resolve) => {
      audio.preload = "metadata";
      audio.onloadedmetadata = () => resolve(audio.duration);
      audio.onerror = () => resolve(NaN);
      setTimeout(resolve, MEASURE_MS, NaN);
      audio.src = url;
    });
  } finally {
    audio.removeAttribute("src");
    URL.revokeObjectURL(url);
  }
}

/** A key under which a recording that is sent again makes no second job. */
export function newIdempotencyKey() {
  // Not `randomUUID`, which browsers have on secure pages only.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One `POST /v1/jobs`. */
export class Submission {
  // Not `fetch`: that one does not tell how much of the recording has been sent.
  #request = new XMLHttpRequest();

  /**
   * @param {File} file
   * @param {string} idempotencyKey
   * @param {SubmissionListener} on
   */
  constructor(file, idempotencyKey, on) {
    const form = new FormData();
    form.append("metadata", JSON.stringify({ name: file.name }));
    form.append("file", file);
    const request = this.#request;
    request.open("POST", address("v1/jobs"));
    request.setRequestHeader("idempotency-key", idempotencyKey);
    for (const [name, value] of Object.entries(credentials())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => on.sent(loaded / total);
    request.upload.onload = () => on.sent(1);
    request.onload = () => {
      const { status, responseText } = request;
      if (status === 202) on.stored(JSON.parse(responseText).id);
      else on.failed(problemIn(status, responseText, request.getResponseHeader("retry-after")));
    };
    request.onerror = () => on.failed(new Problem("The connection was lost.", { code: UNREACHABLE }));
    request.send(form);
  }

  /** Stop; nothing more is told. */
  cancel() {
    this.#request.abort();
  }
}

/** Listens to a job until its end, however often the connection or the service is lost. */
export class Following {
  #path;
  #on;
  #stop = new AbortController();
  #lastId;

  /**
   * @param {string} id
   * @param {string} lastId Of the event behind which to go on; an empty text for all of them.
   * @param {FollowingListener} on
   */
  constructor(id, lastId, on) {
    this.#lastId = lastId;
    this.#path = `v1/jobs/${id}`;
    this.#on = on;
    this.#follow();
  }

  /** Listen no more; nothing more is told. The job goes on. */
  cancel() {
    this.#stop.abort();
  }

  async #follow() {
    for (let failures = 0; !this.#isOver; failures++) {
      let pauseMs = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
      try {
        const before = this.#lastId;
        const tell = await this.#listen();
        if (this.#isOver) return;
        if (tell) return tell();
        if (this.#lastId !== before) failures = 0;
      } catch (error) {
        if (this.#isOver) return;
        if (!(error instanceof Problem)) throw error;
        if (error.code === "job_not_found") return this.#on.gone();
        if (!isPassing(error)) return this.#on.lost(error);
        this.#on.waits(error);
        pauseMs = Math.max(pauseMs, error.retryAfterS * 1000);
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  get #isOver() {
    return this.#stop.signal.aborted;
  }

  /**
   * Listen for as long as the connection holds.
   *
   * @returns {Promise<(() => void) | null>} What is to be told at the end; `null` if that has not come.
   */
  async #listen() {
    /** @type {Job} */
    const job = await jsonOf(await this.#ask(""));
    if (this.#isOver) return null;
    this.#on.met(job);
    if (isFinal(job)) return this.#ended(job);
    const response = await this.#ask("/events", this.#lastId ? { "last-event-id": this.#lastId } : {});
    for await (const { id, type, data } of eventsIn(response)) {
      if (this.#isOver) return null;
      if (type !== "job.progress") return this.#ended(JSON.parse(data));
      this.#lastId = id;
      this.#on.progress(JSON.parse(data), id);
    }
    return null;
  }

  /**
   * What is to be told of a job that has ended.
   *
   * @param {Job} job
   */
  async #ended({ status, error }) {
    if (status === "completed") {
      /** @type {{words: {word: string, start: number, end: number}[]}} */
      const { words } = await jsonOf(await this.#ask("/result?response_format=verbose_json"));
      return () => this.#on.done(words.map(({ word, start, end }) => ({ text: word, start, end })));
    }
    const problem = new Problem(error?.message ?? "It was cancelled elsewhere.", { code: error?.code });
    return () => this.#on.failed(problem);
  }

  /**
   * @param {string} what Below the job.
   * @param {Record<string, string>} [headers]
   */
  async #ask(what, headers = {}) {
    return await ask("GET", this.#path + what, { headers, signal: this.#stop.signal });
  }
}

/**
 * Have a job gone, whether it has ended or not, and all that the service knows of it.
 *
 * @param {string} id
 * @throws {Problem} It is still there.
 */
export async function remove(id) {
  try {
    // What has not ended is cancelled first, and may end by itself meanwhile.
    for (let status = 0; status !== 204;) ({ status } = await ask("DELETE", `v1/jobs/${id}`));
  } catch (error) {
    if (!(error instanceof Problem && error.code === "job_not_found")) throw error;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{headers?: Record<string, string>, signal?: AbortSignal}} [options]
 */
async function ask(method, path, { headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers: { ...credentials(), ...headers },
      cache: "no-store",
      signal,
    });
  } catch {
    throw new Problem("The service cannot be reached.", { code: UNREACHABLE });
  }
  if (!response.ok) throw problemIn(response.status, await response.text(), response.headers.get("retry-after"));
  return response;
}

/**
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function jsonOf(response) {
  try {
    return await response.json();
  } catch {
    throw new Problem("The answer ended too early.", { code: UNREACHABLE });
  }
}

/**
 * The server-sent events of an answer, as they come as a whole; it ends with the connection, however that ends.
 *
 * Not by `EventSource`, which cannot send a key.
 *
 * @param {Response} response
 */
async function* eventsIn(response) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let text = "";
  for (;;) {
    const timer = setTimeout(() => reader.cancel(), QUIET_MS);
    // A connection that breaks is one that ends: what has come is told, and the rest is asked for again.
    const { value, done } = await reader.read().catch(() => ({ value: "", done: true }));
    clearTimeout(timer);
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const fields = new Map(
        text.slice(0, end).split("\n").map((line) => {
          const colon = line.indexOf(":");
          return [line.slice(0, colon), line.slice(colon + 2)];
        }),
      );
      const data = fields.get("data");
      // The others are comments, signs of life.
      if (data) yield { id: fields.get("id") ?? "", type: fields.get("event") ?? "", data };
    }
  }
}

/** @param {Job} job */
function isFinal({ status }) {
  return status !== "queued" && status !== "running";
}

/** @param {Problem} problem */
function isPassing({ code, status }) {
  return code === UNREACHABLE || status >= 500 || status === 429;
}
