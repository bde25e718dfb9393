// The page as a picture of its state.

import { $, clock, setText } from "./dom.js";

const WORTH_TELLING_S = 1;
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
function renderSources({ activity, waiting, source, noMicrophone, progress: { label, share }, meter, isReconnecting }) {
  const isOpening = activity === "opening";
  const isListening = activity === "listening";
  const isFinishing = activity === "finishing";
  const isUploading = activity === "transcribing";

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
  $("choice", HTMLElement).hidden = activity !== "idle";

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
  setText($("reading-label", HTMLElement), label);
  if (share === null) progress.removeAttribute("value");
  else progress.value = Math.min(share, 1);
}

/** @param {import("./state.js").State} state */
function renderTranscript({ activity, source, words, isComplete, isUnplayable, isCopied, recordings, shown }) {
  const isSpeech = source?.type === "speech";
  const isSpeaking = activity === "listening" || activity === "finishing";
  const isBusy = isSpeaking || activity === "transcribing";
  $("transcript", HTMLElement).hidden = !source;
  setText($("name", HTMLElement), source?.type === "recording" ? source.name : "What you said");
  $("saves", HTMLElement).hidden = !source;
  $("saves", HTMLElement).classList.toggle("yet-to-come", isBusy || !(words || isSpeech));
  for (const button of saves) button.hidden = button.dataset.save === "wav" ? !isSpeech : !words;
  $("copy", HTMLElement).hidden = !words;
  setText($("copy", HTMLElement), isCopied ? "Copied" : "Copy");
  renderRecordings(recordings, shown, isBusy);
  $("anew", HTMLElement).hidden = isBusy;
  $("help", HTMLElement).hidden = isSpeaking || isUnplayable || !words;
  $("unplayable", HTMLElement).hidden = !isUnplayable || !words;
  $("nothing", HTMLElement).hidden = isBusy || words > 0 || !isComplete;
}

/** @type {Record<import("./state.js").Recording["progress"], string>} */
const PROGRESS = { waiting: "waiting", reading: "transcribing", done: "done", failed: "not finished" };

/**
 * All of them, where there are several; each opens its transcript once none is being read.
 *
 * @param {import("./state.js").Recording[]} recordings
 * @param {number} shown
 * @param {boolean} isBusy
 */
function renderRecordings(recordings, shown, isBusy) {
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
