// The page: one state, which events change and which is shown anew after each; and what can be pressed.

import { Connection } from "./connection.js";
import { $ } from "./dom.js";
import { whyNoMicrophone } from "./microphone.js";
import { Player } from "./player.js";
import { Recordings } from "./recording.js";
import { copy, save } from "./save.js";
import { key } from "./service.js";
import { Speech } from "./speech.js";
import { hasUnsaved, initial, isNeeded, isUnsaved, update } from "./state.js";
import { Transcript } from "./transcript.js";
import { render } from "./view.js";

const DISCARD = "There is a transcript that has not been saved. Discard it?";

/** What the parts of the page share. */
export class Page {
  #state = initial({ noMicrophone: whyNoMicrophone(), hasKey: Boolean(key.value) });
  #connection = new Connection(this);
  #recordings = new Recordings(this);
  #speech = new Speech(this);

  transcript = new Transcript(
    {
      list: $("paragraphs", HTMLElement),
      draft: $("draft", HTMLElement),
      stable: $("stable", HTMLElement),
      unsettled: $("unsettled", HTMLElement),
    },
    (start, play) => this.player.seek(start, play),
  );
  player = new Player(
    {
      bar: $("player", HTMLElement),
      audio: $("sound", HTMLAudioElement),
      play: $("play", HTMLButtonElement),
      seek: $("seek", HTMLInputElement),
      now: $("now", HTMLElement),
      length: $("length", HTMLElement),
    },
    this.transcript,
    () => this.tell({ type: "recording cannot be played" }),
  );

  get state() {
    return this.#state;
  }

  /**
   * Something has happened: change the state, and show it.
   *
   * @param {import("./state.js").Event} event
   */
  tell(event) {
    this.#state = update(this.#state, event);
    render(this.#state);
  }

  /**
   * Tell of a problem, and ask for what would help.
   *
   * @param {{message: string, code: string}} problem
   * @param {import("./state.js").Remedy | null} [remedy]
   */
  report(problem, remedy = null) {
    if (problem.code === "unauthorized") {
      this.#connection.lock(remedy);
    } else {
      this.tell({ type: "problem", message: problem.message, remedy });
      this.#connection.meet();
    }
  }

  /** See whether the service can be used, and show it. */
  meet() {
    this.#connection.meet();
  }

  /** The service has told what it is, and who we are for it. */
  meetJobs() {
    this.#recordings.find();
  }

  /** Clear the page, if the person agrees to lose the transcript; what the service keeps stays there. */
  clear() {
    if (isUnsaved(this.#state) && !confirm(DISCARD)) return false;
    this.empty();
    return true;
  }

  /** Clear the page without a question. */
  empty() {
    this.transcript.clear();
    this.player.unload();
    this.#speech.clear();
    this.#recordings.clear();
    this.tell({ type: "page is cleared" });
  }

  start() {
    $("key-form", HTMLFormElement).onsubmit = (event) => {
      event.preventDefault();
      this.#unlock();
    };
    $("forget", HTMLElement).onclick = () => {
      key.value = "";
      location.reload();
    };
    $("microphone", HTMLElement).onclick = () => {
      const { activity } = this.#state;
      if (activity === "listening") this.#speech.stop();
      else if (activity === "opening") this.#speech.cancel();
      else this.#speech.listen();
    };
    $("cancel", HTMLElement).onclick = () => this.#recordings.cancel();
    $("again", HTMLElement).onclick = () => {
      if (this.#state.remedy === "retry") this.#recordings.retry();
      else this.#speech.listen();
    };
    $("copy", HTMLElement).onclick = async () => {
      if (await copy(this.transcript.text)) this.tell({ type: "transcript is copied" });
      else this.#note("The browser did not let this page copy. Select the text, or save it.");
    };
    $("recordings", HTMLElement).onclick = ({ target }) => {
      if (target instanceof HTMLButtonElement) this.#recordings.show(Number(target.dataset.recording));
    };
    $("new", HTMLElement).onclick = async () => {
      if (hasUnsaved(this.#state) && !confirm(DISCARD)) return;
      if (!await this.#recordings.discard()) return;
      this.empty();
      this.#focusSource();
    };
    $("delete", HTMLElement).onclick = () => {
      const isSaved = !this.#state.recordings[this.#state.shown].isUnsaved;
      if (isSaved || confirm("This transcript has not been saved. Delete it?")) this.#recordings.remove();
    };
    for (const button of document.querySelectorAll("button")) {
      const ending = button.dataset.save;
      if (ending) button.onclick = () => this.#save(ending);
    }
    this.#takeFiles();
    addEventListener("beforeunload", (event) => {
      if (isNeeded(this.#state)) event.preventDefault();
    });
    render(this.#state);
    this.#connection.meet();
  }

  #takeFiles() {
    const input = $("file", HTMLInputElement);
    input.onchange = () => {
      this.#take([...(input.files ?? [])]);
      // So that the same one can be chosen again.
      input.value = "";
    };
    addEventListener("dragover", (event) => {
      event.preventDefault();
      if (!this.#state.isDropping) this.tell({ type: "file is dragged", isOver: true });
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) this.tell({ type: "file is dragged", isOver: false });
    });
    addEventListener("drop", (event) => {
      event.preventDefault();
      this.tell({ type: "file is dragged", isOver: false });
      this.#take([...(event.dataTransfer?.files ?? [])]);
    });
  }

  /** @param {File[]} files */
  #take(files) {
    const { activity } = this.#state;
    if (!files.length) return;
    if (activity === "idle" || activity === "transcribing") this.#recordings.add(files);
    else this.#note("Stop the microphone first, then drop the recording again.");
  }

  /** @param {string} message */
  #note(message) {
    this.tell({ type: "problem", message, remedy: null });
  }

  async #unlock() {
    const field = $("key", HTMLInputElement);
    const text = field.value.trim();
    field.value = "";
    if (await this.#connection.unlock(text)) this.#focusSource();
  }

  #focusSource() {
    const microphone = $("microphone", HTMLButtonElement);
    (microphone.disabled ? $("file", HTMLElement) : microphone).focus();
  }

  /** @param {string} ending */
  #save(ending) {
    const { source } = this.#state;
    const name = source?.type === "recording" ? source.name.replace(/\.[^.]*$/, "") : "speech";
    save(ending, name, { transcript: this.transcript, wav: () => this.#speech.wav() });
    if (ending !== "wav") this.tell({ type: "transcript is saved" });
  }
}

new Page().start();
