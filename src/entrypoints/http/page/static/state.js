// What the page knows, and what each event changes in it. Pure: no DOM, no network.

/**
 * What is going on: `opening` until the microphone is open, `finishing` from when it is closed until its last words
 * have come, `transcribing` while a recording is sent and read.
 *
 * @typedef {"idle" | "opening" | "listening" | "finishing" | "transcribing"} Activity
 */

/**
 * What may help after a problem: upload the recording again, connect again to have lost speech read, or speak on.
 *
 * @typedef {"retry" | "reconnect" | "continue"} Remedy
 */

/**
 * @typedef {object} State
 * @property {string | null} waiting Why the service cannot be used yet; `null` when it can.
 * @property {import("./service.js").Configuration | null} configuration Once the service has told it.
 * @property {boolean} hasKey
 * @property {boolean} asksForKey
 * @property {string} noMicrophone Why there can be no microphone on this page, or an empty text.
 * @property {{type: "speech"} | {type: "recording", name: string} | null} source What the transcript is of.
 * @property {Activity} activity
 * @property {{label: string, share: number | null}} progress Of an upload; the share is in [0, 1], `null` if unknown.
 * @property {Meter} meter
 * @property {number} words How many final words there are.
 * @property {boolean} isComplete Everything has been read.
 * @property {boolean} isUnsaved Some of what was spoken has not been saved.
 * @property {boolean} isCopied The transcript, as it stands, was copied last.
 * @property {boolean} isReconnecting The connection is lost, and the microphone goes on.
 * @property {Recording[]} recordings All that were given since the page was cleared, in their order.
 * @property {number} shown Which of them the transcript is of.
 * @property {number} reading Which of them is being sent or read; -1 if none is.
 * @property {boolean} isUnplayable This browser cannot play the recording.
 * @property {boolean} isDropping A file is being dragged over the page.
 * @property {string} message Tells of a problem.
 * @property {Remedy | null} remedy
 * @property {string} status For those who do not see the page move.
 */

/**
 * A recording, and how far it is: `sent` ones are read by the service in the background, and we do not listen.
 *
 * @typedef {object} Recording
 * @property {string} name
 * @property {"waiting" | "reading" | "sent" | "done" | "failed"} progress
 * @property {boolean} isUnsaved
 * @property {boolean} isKept The service keeps it as a job, and its transcript with it.
 * @property {boolean} isFound It was sent before the page was loaded, which has its words only.
 */

/**
 * The microphone: seconds of sound so far, loudness in [0, 1], seconds that are not in the text yet, and of these the
 * ones that have not left this machine.
 *
 * @typedef {{seconds: number, level: number, lagS: number, unsentS: number}} Meter
 */

/**
 * @typedef {{type: "service waits", reason: string}
 *   | {type: "service is ready"}
 *   | {type: "service is known", configuration: import("./service.js").Configuration, hasKey: boolean}
 *   | {type: "key is needed", wasRefused: boolean, remedy: Remedy | null}
 *   | {type: "key is tried"}
 *   | {type: "key is accepted"}
 *   | {type: "page is cleared"}
 *   | {type: "file is dragged", isOver: boolean}
 *   | {type: "recordings are added", names: string[]}
 *   | {type: "jobs are found", names: string[]}
 *   | {type: "job is sent"}
 *   | {type: "job is followed", at: number}
 *   | {type: "job is left"}
 *   | {type: "recording is removed", at: number}
 *   | {type: "recording is shown", at: number, words: number}
 *   | {type: "upload starts", at: number}
 *   | {type: "upload is sent", share: number}
 *   | {type: "upload is read", words: number, label: string, share: number | null}
 *   | {type: "upload is done", words: number}
 *   | {type: "upload is cancelled", words: number}
 *   | {type: "upload fails", words: number}
 *   | {type: "microphone opens"}
 *   | {type: "microphone is open"}
 *   | {type: "microphone fails"}
 *   | {type: "microphone is metered", meter: Meter}
 *   | {type: "microphone closes", why: string}
 *   | {type: "words are heard", words: number}
 *   | {type: "speech is read"}
 *   | {type: "speech breaks off"}
 *   | {type: "connection is lost", why: string}
 *   | {type: "connection is back"}
 *   | {type: "transcript is copied"}
 *   | {type: "transcript is saved"}
 *   | {type: "recording cannot be played"}
 *   | {type: "problem", message: string, remedy: Remedy | null}
 * } Event
 */

const SILENCE = { seconds: 0, level: 0, lagS: 0, unsentS: 0 };
const NOTHING = { source: null, words: 0, isComplete: false, isUnsaved: false, isUnplayable: false, isCopied: false };
/** @type {{recordings: Recording[], shown: number, reading: number}} */
const NO_RECORDINGS = { recordings: [], shown: -1, reading: -1 };
/** @type {{activity: Activity, reading: number, status: string}} */
const RESTING = { activity: "idle", reading: -1, status: "" };
const QUIET = { message: "", remedy: null };

/**
 * @param {{noMicrophone: string, hasKey: boolean}} facts
 * @returns {State}
 */
export function initial({ noMicrophone, hasKey }) {
  return {
    ...NOTHING,
    ...NO_RECORDINGS,
    ...QUIET,
    isReconnecting: false,
    waiting: "Connecting to the service…",
    configuration: null,
    hasKey,
    asksForKey: false,
    noMicrophone,
    activity: "idle",
    progress: { label: "", share: null },
    meter: SILENCE,
    isDropping: false,
    status: "",
  };
}

/**
 * The state after an event.
 *
 * @param {State} state
 * @param {Event} event
 * @returns {State}
 */
export function update(state, event) {
  switch (event.type) {
    case "service waits":
      return { ...state, waiting: event.reason };
    case "service is ready":
      return { ...state, waiting: null };
    case "service is known":
      return { ...state, configuration: event.configuration, hasKey: event.hasKey, asksForKey: false };
    case "key is needed": {
      const message = event.wasRefused ? "This key is not valid." : "";
      return { ...state, hasKey: false, asksForKey: true, message, remedy: event.remedy };
    }
    case "key is tried":
      return { ...state, ...QUIET };
    case "key is accepted":
      return { ...state, status: "Key accepted." };
    case "page is cleared":
      return { ...state, ...NOTHING, ...NO_RECORDINGS, ...QUIET };
    case "file is dragged":
      return { ...state, isDropping: event.isOver };

    case "recordings are added": {
      const added = event.names.map((name) => recording(name));
      return { ...state, recordings: [...state.recordings, ...added] };
    }
    case "jobs are found": {
      const found = event.names.map((name) => ({ ...recording(name, "sent"), isKept: true, isFound: true }));
      return { ...state, recordings: [...state.recordings, ...found] };
    }
    case "job is sent":
      return {
        ...marked(state, state.reading, { progress: "sent", isKept: true }),
        ...RESTING,
        status: `${state.recordings[state.reading].name} is sent.`,
      };
    case "job is followed":
      return {
        ...marked(state, event.at, { progress: "reading" }),
        // Of several, the one that somebody looks at stays there.
        ...(state.shown < 0 ? { ...NOTHING, source: sourceOf(state, event.at), shown: event.at } : {}),
        activity: "transcribing",
        reading: event.at,
        progress: { label: "Waiting for the service", share: null },
        status: `Transcribing ${state.recordings[event.at].name}.`,
      };
    case "job is left":
      return { ...marked(state, state.reading, { progress: "sent" }), ...RESTING };
    case "recording is removed": {
      const recordings = state.recordings.filter((_, at) => at !== event.at);
      const [shown, reading] = [state.shown, state.reading].map((at) =>
        at === event.at ? -1 : at - Number(at > event.at)
      );
      return { ...state, ...(shown < 0 ? NOTHING : {}), recordings, shown, reading };
    }
    case "recording is shown":
      return {
        ...state,
        ...NOTHING,
        ...QUIET,
        source: sourceOf(state, event.at),
        shown: event.at,
        words: event.words,
        isComplete: state.recordings[event.at].progress === "done",
      };
    case "upload starts":
      return {
        ...marked(state, event.at, { progress: "reading", isUnsaved: false }),
        ...NOTHING,
        ...QUIET,
        source: sourceOf(state, event.at),
        shown: event.at,
        reading: event.at,
        activity: "transcribing",
        progress: { label: "Uploading", share: null },
        status: `Uploading ${state.recordings[event.at].name}.`,
      };
    case "upload is sent":
      return {
        ...state,
        progress: event.share < 1 ? { label: "Uploading", share: event.share } : { label: "Transcribing", share: null },
      };
    case "upload is read":
      return {
        ...state,
        ...(isReadingShown(state) ? { words: event.words, isCopied: false } : {}),
        progress: { label: event.label, share: event.share },
      };
    case "upload is done":
      return {
        ...marked(state, state.reading, { progress: "done", isUnsaved: event.words > 0 }),
        ...(isReadingShown(state) ? { words: event.words, isComplete: true } : {}),
        ...RESTING,
        status: told(event.words),
      };
    case "upload is cancelled":
      return {
        ...marked(state, state.reading, { progress: "failed", isUnsaved: event.words > 0, isKept: false }),
        ...RESTING,
        message: `Cancelled.${kept(event.words)}`,
        remedy: null,
      };
    case "upload fails":
      return {
        ...marked(state, state.reading, { progress: "failed", isUnsaved: event.words > 0, isKept: false }),
        ...RESTING,
      };

    case "microphone opens":
      return { ...state, ...QUIET, activity: "opening", isComplete: false };
    case "microphone is open":
      return { ...state, source: { type: "speech" }, activity: "listening", status: "Listening." };
    case "microphone fails":
      return { ...state, activity: "idle" };
    case "microphone is metered":
      return { ...state, meter: event.meter };
    case "microphone closes":
      return { ...state, activity: "finishing", isReconnecting: false, message: event.why, remedy: null };
    case "words are heard":
      return { ...state, words: event.words, isUnsaved: true, isCopied: false };
    case "speech is read":
      return { ...state, activity: "idle", isComplete: true, status: told(state.words) };
    case "speech breaks off":
      return { ...state, activity: "idle", isReconnecting: false };
    case "connection is lost":
      return { ...state, isReconnecting: true, message: event.why, remedy: null };
    case "connection is back":
      return { ...state, isReconnecting: false, ...QUIET, status: "Connected again." };

    case "transcript is copied":
      return { ...saved(state), isCopied: true, status: "Copied." };
    case "transcript is saved":
      return saved(state);
    case "recording cannot be played":
      return { ...state, isUnplayable: true };
    case "problem":
      return { ...state, message: event.message, remedy: event.remedy };
  }
}

/**
 * Says that a problem has not cost the words that are there, if there are any.
 *
 * @param {number} words
 */
export function kept(words) {
  return words ? " The text so far is kept." : "";
}

/**
 * Whether the page holds a transcript that would be lost with it; what the service keeps would not.
 *
 * @param {State} state
 */
export function isUnsaved({ isUnsaved, recordings }) {
  return isUnsaved || recordings.some((one) => one.isUnsaved && !one.isKept);
}

/**
 * Whether there is a transcript that has not been saved, be it that the service keeps it.
 *
 * @param {State} state
 */
export function hasUnsaved({ isUnsaved, recordings }) {
  return isUnsaved || recordings.some((one) => one.isUnsaved);
}

/**
 * Whether something would be lost if the page was closed now.
 *
 * @param {State} state
 */
export function isNeeded(state) {
  return isUnsaved(state) || (state.activity !== "idle" && !state.recordings[state.reading]?.isKept);
}

/**
 * @param {string} name
 * @param {Recording["progress"]} progress
 * @returns {Recording}
 */
function recording(name, progress = "waiting") {
  return { name, progress, isUnsaved: false, isKept: false, isFound: false };
}

/**
 * @param {State} state
 * @param {number} at
 * @returns {State["source"]}
 */
function sourceOf(state, at) {
  return { type: "recording", name: state.recordings[at].name };
}

/** @param {State} state */
function isReadingShown({ reading, shown }) {
  return reading === shown;
}

/**
 * @param {State} state
 * @param {number} at
 * @param {Partial<Recording>} news
 * @returns {State}
 */
function marked(state, at, news) {
  return { ...state, recordings: state.recordings.map((one, i) => (i === at ? { ...one, ...news } : one)) };
}

/**
 * @param {State} state
 * @returns {State}
 */
function saved(state) {
  return { ...marked(state, state.shown, { isUnsaved: false }), isUnsaved: false };
}

/** @param {number} words */
function told(words) {
  return words ? `Done: ${words} ${words === 1 ? "word" : "words"}.` : "No speech was found.";
}
