// Plays what was transcribed, and marks the word that is heard.

import { clock } from "./dom.js";

export class Player {
  #elements;
  #transcript;
  #url = "";
  #onUnplayable;

  /**
   * @param {{bar: HTMLElement, audio: HTMLAudioElement, play: HTMLButtonElement, seek: HTMLInputElement,
   *   now: HTMLElement, length: HTMLElement}} elements
   * @param {import("./transcript.js").Transcript} transcript
   * @param {() => void} onUnplayable Hears that this browser cannot play what was loaded.
   */
  constructor(elements, transcript, onUnplayable) {
    this.#elements = elements;
    this.#transcript = transcript;
    this.#onUnplayable = onUnplayable;
    const { audio, play, seek } = elements;
    play.onclick = () => (audio.paused ? this.#start() : audio.pause());
    seek.oninput = () => {
      audio.currentTime = Number(seek.value);
    };
    audio.onloadedmetadata = audio.ondurationchange = () => this.#showLength();
    audio.onplay = audio.onpause = () => this.#showState();
    audio.onseeked = () => this.#showPlace();
    audio.onerror = () => {
      if (!this.#url) return;
      this.unload();
      this.#onUnplayable();
    };
  }

  /** Seconds, as soon as they are known; else `NaN`. */
  get duration() {
    const { duration } = this.#elements.audio;
    return Number.isFinite(duration) ? duration : NaN;
  }

  get isLoaded() {
    return !this.#elements.bar.hidden;
  }

  /** @param {Blob} blob Something to play. */
  load(blob) {
    this.unload();
    this.#url = URL.createObjectURL(blob);
    this.#elements.audio.src = this.#url;
  }

  unload() {
    const { bar, audio } = this.#elements;
    audio.pause();
    audio.removeAttribute("src");
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = "";
    bar.hidden = true;
  }

  /**
   * Go to `seconds`; begin to play, or stay as it is.
   *
   * @param {number} seconds
   * @param {boolean} play
   */
  seek(seconds, play) {
    if (!this.isLoaded) return;
    const { audio } = this.#elements;
    audio.currentTime = seconds;
    if (play) this.#start();
  }

  /** See how long it is, once more. */
  measure() {
    if (this.isLoaded) this.#showLength();
  }

  async #start() {
    try {
      await this.#elements.audio.play();
    } catch (error) {
      // It was paused, or something else was loaded, before it began.
      if (!(error instanceof DOMException && error.name === "AbortError")) throw error;
    }
  }

  #showLength() {
    const { bar, seek, length } = this.#elements;
    bar.hidden = false;
    // Some recordings do not say how long they are: then their words do.
    const seconds = this.duration || this.#transcript.words.at(-1)?.end || 0;
    seek.max = String(seconds);
    length.textContent = clock(seconds);
    this.#showPlace();
  }

  #showState() {
    const { audio, play } = this.#elements;
    play.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    play.classList.toggle("playing", !audio.paused);
    if (!audio.paused) this.#run();
  }

  // By frame: the audio's own event comes four times a second, and words come faster.
  #run = () => {
    this.#showPlace();
    if (!this.#elements.audio.paused) requestAnimationFrame(this.#run);
  };

  #showPlace() {
    const { audio, seek, now, length } = this.#elements;
    seek.value = String(audio.currentTime);
    const spoken = `${clock(audio.currentTime)} of ${length.textContent}`;
    if (seek.getAttribute("aria-valuetext") !== spoken) {
      seek.setAttribute("aria-valuetext", spoken);
      now.textContent = clock(audio.currentTime);
    }
    // A seek may end a little before the word that it is for.
    this.#transcript.mark(this.#transcript.at(audio.currentTime + 0.01));
  }
}
