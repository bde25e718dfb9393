// Words as segments and captions, cut by the same rules as the service's own: domain/transcript.py, domain/captions.py.

/**
 * A word, and from when to when it was said, in seconds.
 *
 * @typedef {{text: string, start: number, end: number}} Word
 */

const SENTENCE_END = /[.?!]["')\]}»”’]*$/;
const PAUSE_S = 1.5;
const LONGEST_S = 30;
const LINE_CHARS = 42;
const CUE_S = 7;
const CUE_PAUSE_S = 1;

const joined = (/** @type {Word[]} */ words) => words.map((word) => word.text).join(" ");
// As Python counts: characters, not the halves of which JavaScript makes some.
const length = (/** @type {string} */ text) => [...text].length;

/**
 * Whether the word closes a sentence.
 *
 * @param {Word} word
 */
export const endsSentence = (word) => SENTENCE_END.test(word.text);

/**
 * Runs of words that read as sentences, or as much of one as was said without a pause.
 *
 * @param {Word[]} words
 */
export function segmentsOf(words) {
  /** @type {Word[][]} */
  const segments = [];
  let last = null;
  for (const word of words) {
    const segment = segments.at(-1);
    if (
      !segment ||
      !last ||
      endsSentence(last) ||
      word.start - last.end >= PAUSE_S ||
      word.end - segment[0].start > LONGEST_S
    ) {
      segments.push([word]);
    } else segment.push(word);
    last = word;
  }
  return segments;
}

/**
 * Up to two lines that stand on the screen from `start` to `end`.
 *
 * @param {Word[]} words
 */
export function cuesOf(words) {
  return segmentsOf(words)
    .flatMap(groupsOf)
    .map((group) => ({ text: linesOf(group).join("\n"), start: group[0].start, end: lastOf(group).end }));
}

/** @param {Word[]} words */
export function toSrt(words) {
  return cuesOf(words)
    .map((cue, at) => `${at + 1}\n${times(cue, ",")}\n${cue.text}\n\n`)
    .join("");
}

/** @param {Word[]} words */
export function toVtt(words) {
  return "WEBVTT\n\n" + cuesOf(words).map((cue) => `${times(cue, ".")}\n${escaped(cue.text)}\n\n`).join("");
}

/**
 * What `POST /transcribe` answers with `include_timestamps`.
 *
 * @param {Word[]} words
 */
export function toJson(words) {
  const span = (/** @type {Word} */ { text, start, end }) => ({
    text,
    start: toMs(start) / 1000,
    end: toMs(end) / 1000,
  });
  const segments = segmentsOf(words).map((segment) =>
    span({ text: joined(segment), start: segment[0].start, end: lastOf(segment).end })
  );
  return JSON.stringify({ text: joined(words), timestamps: { words: words.map(span), segments } }, null, 2) + "\n";
}

/** @param {Word[]} words At least one. */
function groupsOf(words) {
  const groups = [[words[0]]];
  for (const word of words.slice(1)) {
    const group = lastOf(groups);
    const tooLong = linesOf([...group, word]).some((line) => length(line) > LINE_CHARS);
    if (tooLong || word.end - group[0].start > CUE_S || word.start - lastOf(group).end >= CUE_PAUSE_S) {
      groups.push([word]);
    } else group.push(word);
  }
  return groups;
}

/** @param {Word[]} words At least one. */
function linesOf(words) {
  const text = joined(words);
  if (length(text) <= LINE_CHARS || words.length === 1) return [text];
  let best = { lines: [text], longest: Infinity };
  for (let at = 1; at < words.length; at++) {
    const lines = [joined(words.slice(0, at)), joined(words.slice(at))];
    const longest = Math.max(...lines.map(length));
    if (longest < best.longest) best = { lines, longest };
  }
  return best.lines;
}

/**
 * @template T
 * @param {T[]} some At least one.
 */
const lastOf = (some) => some[some.length - 1];

const toMs = (/** @type {number} */ seconds) => Math.round(seconds * 1000);

/**
 * @param {{start: number, end: number}} cue
 * @param {string} mark Before the milliseconds.
 */
function times(cue, mark) {
  const start = toMs(cue.start);
  // A cue that ends when it begins is never shown.
  const end = Math.max(toMs(cue.end), start + 1);
  return `${clock(start, mark)} --> ${clock(end, mark)}`;
}

/**
 * @param {number} ms
 * @param {string} mark
 */
function clock(ms, mark) {
  const two = (/** @type {number} */ number) => String(Math.floor(number)).padStart(2, "0");
  const [hours, minutes, seconds] = [ms / 3_600_000, (ms / 60_000) % 60, (ms / 1000) % 60];
  return `${two(hours)}:${two(minutes)}:${two(seconds)}${mark}${String(ms % 1000).padStart(3, "0")}`;
}

const escaped = (/** @type {string} */ text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
