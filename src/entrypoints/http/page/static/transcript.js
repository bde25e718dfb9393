// The words on the page: paragraphs that grow, a draft behind them, and the word that is being played.

import { endsSentence } from "./captions.js";
import { clock } from "./dom.js";

/** @typedef {import("./captions.js").Word} Word */

const PAUSE_S = 1.5;
const LONG_S = 20;
const LONGEST_S = 60;
// After a word, until nothing is marked.
const LINGER_S = 0.4;

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * The first of its words, its place in the list, the button that tells its time, and where its words go.
 *
 * @typedef {{first: number, item: HTMLElement, time: HTMLButtonElement, text: HTMLElement}} Paragraph
 */

export class Transcript {
  #list;
  #draft;
  #stable;
  #unsettled;
  #onSeek;
  /** @type {HTMLElement[]} */
  #spans = [];
  /** @type {Paragraph[]} */
  #paragraphs = [];
  #marked = -1;

  /** @type {Word[]} */
  words = [];

  /**
   * @param {{list: HTMLElement, draft: HTMLElement, stable: HTMLElement, unsettled: HTMLElement}} elements
   * @param {(start: number, play: boolean) => void} onSeek Hears where to play from, and whether to begin.
   */
  constructor({ list, draft, stable, unsettled }, onSeek) {
    this.#list = list;
    this.#draft = draft;
    this.#stable = stable;
    this.#unsettled = unsettled;
    this.#onSeek = onSeek;
    list.addEventListener("click", ({ target }) => {
      if (target instanceof HTMLElement) this.#click(target);
    });
    list.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Where the tab key stops in the list, if there is anything in it. */
  get stop() {
    return this.#paragraphs.find(({ time }) => time.tabIndex === 0)?.time;
  }

  /** The words as they read, in the paragraphs of the page. */
  get text() {
    return this.#paragraphs
      .map(({ first }, at) =>
        this.words.slice(first, this.#paragraphs[at + 1]?.first).map((word) => word.text).join(" ") + "\n"
      )
      .join("\n");
  }

  /**
   * Words that follow those that are there.
   *
   * @param {Word[]} words
   */
  add(words) {
    const follow = this.#isFollowed();
    // One layout for all of them: those of a long recording come by the hundred.
    const grown = document.createDocumentFragment();
    for (const word of words) {
      let paragraph = this.#paragraphs.at(-1);
      if (!paragraph || this.#parts(paragraph, word)) grown.append((paragraph = this.#begin(word.start)).item);
      const span = document.createElement("span");
      span.dataset.at = String(this.words.length);
      span.textContent = word.text;
      paragraph.text.append(span, " ");
      this.#spans.push(span);
      this.words.push(word);
    }
    this.#list.append(grown);
    if (follow) this.#draft.scrollIntoView({ block: "nearest" });
  }

  /**
   * The words once more, when their times are settled; those that stand there stay where they are.
   *
   * @param {Word[]} words
   */
  settle(words) {
    const same = this.words.every(({ text }, at) => text === words[at]?.text);
    if (!same) this.clear();
    const known = this.words.length;
    this.words.splice(0, known, ...words.slice(0, known));
    this.add(words.slice(known));
  }

  /**
   * What is heard beyond the words: `unsettled` may still change.
   *
   * @param {string} stable
   * @param {string} unsettled
   */
  draft(stable, unsettled) {
    const follow = this.#isFollowed();
    this.#stable.textContent = stable;
    this.#unsettled.textContent = unsettled;
    this.#draft.hidden = !stable && !unsettled;
    if (follow) this.#draft.scrollIntoView({ block: "nearest" });
  }

  clear() {
    this.mark(-1);
    this.words = [];
    this.#spans = [];
    this.#paragraphs = [];
    this.#list.replaceChildren();
    this.draft("", "");
  }

  /**
   * The word that is heard at `seconds`, or -1.
   *
   * @param {number} seconds
   */
  at(seconds) {
    const at = lastAtOrBefore(this.words.length, (i) => this.words[i].start, seconds);
    return at >= 0 && seconds < this.words[at].end + LINGER_S ? at : -1;
  }

  /**
   * Mark the word that is played, and keep it in sight of whoever looks there.
   *
   * @param {number} at Which one, or -1.
   */
  mark(at) {
    if (at === this.#marked) return;
    const before = this.#spans[this.#marked];
    const follow = !before || isInSight(before);
    before?.classList.remove("playing");
    this.#marked = at;
    const span = this.#spans[at];
    span?.classList.add("playing");
    if (span && follow && !isInSight(span)) {
      span.scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
    }
  }

  /**
   * Whether a paragraph ends before `word`.
   *
   * @param {Paragraph} paragraph
   * @param {Word} word
   */
  #parts(paragraph, word) {
    const last = this.words[this.words.length - 1];
    const lasts = word.end - this.words[paragraph.first].start;
    return word.start - last.end >= PAUSE_S || (lasts > LONG_S && endsSentence(last)) || lasts > LONGEST_S;
  }

  /** @param {number} start Seconds. */
  #begin(start) {
    const item = document.createElement("li");
    const time = document.createElement("button");
    time.type = "button";
    time.className = "time number";
    time.textContent = clock(start);
    time.setAttribute("aria-label", `Play from ${clock(start)}`);
    time.setAttribute("aria-describedby", "by-key");
    // One stop of the tab key for all of them; the arrows go on from there.
    time.tabIndex = this.#paragraphs.length ? -1 : 0;
    time.dataset.paragraph = String(this.#paragraphs.length);
    const text = document.createElement("p");
    text.className = "words";
    item.append(time, text);
    const paragraph = { first: this.words.length, item, time, text };
    this.#paragraphs.push(paragraph);
    return paragraph;
  }

  /** @param {HTMLElement} target */
  #click(target) {
    if (target.dataset.paragraph) {
      const paragraph = Number(target.dataset.paragraph);
      this.#focus(paragraph);
      this.#onSeek(this.words[this.#paragraphs[paragraph].first].start, true);
    } else if (target.dataset.at && getSelection()?.isCollapsed) {
      this.#onSeek(this.words[Number(target.dataset.at)].start, true);
    }
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const pressed = event.target instanceof HTMLElement && event.target.dataset.paragraph;
    if (!pressed || event.ctrlKey || event.altKey || event.metaKey) return;
    const paragraph = Number(pressed);
    const last = this.#paragraphs.length - 1;
    const moves = new Map([
      ["ArrowUp", paragraph - 1],
      ["ArrowDown", paragraph + 1],
      ["Home", 0],
      ["End", last],
    ]);
    const steps = new Map([
      ["ArrowLeft", -1],
      ["ArrowRight", 1],
    ]);
    const move = moves.get(event.key);
    const step = steps.get(event.key);
    if (move !== undefined) {
      this.#focus(Math.min(Math.max(move, 0), last));
    } else if (step !== undefined) {
      // Without a mark, right goes to the paragraph's first word.
      const from = this.#marked < 0 ? this.#paragraphs[paragraph].first - 1 : this.#marked;
      const to = Math.min(Math.max(from + step, 0), this.words.length - 1);
      this.#focus(lastAtOrBefore(this.#paragraphs.length, (i) => this.#paragraphs[i].first, to));
      // At once, and not when the player gets there: a key that is held down goes on from here.
      this.mark(to);
      this.#onSeek(this.words[to].start, false);
    } else return;
    event.preventDefault();
  }

  /** @param {number} paragraph */
  #focus(paragraph) {
    if (this.stop) this.stop.tabIndex = -1;
    const { time } = this.#paragraphs[paragraph];
    time.tabIndex = 0;
    time.focus();
  }

  /** Whether the reader is where words are added, so that the page may go along. */
  #isFollowed() {
    const end = this.#draft.hidden ? this.#list : this.#draft;
    return end.getBoundingClientRect().bottom <= innerHeight + 40;
  }
}

/** @param {HTMLElement} element */
function isInSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight - 80; // the player covers the rest
}

/**
 * The last of `count` rising values that is not above `limit`, by its place; -1 if there is none.
 *
 * @param {number} count
 * @param {(at: number) => number} valueAt
 * @param {number} limit
 */
function lastAtOrBefore(count, valueAt, limit) {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueAt(middle) <= limit) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
