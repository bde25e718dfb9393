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
function renderSources({ activity, waiting, source, noMicrophone, progress: { label, share }, meter }) {
  const isListening = activity === "listening";
  const isFinishing = activity === "finishing";
  const isUploading = activity === "transcribing";

  const pause = source?.type === "speech" ? "Continue speaking" : "Speak";
  setText($("microphone-label", HTMLElement), isListening ? "Stop" : pause);
  microphone.classList.toggle("listening", isListening);
  microphone.disabled = waiting !== null || Boolean(noMicrophone);
  microphone.hidden = isUploading;
  // Not disabled, which would take the focus away.
  microphone.setAttribute("aria-disabled", String(activity === "opening" || isFinishing));
  setText($("microphone-note", HTMLElement), noMicrophone);
  $("microphone-note", HTMLElement).hidden = !noMicrophone;
  $("file", HTMLInputElement).disabled = waiting !== null;
  $("choice", HTMLElement).hidden = activity !== "idle";

  $("listening", HTMLElement).hidden = !isListening && !isFinishing;
  setText($("listening-label", HTMLElement), isFinishing ? "Finishing" : "Listening");
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
function renderTranscript({ activity, source, words, isComplete, isUnplayable }) {
  const isSpeech = source?.type === "speech";
  const isSpeaking = activity === "listening" || activity === "finishing";
  const isBusy = isSpeaking || activity === "transcribing";
  $("transcript", HTMLElement).hidden = !source;
  setText($("name", HTMLElement), source?.type === "recording" ? source.name : "What you said");
  $("saves", HTMLElement).hidden = !source;
  $("saves", HTMLElement).classList.toggle("yet-to-come", isBusy || !(words || isSpeech));
  for (const button of saves) button.hidden = button.dataset.save === "wav" ? !isSpeech : !words;
  $("anew", HTMLElement).hidden = isBusy;
  $("help", HTMLElement).hidden = isSpeaking || isUnplayable || !words;
  $("unplayable", HTMLElement).hidden = !isUnplayable || !words;
  $("nothing", HTMLElement).hidden = isBusy || words > 0 || !isComplete;
}
