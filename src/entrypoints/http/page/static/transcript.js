// The words on the page: paragraphs that grow, a draft behind them, and the word that is being played.

import { endsSentence } from "./captions.js";

const PAUSE_S = 1.5;
const LONG_S = 20;
const LONGEST_S = 60;
// After a word, until nothing is marked.
const LINGER_S = 0.4;

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** `754` as `12:34`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return (hours ? `${hours}:${two(minutes)}` : `${minutes}`) + `:${two(whole % 60)}`;
}

export class Transcript {
  #list;
  #draft;
  #stable;
  #unsettled;
  #spans = [];
  #paragraphs = []; // the first word of each
  #marked = -1;

  /** @type {{text: string, start: number, end: number}[]} */
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
    list.addEventListener("click", ({ target }) => this.#click(target, onSeek));
    list.addEventListener("keydown", (event) => this.#press(event, onSeek));
  }

  get isEmpty() {
    return !this.words.length;
  }

  /** The words as they read, in the paragraphs of the page. */
  get text() {
    const ends = [...this.#paragraphs.slice(1), this.words.length];
    return this.#paragraphs
      .map((first, at) => this.words.slice(first, ends[at]).map((word) => word.text).join(" ") + "\n")
      .join("\n");
  }

  /** Words that follow those that are there. */
  add(words) {
    const follow = this.#isFollowed();
    // One layout for all of them: those of a long recording come by the hundred.
    let open = null;
    const grown = document.createDocumentFragment();
    for (const word of words) {
      if (this.#beginsParagraph(word)) {
        this.#paragraphs.push(this.words.length);
        grown.append(this.#paragraph(word.start));
        open = grown.lastChild.lastChild;
      }
      open ??= this.#list.lastElementChild.lastChild;
      const span = document.createElement("span");
      span.dataset.at = this.words.length;
      span.textContent = word.text;
      open.append(span, " ");
      this.#spans.push(span);
      this.words.push(word);
    }
    this.#list.append(grown);
    if (follow) this.#draft.scrollIntoView({ block: "nearest" });
  }

  /** The words once more, when their times are settled; those that stand there stay where they are. */
  settle(words) {
    const same = this.words.every(({ text }, at) => text === words[at]?.text);
    if (!same) this.clear();
    const known = this.words.length;
    this.words.splice(0, known, ...words.slice(0, known));
    this.add(words.slice(known));
  }

  /** What is heard beyond the words: `unsettled` may still change. */
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

  /** The word that is heard at `seconds`, or -1. */
  at(seconds) {
    const at = lastAtOrBefore(this.words.length, (i) => this.words[i].start, seconds);
    return at >= 0 && seconds < this.words[at].end + LINGER_S ? at : -1;
  }

  /** Mark the word that is played, and keep it in sight of whoever looks there. */
  mark(at) {
    if (at === this.#marked) return;
    const before = this.#spans[this.#marked];
    const follow = !before || isInSight(before);
    before?.classList.remove("playing");
    this.#marked = at;
    const span = this.#spans[at];
    span?.classList.add("playing");
    if (span && follow && !isInSight(span))
      span.scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
  }

  #beginsParagraph(word) {
    const last = this.words.at(-1);
    if (!last) return true;
    const lasts = word.end - this.words[this.#paragraphs.at(-1)].start;
    return word.start - last.end >= PAUSE_S || (lasts > LONG_S && endsSentence(last)) || lasts > LONGEST_S;
  }

  #paragraph(start) {
    const item = document.createElement("li");
    const time = document.createElement("button");
    time.type = "button";
    time.className = "time number";
    time.textContent = clock(start);
    time.setAttribute("aria-label", `Play from ${clock(start)}`);
    time.setAttribute("aria-describedby", "by-key");
    // One stop of the tab key for all of them; the arrows go on from there.
    time.tabIndex = this.#paragraphs.length === 1 ? 0 : -1;
    time.dataset.paragraph = this.#paragraphs.length - 1;
    const words = document.createElement("p");
    words.className = "words";
    item.append(time, words);
    return item;
  }

  #click(target, onSeek) {
    if (target.dataset.paragraph) {
      this.#focus(Number(target.dataset.paragraph));
      onSeek(this.words[this.#paragraphs[target.dataset.paragraph]].start, true);
    } else if (target.dataset.at && getSelection().isCollapsed) {
      onSeek(this.words[target.dataset.at].start, true);
    }
  }

  #press(event, onSeek) {
    if (!event.target.dataset.paragraph || event.ctrlKey || event.altKey || event.metaKey) return;
    const paragraph = Number(event.target.dataset.paragraph);
    const last = this.#paragraphs.length - 1;
    const moves = { ArrowUp: paragraph - 1, ArrowDown: paragraph + 1, Home: 0, End: last };
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in moves) {
      this.#focus(Math.min(Math.max(moves[event.key], 0), last));
    } else if (event.key in steps) {
      const from = this.#marked < 0 ? this.#paragraphs[paragraph] - steps.ArrowRight : this.#marked;
      const to = Math.min(Math.max(from + steps[event.key], 0), this.words.length - 1);
      this.#focus(lastAtOrBefore(this.#paragraphs.length, (i) => this.#paragraphs[i], to));
      // At once, and not when the player gets there: a key that is held down goes on from here.
      this.mark(to);
      onSeek(this.words[to].start, false);
    } else return;
    event.preventDefault();
  }

  #focus(paragraph) {
    this.#list.querySelector('[tabindex="0"]').tabIndex = -1;
    const time = this.#list.children[paragraph].firstChild;
    time.tabIndex = 0;
    time.focus();
  }

  /** Whether the reader is where words are added, so that the page may go along. */
  #isFollowed() {
    const end = this.#draft.hidden ? this.#list : this.#draft;
    return end.getBoundingClientRect().bottom <= innerHeight + 40;
  }
}

function isInSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight - 80; // the player covers the rest
}

/** The last of `count` rising values that is not above `limit`, by its place; -1 if there is none. */
function lastAtOrBefore(count, valueAt, limit) {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueAt(middle) <= limit) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
