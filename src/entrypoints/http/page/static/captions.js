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
const LINES = 2;
const CUE_S = 7;
const LEAST_CUE_S = 1;
const GAP_S = 0.08;
const CUE_PAUSE_S = 1;
const CLAUSE_END = /[,;:\u2013\u2014]$/;
const ARTICLES = new Set(
  ("a an the der die das den dem des ein eine einen einem einer eines le la les un une el los las una unos unas il lo " +
    "gli uno o os as um uma uns umas het een de").split(" "),
);
const IMPOSSIBLE = 1e4;

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
 * Up to two lines that stand on the screen from `start` to `end`; see domain/captions.py, which this follows.
 *
 * @param {Word[]} words
 * @param {number} duration Of the recording, in seconds: a cue does not stand beyond it.
 */
export function cuesOf(words, duration = Infinity) {
  const groups = runsOf(words).flatMap(([begin, end]) => groupsOf(words, begin, end, duration));
  return groups.map(([begin, end], at) => {
    const start = words[begin].start;
    const spoken = words[end - 1].end;
    const next = at + 1 < groups.length ? words[groups[at + 1][0]].start : Infinity;
    const latest = Math.min(next - GAP_S, Math.max(duration, spoken));
    const stop = Math.min(Math.max(spoken, start + LEAST_CUE_S), Math.max(latest, (start + spoken) / 2));
    return { text: linesOf(words.slice(begin, end)).join("\n"), start, end: stop };
  });
}

/**
 * @param {Word[]} words
 * @param {number} [duration]
 */
export function toSrt(words, duration) {
  return cuesOf(words, duration)
    .map((cue, at) => `${at + 1}\n${times(cue, ",")}\n${cue.text}\n\n`)
    .join("");
}

/**
 * @param {Word[]} words
 * @param {number} [duration]
 */
export function toVtt(words, duration) {
  const cues = cuesOf(words, duration);
  return "WEBVTT\n\n" + cues.map((cue) => `${times(cue, ".")}\n${escaped(cue.text)}\n\n`).join("");
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

/**
 * Words from the first number up to before the second, without a pause between them.
 *
 * @param {Word[]} words
 */
function runsOf(words) {
  /** @type {[number, number][]} */
  const runs = [];
  let begin = 0;
  for (let at = 1; at <= words.length; at++) {
    if (at === words.length || words[at].start - words[at - 1].end >= CUE_PAUSE_S) {
      runs.push([begin, at]);
      begin = at;
    }
  }
  return runs;
}

/**
 * The words of each cue in a run: those that cost least together.
 *
 * @param {Word[]} words
 * @param {number} first
 * @param {number} last
 * @param {number} duration
 */
function groupsOf(words, first, last, duration) {
  const characters = [0];
  const sentences = [0];
  for (const word of words.slice(first, last)) {
    characters.push(lastOf(characters) + length(word.text) + 1);
    sentences.push(lastOf(sentences) + Number(endsSentence(word)));
  }
  const costs = [0, ...Array(last - first).fill(Infinity)];
  const origins = Array(last - first + 1).fill(first);
  for (let begin = first; begin < last; begin++) {
    for (const end of possibleEnds(words, begin, last)) {
      const next = end < words.length ? words[end].start - GAP_S : Infinity;
      const stands = Math.min(next, Math.max(duration, words[end - 1].end)) - words[begin].start;
      const fill = (characters[end - first] - characters[begin - first]) / (LINE_CHARS * LINES);
      let cost = costs[begin - first] + 10 + 10 * fill * fill;
      cost += 30 * (sentences[end - 1 - first] - sentences[begin - first]);
      cost += endCost(words, begin, end);
      if (end < last && isArticle(words[end - 1])) cost += IMPOSSIBLE;
      if (stands < LEAST_CUE_S) cost += 300 * Math.min(1 - stands / LEAST_CUE_S, 1);
      if (cost < costs[end - first]) {
        costs[end - first] = cost;
        origins[end - first] = begin;
      }
    }
  }
  /** @type {[number, number][]} */
  const groups = [];
  while (last > first) {
    const begin = origins[last - first];
    groups.push([begin, last]);
    last = begin;
  }
  return groups.reverse();
}

/**
 * @param {Word[]} words
 * @param {number} begin
 * @param {number} end
 */
function endCost(words, begin, end) {
  const last = words[end - 1];
  let cost = endsSentence(last) ? 0 : CLAUSE_END.test(last.text) ? 2 : 8;
  if (!(endsSentence(last) && (begin === 0 || endsSentence(words[begin - 1])))) {
    cost += end - begin === 1 ? 200 : end - begin === 2 ? 20 : 0;
  }
  return cost;
}

/**
 * Where a cue that begins there may end.
 *
 * @param {Word[]} words
 * @param {number} begin
 * @param {number} last
 */
function* possibleEnds(words, begin, last) {
  let lines = 1;
  let line = begin;
  let width = -1;
  for (let at = begin; at < last; at++) {
    width += 1 + length(words[at].text);
    if (at > line && width > LINE_CHARS) {
      let broken = at;
      while (broken - 1 > line && isArticle(words[broken - 1])) broken--;
      lines++;
      line = broken;
      width = length(joined(words.slice(line, at + 1)));
    }
    if (at > begin && (words[at].end - words[begin].start > CUE_S || lines > LINES)) return;
    yield at + 1;
  }
}

/**
 * The fewest lines that hold the words, of like length, none of them ending on an article.
 *
 * @param {Word[]} words At least one.
 */
function linesOf(words) {
  let end = words.length;
  let costs = [0, ...Array(end).fill(Infinity)];
  /** @type {number[][]} */
  const origins = [];
  while (origins.length < LINES && !(costs[end] < IMPOSSIBLE)) {
    const longer = Array(words.length + 1).fill(Infinity);
    const begins = Array(words.length + 1).fill(0);
    for (let to = 1; to <= words.length; to++) {
      let width = -1;
      for (let from = to - 1; from >= 0; from--) {
        width += 1 + length(words[from].text);
        if (width > LINE_CHARS && to - from > 1) break;
        const article = to < words.length && isArticle(words[to - 1]) ? IMPOSSIBLE : 0;
        const cost = costs[from] + width * width + article;
        if (cost < longer[to]) {
          longer[to] = cost;
          begins[to] = from;
        }
      }
    }
    origins.push(begins);
    costs = longer;
  }
  const lines = [];
  for (const begins of origins.reverse()) {
    lines.push(joined(words.slice(begins[end], end)));
    end = begins[end];
  }
  return lines.reverse();
}

const isArticle = (/** @type {Word} */ word) => ARTICLES.has(word.text.toLowerCase());

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
