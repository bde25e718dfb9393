// Whether the service can be used, what it is, and whether it knows us.

import { $ } from "./dom.js";
import { configuration, key, Problem, whyNotReady } from "./service.js";

const POLL_MS = 1000;

/** Follows the state of the service. */
export class Connection {
  #page;
  /** @type {Promise<void> | null} */
  #meeting = null;

  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.#page = page;
  }

  /** See whether the service can be used, wait until it can, and learn what it is. */
  meet() {
    this.#meeting ??= this.#greet().finally(() => (this.#meeting = null));
  }

  /**
   * Try a key.
   *
   * @param {string} text
   * @returns {Promise<boolean>} Whether it is accepted.
   */
  async unlock(text) {
    key.value = text;
    this.#page.tell({ type: "key is tried" });
    const isAccepted = await this.#identify();
    if (isAccepted) this.#page.tell({ type: "key is accepted" });
    return isAccepted;
  }

  /** Ask for another key. */
  lock(/** @type {import("./state.js").Remedy | null} */ remedy) {
    const wasRefused = Boolean(key.value);
    key.value = "";
    this.#page.tell({ type: "key is needed", wasRefused, remedy });
    $("key", HTMLInputElement).focus();
  }

  async #greet() {
    for (let reason; (reason = await whyNotReady());) {
      this.#page.tell({ type: "service waits", reason });
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    this.#page.tell({ type: "service is ready" });
    if (!this.#page.state.configuration) await this.#identify();
  }

  /** Ask for the settings, which takes the key if there are keys. */
  async #identify() {
    try {
      const known = await configuration();
      this.#page.tell({ type: "service is known", configuration: known, hasKey: Boolean(key.value) });
      this.#page.meetJobs();
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#page.report(error);
      return false;
    }
  }
}
