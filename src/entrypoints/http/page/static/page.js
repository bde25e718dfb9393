// The page: what can be pressed, and what is told.

import { toJson, toSrt, toVtt } from "./captions.js";
import { Live } from "./live.js";
import { openMicrophone, whyNoMicrophone } from "./microphone.js";
import { Player } from "./player.js";
import { configuration, key, whyNotReady } from "./service.js";
import { Sound } from "./sound.js";
import { Transcript, clock } from "./transcript.js";
import { Upload } from "./upload.js";

const POLL_MS = 1000;
const WORTH_TELLING_S = 1;
// No utterance is longer: what lies farther back than this has been read, or is silence.
const LONGEST_UNREAD_S = 60;
const GIVE_UP_S = 30;

const $ = (id) => document.getElementById(id);

const transcript = new Transcript(
  { list: $("paragraphs"), draft: $("draft"), stable: $("stable"), unsettled: $("unsettled") },
  (start, play) => player.seek(start, play),
);
const player = new Player(
  { bar: $("player"), audio: $("sound"), play: $("play"), seek: $("seek"), now: $("now"), length: $("length") },
  transcript,
  () => {
    unplayable = true;
    show();
  },
);

/** What the page is about: a recording by its file, or what was spoken by its sound. */
let file = null;
let sound = null;
/** Whether this browser cannot play it. */
let unplayable = false;
/** What goes on, if something does. */
let upload = null;
let microphone = null;
let opening = false;
let live = null;
/** So many samples of the sound are among the words, or hold none. */
let read = 0;
let speaking = false;
/** Whether everything was read, and whether there are words that nobody has saved. */
let complete = false;
let unsaved = false;
let settings = null;
let ready = false;
let meeting = null;

// ---- what is told

/** Say something went wrong; `again` is what may be tried, under its name. */
function complain(problem, again) {
  $("message").textContent = problem.message;
  $("again").hidden = !again;
  if (again) {
    $("again").textContent = again.name;
    $("again").onclick = again.act;
  }
}

function note(text) {
  complain({ message: text });
}

/** Say something to those who do not see the page move. */
function mention(text) {
  $("status").textContent = text;
}

/** Let what was said last be read out, once it is final. */
function readOut(text) {
  const line = document.createElement("p");
  line.textContent = text;
  $("spoken").append(line);
  if ($("spoken").children.length > 3) $("spoken").firstChild.remove();
}

const isFinishing = () => Boolean(live) && !microphone && !opening;

/** Bring everything that depends on the state up to it. */
function show() {
  const listening = Boolean(microphone);
  const finishing = isFinishing();
  const busy = listening || finishing || Boolean(upload);
  const refusal = whyNoMicrophone();

  $("microphone-label").textContent = listening ? "Stop" : sound ? "Go on speaking" : "Speak";
  $("microphone").classList.toggle("listening", listening);
  $("microphone").disabled = !ready || Boolean(refusal);
  $("microphone").hidden = Boolean(upload);
  // Not disabled, which would take the focus away.
  $("microphone").setAttribute("aria-disabled", String(opening || finishing));
  $("microphone-note").textContent = refusal;
  $("microphone-note").hidden = !refusal;
  $("file").disabled = !ready;
  $("choice").hidden = busy || opening;

  $("listening").hidden = !listening && !finishing;
  $("listening-label").textContent = finishing ? "Reading the rest" : "Listening";
  $("reading").hidden = !upload;

  $("transcript").hidden = !file && !sound;
  $("name").textContent = file ? file.name : "What you said";
  const hasWords = !transcript.isEmpty;
  $("saves").hidden = !file && !sound;
  $("saves").classList.toggle("yet-to-come", busy || !(hasWords || sound));
  for (const button of document.querySelectorAll("[data-save]"))
    button.hidden = button.dataset.save === "wav" ? !sound : !hasWords;
  $("anew").hidden = busy;
  $("help").hidden = listening || finishing || unplayable || !hasWords;
  $("unplayable").hidden = !unplayable || !hasWords;
  $("nothing").hidden = busy || hasWords || !complete;
  document.body.classList.toggle("started", Boolean(file || sound));
}

// ---- the service

/** See whether the service can be used, wait until it can, and learn what it is. */
function meet() {
  meeting ??= greet().finally(() => (meeting = null));
}

async function greet() {
  for (let reason; (reason = await whyNotReady()); ) {
    ready = false;
    tellService("waiting", reason);
    show();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  ready = true;
  tellService("ready", "Ready");
  show();
  if (!settings) await identify();
}

/** Ask for the settings, which takes the key if there are keys. */
async function identify() {
  try {
    const { settings: inForce, model } = await configuration();
    settings = inForce;
    $("key-form").hidden = true;
    $("model").textContent = [model?.id, model?.note].filter(Boolean).join(": ");
    $("forget").hidden = !key.value;
    return true;
  } catch (problem) {
    handle(problem);
    return false;
  }
}

function tellService(state, text) {
  $("service").dataset.state = state;
  $("service").textContent = text;
}

/** Tell of a problem, and ask for what would help. */
function handle(problem, again) {
  if (problem.code === "unauthorized") {
    const tried = Boolean(key.value);
    key.value = "";
    $("forget").hidden = true;
    $("key-form").hidden = false;
    complain({ message: tried ? "The service does not know this key." : "" }, again);
    $("key").focus();
    return;
  }
  complain(problem, again);
  meet();
}

$("key-form").onsubmit = async (event) => {
  event.preventDefault();
  key.value = $("key").value.trim();
  $("key").value = "";
  note("");
  if (!(await identify())) return;
  mention("The key was accepted.");
  $("microphone").disabled ? $("file").focus() : $("microphone").focus();
};

$("forget").onclick = () => {
  key.value = "";
  location.reload();
};

// ---- a recording

/** Whether what is on the page may go. */
function mayReplace() {
  return !unsaved || confirm("What you said is not saved yet. Let it go?");
}

function clear() {
  transcript.clear();
  player.unload();
  unplayable = false;
  file = sound = null;
  read = 0;
  complete = unsaved = false;
  $("spoken").replaceChildren();
  note("");
}

function readRecording(chosen) {
  if (microphone || live || upload || !ready || !mayReplace()) return;
  clear();
  if (settings && chosen.size > settings.max_upload_bytes) {
    const limit = Math.round((settings.max_upload_bytes / 2 ** 20) * 100) / 100;
    note(`${chosen.name} is too large: this service takes up to ${limit} MiB.`);
    show();
    return;
  }
  file = chosen;
  player.load(file);
  tellShare("Sending", null);
  upload = new Upload(file, {
    sent: (share) => (share < 1 ? tellShare("Sending", share) : tellShare("Reading", null)),
    progress({ words, draft, read_until: until }) {
      transcript.add(words);
      transcript.draft("", draft.map((word) => word.text).join(" "));
      show();
      tellShare(`Reading, ${clock(until)} so far`, player.duration ? until / player.duration : null);
    },
    done(answer) {
      transcript.draft("", "");
      transcript.settle(answer.timestamps.words);
      player.measure();
      complete = true;
      endUpload(`Done: ${transcript.words.length} words.`);
    },
    failed(problem) {
      transcript.draft("", "");
      const kept = transcript.isEmpty ? "" : " What was read so far is kept.";
      endUpload("");
      handle(
        { message: problem.message + kept, code: problem.code },
        { name: "Try again", act: () => readRecording(chosen) },
      );
    },
  });
  show();
  mention(`Sending ${file.name}.`);
  $("cancel").focus();
}

function tellShare(text, share) {
  $("reading-label").textContent = text;
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = Math.min(share, 1);
}

function endUpload(text) {
  const held = $("cancel") === document.activeElement;
  upload = null;
  show();
  mention(text);
  // Whoever was on the button that goes is led to the words.
  if (held) (document.querySelector("#paragraphs [tabindex='0']") ?? $("file")).focus({ preventScroll: true });
}

$("cancel").onclick = () => {
  upload.cancel();
  transcript.draft("", "");
  endUpload("Cancelled.");
  note(transcript.isEmpty ? "Cancelled." : "Cancelled. What was read so far is kept.");
};

$("file").onchange = () => {
  const [chosen] = $("file").files;
  if (chosen) readRecording(chosen);
  // So that the same one can be chosen again.
  $("file").value = "";
};

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [dropped] = event.dataTransfer.files;
  if (dropped && (microphone || live)) note("Stop the microphone first, then drop the recording again.");
  else if (dropped && upload) note("A recording is being read. Cancel it first.");
  else if (dropped) readRecording(dropped);
});

// ---- the microphone

$("microphone").onclick = () => {
  if (opening || isFinishing()) return;
  if (microphone) stop();
  else listen();
};

/** Begin to listen, or go on: what was said and could not be read before a connection broke is read first. */
async function listen() {
  if (file) clear();
  note("");
  player.unload();
  complete = false;
  opening = true;
  show();
  try {
    let kept = sound;
    const opened = await openMicrophone(hear, () => stop("The microphone is gone."), sound?.rateHz);
    kept ??= new Sound(opened.rateHz);
    [sound, microphone] = [kept, opened];
    connect();
    mention("Listening.");
  } catch (problem) {
    await letGo();
    handle(problem);
  }
  opening = false;
  show();
}

function hear(block) {
  if (!sound) return;
  sound.append(block);
  live?.push();
  $("elapsed").textContent = clock(sound.seconds);
  const loudness = Math.sqrt(block.reduce((sum, sample) => sum + sample * sample, 0) / (block.length || 1));
  // From -60 dB to 0 dB.
  const level = Math.max(0, 1 + Math.log10(Math.max(loudness, 1e-6)) / 3);
  $("level").style.setProperty("transform", `scaleX(${level.toFixed(3)})`);
  tellLag();
  if (live?.stalledS > GIVE_UP_S) live.giveUp();
}

function tellLag() {
  const [lagS, unsentS] = live ? [live.lagS, live.unsentS] : [0, 0];
  const slow = unsentS > WORTH_TELLING_S ? `, ${unsentS.toFixed(0)} s not sent yet` : "";
  $("lag").textContent = lagS > WORTH_TELLING_S ? `${lagS.toFixed(1)} s behind${slow}` : "";
}

function connect() {
  speaking = false;
  live = new Live(sound, Math.max(read, sound.length - LONGEST_UNREAD_S * sound.rateHz), {
    started() {
      speaking = true;
    },
    partial(text, draft) {
      transcript.draft(text.slice(0, text.length - draft.length).trimEnd(), draft);
      tellLag();
    },
    final(words) {
      speaking = false;
      transcript.draft("", "");
      if (!words.length) return;
      read = Math.round(words.at(-1).end * sound.rateHz);
      transcript.add(words);
      unsaved = true;
      readOut(words.map((word) => word.text).join(" "));
    },
    closed,
  });
}

async function closed(problem) {
  await letGo();
  const isLost = speaking || live.unsentS > WORTH_TELLING_S;
  live = null;
  if (sound.length) player.load(sound.wav());
  if (problem) {
    const kept = transcript.isEmpty ? "" : "The words on the page are kept.";
    const lost = `What was said after ${clock(read / sound.rateHz)} has not been read to its end; its sound is kept, and is read when you reconnect.`;
    handle(
      { message: [problem.message, kept, isLost ? lost : ""].filter(Boolean).join(" "), code: problem.code },
      { name: isLost ? "Reconnect" : "Go on speaking", act: listen },
    );
  } else {
    read = sound.length;
    transcript.draft("", "");
    complete = true;
    mention(transcript.isEmpty ? "Nothing was said." : `Done: ${transcript.words.length} words.`);
  }
  show();
}

async function stop(why = "") {
  await letGo();
  live?.finish();
  show();
  if (why) note(why);
}

/** Close the microphone, if it is open; its last samples come before this is done. */
async function letGo() {
  const open = microphone;
  microphone = null;
  await open?.stop();
}

// ---- what remains

const FORMATS = {
  txt: () => new Blob([transcript.text], { type: "text/plain" }),
  srt: () => new Blob([toSrt(transcript.words)], { type: "application/x-subrip" }),
  vtt: () => new Blob([toVtt(transcript.words)], { type: "text/vtt" }),
  json: () => new Blob([toJson(transcript.words)], { type: "application/json" }),
  wav: () => sound.wav(),
};

for (const button of document.querySelectorAll("[data-save]")) {
  const ending = button.dataset.save;
  button.onclick = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(FORMATS[ending]());
    link.download = `${file ? file.name.replace(/\.[^.]*$/, "") : "speech"}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    if (ending !== "wav") unsaved = false;
  };
}

$("new").onclick = () => {
  if (!mayReplace()) return;
  clear();
  show();
  ($("microphone").disabled ? $("file") : $("microphone")).focus();
};

addEventListener("beforeunload", (event) => {
  if (unsaved || microphone) event.preventDefault();
});

show();
meet();
