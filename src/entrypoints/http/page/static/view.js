// The page as a picture of its state.

import { $, clock, setText } from "./dom.js";

const WORTH_TELLING_S = 1;
const NOT_HERE = "The recording was sent earlier, so this page cannot play it.";
const REMEDIES = { retry: "Try again", reconnect: "Reconnect", continue: "Continue speaking" };

const microphone = $("microphone", HTMLButtonElement);
const progress = $("progress", HTMLProgressElement);
const saves = [...document.querySelectorAll("button")].filter((button) => button.dataset.save);

/**
 * Bring everything that depends on the state up to it.
 *
 * @param {import("./state.js").State} state
 */
export function render(state) {
  renderService(state);
  renderSources(state);
  renderTranscript(state);
  setText($("message", HTMLElement), state.message);
  $("again", HTMLElement).hidden = !state.remedy;
  if (state.remedy) setText($("again", HTMLElement), REMEDIES[state.remedy]);
  setText($("status", HTMLElement), state.status);
  document.body.classList.toggle("started", Boolean(state.source));
  document.body.classList.toggle("dropping", state.isDropping);
}

/** @param {import("./state.js").State} state */
function renderService({ waiting, configuration, hasKey, asksForKey }) {
  $("service", HTMLElement).dataset.state = waiting === null ? "ready" : "waiting";
  setText($("service", HTMLElement), waiting ?? "Ready");
  const model = configuration?.model;
  setText($("model", HTMLElement), [model?.id, model?.note].filter(Boolean).join(": "));
  $("key-form", HTMLElement).hidden = !asksForKey;
  $("forget", HTMLElement).hidden = !(configuration && hasKey);
}

/** @param {import("./state.js").State} state */
function renderSources(state) {
  const { activity, waiting, source, noMicrophone, meter, isReconnecting } = state;
  const isOpening = activity === "opening";
  const isListening = activity === "listening";
  const isFinishing = activity === "finishing";
  const isUploading = activity === "transcribing";
  const isKept = Boolean(state.recordings[state.reading]?.isKept);

  const pause = source?.type === "speech" ? "Continue speaking" : "Speak";
  setText($("microphone-label", HTMLElement), isListening ? "Stop" : isOpening ? "Cancel" : pause);
  microphone.classList.toggle("listening", isListening);
  // Never while it is open: whatever the service does, it can be closed.
  microphone.disabled = (waiting !== null && !isListening && !isOpening) || Boolean(noMicrophone);
  microphone.hidden = isUploading;
  // Not disabled, which would take the focus away.
  microphone.setAttribute("aria-disabled", String(isFinishing));
  setText($("microphone-note", HTMLElement), noMicrophone);
  $("microphone-note", HTMLElement).hidden = !noMicrophone;
  $("file", HTMLInputElement).disabled = waiting !== null;
  $("choice", HTMLElement).hidden = activity !== "idle" && !isKept;
  $("kept-note", HTMLElement).hidden = !isKept;

  $("listening", HTMLElement).hidden = !isOpening && !isListening && !isFinishing;
  const listening = isReconnecting ? "Listening, and connecting again" : "Listening";
  const opening = "Allow the microphone where the browser asks for it";
  setText($("listening-label", HTMLElement), isOpening ? opening : isFinishing ? "Finishing" : listening);
  document.body.classList.toggle("busy", activity !== "idle");
  setText($("elapsed", HTMLElement), clock(meter.seconds));
  $("level", HTMLElement).style.setProperty("transform", `scaleX(${meter.level.toFixed(3)})`);
  const unsent = meter.unsentS > WORTH_TELLING_S ? `, ${meter.unsentS.toFixed(0)} s waiting to be sent` : "";
  setText($("lag", HTMLElement), meter.lagS > WORTH_TELLING_S ? `${meter.lagS.toFixed(1)} s behind${unsent}` : "");

  $("reading", HTMLElement).hidden = !isUploading;
  renderProgress(state);
}

/** @param {import("./state.js").State} state */
function renderProgress({ progress: { label, share }, recordings, reading, shown }) {
  const name = reading >= 0 && reading !== shown ? `${recordings[reading].name}: ` : "";
  setText($("reading-label", HTMLElement), name + label);
  if (share === null) progress.removeAttribute("value");
  else progress.value = Math.min(share, 1);
}

/** @param {import("./state.js").State} state */
function renderTranscript(state) {
  const { activity, source, words, isComplete, isUnplayable, isCopied, recordings, shown, reading } = state;
  const isSpeech = source?.type === "speech";
  const isSpeaking = activity === "listening" || activity === "finishing";
  const isBusy = isSpeaking || (activity === "transcribing" && reading === shown);
  const { isKept = false, isFound = false } = recordings[shown] ?? {};
  $("transcript", HTMLElement).hidden = !source;
  setText($("name", HTMLElement), source?.type === "recording" ? source.name : "What you said");
  $("saves", HTMLElement).hidden = !source;
  $("saves", HTMLElement).classList.toggle("yet-to-come", isBusy || !(words || isSpeech));
  for (const button of saves) button.hidden = button.dataset.save === "wav" ? !isSpeech : !words;
  $("copy", HTMLElement).hidden = !words;
  setText($("copy", HTMLElement), isCopied ? "Copied" : "Copy");
  renderRecordings(state);
  $("new", HTMLElement).hidden = activity !== "idle";
  const keepsSome = recordings.some((one) => one.isKept);
  setText($("new", HTMLElement), keepsSome ? "Clear the page, and delete from the service" : "Clear the page");
  $("delete", HTMLElement).hidden = isBusy || !isKept || recordings.length < 2;
  $("anew", HTMLElement).hidden = $("new", HTMLElement).hidden && $("delete", HTMLElement).hidden;
  $("help", HTMLElement).hidden = isSpeaking || isUnplayable || isFound || !words;
  $("unplayable", HTMLElement).hidden = !(isUnplayable || isFound) || !words;
  setText($("why-unplayable", HTMLElement), isFound ? NOT_HERE : "This browser cannot play the recording.");
  $("nothing", HTMLElement).hidden = isBusy || words > 0 || !isComplete;
}

/** @type {Record<import("./state.js").Recording["progress"], string>} */
const PROGRESS = { waiting: "waiting", reading: "transcribing", sent: "sent", done: "done", failed: "not finished" };

/**
 * All of them, where there are several; each opens its transcript, but while one is read that only the page keeps.
 *
 * @param {import("./state.js").State} state
 */
function renderRecordings({ activity, recordings, shown, reading }) {
  const isBusy = activity !== "idle" && !recordings[reading]?.isKept;
  const list = $("recordings", HTMLElement);
  list.hidden = recordings.length < 2;
  while (list.children.length > recordings.length) list.lastElementChild?.remove();
  recordings.forEach(({ name, progress }, at) => {
    const button = list.children[at]?.firstElementChild ?? list.appendChild(item(at)).firstElementChild;
    if (!(button instanceof HTMLButtonElement)) return;
    setText(button, `${name}: ${PROGRESS[progress]}`);
    button.setAttribute("aria-current", String(at === shown));
    // Not disabled, which would take the focus away.
    button.setAttribute("aria-disabled", String(isBusy || progress === "waiting"));
  });
}

/** @param {number} at */
function item(at) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.dataset.recording = String(at);
  const item = document.createElement("li");
  item.append(button);
  return item;
}
