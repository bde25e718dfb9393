// The jobs that were sent from this browser, so that they are found again: their ids and names, by whose they are.

const JOBS = "parakeet-jobs";
const ID = /^job_[0-9a-f]{32}$/;

/** @typedef {{id: string, name: string}} KnownJob */

/** Those of one owner, as `/config` names the owner; which key that is does not stand there. */
export class KnownJobs {
  /** @param {string} owner */
  constructor(owner) {
    this.owner = owner;
  }

  /** @returns {KnownJob[]} In the order in which they were sent. */
  get all() {
    return everything()[this.owner] ?? [];
  }

  /**
   * @param {KnownJob} job
   * @returns {boolean} Whether the browser remembers it.
   */
  add(job) {
    return this.#keep([...this.all, job]);
  }

  /** @param {string} id */
  remove(id) {
    this.#keep(this.all.filter((one) => one.id !== id));
  }

  /** @param {KnownJob[]} jobs */
  #keep(jobs) {
    const { [this.owner]: _, ...others } = everything();
    try {
      localStorage.setItem(JOBS, JSON.stringify(jobs.length ? { ...others, [this.owner]: jobs } : others));
      return true;
    } catch (error) {
      // There is no room, or none for this page.
      if (!(error instanceof DOMException)) throw error;
      return false;
    }
  }
}

/** @returns {Record<string, KnownJob[]>} What is stored, as far as it is what we store. */
function everything() {
  /** @type {unknown} */
  let stored;
  try {
    stored = JSON.parse(localStorage.getItem(JOBS) ?? "{}");
  } catch {
    // Somebody else wrote it, or the browser keeps nothing.
    return {};
  }
  if (typeof stored !== "object" || stored === null) return {};
  /** @type {Record<string, KnownJob[]>} */
  const known = {};
  for (const [owner, jobs] of Object.entries(stored)) if (Array.isArray(jobs)) known[owner] = jobs.filter(isJob);
  return known;
}

/** @param {Partial<KnownJob> | null} one */
function isJob(one) {
  return typeof one?.id === "string" && ID.test(one.id) && typeof one.name === "string";
}
