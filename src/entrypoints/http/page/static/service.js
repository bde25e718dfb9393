// Where the service is, the key to it, and what went wrong.

const KEY = "parakeet-key";

/**
 * The settings that the page obeys, and the model.
 *
 * @typedef {object} Configuration
 * @property {{max_upload_bytes: number}} settings
 * @property {{id: string, note?: string} | null} model
 * @property {{owner: string} | null} jobs Whose jobs we see; `null` where the service has none.
 */

/** Something that a person must hear; `code` is the service's, or one of ours. */
export class Problem extends Error {
  /**
   * @param {string} message A sentence, or several.
   * @param {{code?: string, status?: number, retryAfterS?: number}} [facts] The status is HTTP's, 0 without an answer.
   */
  constructor(message, { code = "", status = 0, retryAfterS = 0 } = {}) {
    const wait = Math.ceil(retryAfterS);
    super(wait ? `${message} Try again in ${wait} ${wait === 1 ? "second" : "seconds"}.` : message);
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export const UNREACHABLE = "unreachable";

/** The API key: in this tab's storage alone. */
export const key = {
  get value() {
    return sessionStorage.getItem(KEY) ?? "";
  },
  set value(text) {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  },
};

/** @returns {Record<string, string>} What a request carries that says who asks. */
export function credentials() {
  return key.value ? { authorization: `Bearer ${key.value}` } : {};
}

/** @param {string} path Relative to the page, which a proxy may have put anywhere. */
export function address(path) {
  return new URL(path, document.baseURI);
}

/**
 * The address of a WebSocket.
 *
 * @param {string} path Relative to the page.
 */
export function liveAddress(path) {
  const url = address(path);
  url.protocol = url.protocol.replace("http", "ws");
  return url;
}

// The service says in JSON what is wrong. These come without it, from what is in between.
const NOT_REACHED = "A proxy in front of the service cannot reach it.";
/** @type {Record<number, string>} */
const FROM_PROXIES = {
  413: "This recording is too large for a proxy in front of the service. Whoever runs the proxy can raise its limit.",
  502: NOT_REACHED,
  503: NOT_REACHED,
  504: "A proxy in front of the service did not wait for the answer. Whoever runs the proxy can let it wait longer.",
};

/**
 * What an answer that is an error says.
 *
 * @param {number} status
 * @param {string} body
 * @param {string | null} retryAfter The header, in seconds.
 */
export function problemIn(status, body, retryAfter) {
  /** @type {{message?: string, code?: string}} */
  let error = {};
  try {
    error = JSON.parse(body).error ?? {};
  } catch {
    // Something between us and the service has answered in its own words.
  }
  const message = error.message ?? FROM_PROXIES[status] ?? `The service answered with status ${status}.`;
  return new Problem(message, { code: error.code, status, retryAfterS: Number(retryAfter) || 0 });
}

/** @param {string} path */
async function ask(path) {
  try {
    return await fetch(address(path), { headers: credentials(), cache: "no-store" });
  } catch {
    throw new Problem("The service cannot be reached.", { code: UNREACHABLE });
  }
}

/**
 * What the service waits for, and how much of the model has come if that is what it is.
 *
 * @param {number} status
 * @param {string} body
 */
function reasonIn(status, body) {
  /** @type {{reason?: string, done_bytes?: number, total_bytes?: number}} */
  let facts = {};
  try {
    facts = JSON.parse(body);
  } catch {
    // As above.
  }
  const { reason, done_bytes: done = 0, total_bytes: total } = facts;
  if (!reason) return problemIn(status, body, null).message;
  if (!total) return reason;
  return `${reason} ${Math.floor((100 * done) / total)} % of ${(total / 1e9).toFixed(1)} GB`;
}

/** Why the service cannot be used just now; an empty text if it can. */
export async function whyNotReady() {
  try {
    const response = await ask("readyz");
    return response.ok ? "" : reasonIn(response.status, await response.text());
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return error.message;
  }
}

/**
 * The settings and the model.
 *
 * @returns {Promise<Configuration>}
 * @throws {Problem} Above all without the right key.
 */
export async function configuration() {
  const response = await ask("config");
  if (!response.ok) throw problemIn(response.status, await response.text(), response.headers.get("retry-after"));
  return response.json();
}

/** Why a WebSocket was not let in: a browser does not tell, so ask in another way. */
export async function whyRefused() {
  const reason = await whyNotReady();
  if (reason) return new Problem(reason, { code: UNREACHABLE });
  try {
    await configuration();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return error;
  }
  return new Problem("The connection for live audio could not be opened. A proxy may be blocking WebSockets.");
}
