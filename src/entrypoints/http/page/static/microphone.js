// The microphone, as blocks of samples.

import { Problem, UNREACHABLE } from "./service.js";

const BLOCK_S = 0.05;
const PATIENCE_MS = 60_000;

// What browsers do to make calls pleasant is of no use here, or does harm:
const WISHES = {
  // The page plays nothing while it listens; and what other programs play, a call perhaps, is to be written down, too.
  echoCancellation: false,
  // The model has learnt to hear through noise; a suppressor takes soft consonants away with it.
  noiseSuppression: false,
  // But a voice from across the room should come to the level at which the detector of speech expects voices.
  autoGainControl: true,
  channelCount: 1,
};

/** @type {Record<string, string>} */
const REFUSALS = {
  NotAllowedError:
    "Microphone access was denied. Allow it for this page in the browser's address bar, then press Speak again.",
  NotFoundError: "No microphone was found. Connect one and press Speak again, or choose a recording.",
  NotReadableError: "The microphone cannot be used. Another program may be using it.",
  OverconstrainedError: "The microphone does not support the settings that are needed.",
  TimeoutError:
    "The browser has not opened the microphone for a minute. Look for its question, or connect a speaker: some browsers " +
    "record nothing without one. Then press Speak again.",
};

/**
 * A microphone that is open; `stop` hands over what is left first.
 *
 * @typedef {{rateHz: number, stop: () => Promise<void>}} Microphone
 */

/** Why there can be no microphone on this page, or an empty text. */
export function whyNoMicrophone() {
  if (!globalThis.isSecureContext) {
    return (
      "Browsers allow the microphone only over HTTPS or on localhost. To speak, open this page over HTTPS; " +
      "recordings work here, too."
    );
  }
  if (!navigator.mediaDevices || !globalThis.AudioWorkletNode) {
    return "This browser does not let pages use a microphone.";
  }
  return "";
}

/**
 * Begins to listen; the browser may ask first.
 *
 * @param {(block: Float32Array) => void} onBlock Hears the samples, in [-1, 1].
 * @param {() => void} onLost Hears that the microphone was unplugged, or taken away.
 * @param {AbortSignal} cancelled Ends the waiting for the browser.
 * @param {number} [rateHz] The rate to be had; without it, it is what the device has.
 * @returns {Promise<Microphone | null>} `null` if it was cancelled.
 * @throws {Problem} There is none, or it was refused.
 */
export async function openMicrophone(onBlock, onLost, cancelled, rateHz) {
  const over = AbortSignal.any([cancelled, AbortSignal.timeout(PATIENCE_MS)]);
  /** @type {MediaStream | undefined} */
  let stream;
  /** @type {AudioContext | undefined} */
  let context;
  try {
    const asked = navigator.mediaDevices.getUserMedia({ audio: WISHES });
    // Who answers the question too late has the microphone closed again.
    asked.then((late) => over.aborted && close(late), () => {});
    stream = await unless(over, asked);
    const opened = (context = new AudioContext(rateHz ? { sampleRate: rateHz } : {}));
    await unless(over, loadWorklet(opened));
    await unless(over, opened.resume());
    const source = opened.createMediaStreamSource(stream);
    const blocks = new AudioWorkletNode(opened, "blocks", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { frames: Math.round(opened.sampleRate * BLOCK_S) },
    });
    /** @type {Promise<void>} */
    const emptied = new Promise((resolve) => {
      blocks.port.onmessage = ({ data }) => (data ? onBlock(data) : resolve());
    });
    const [track] = stream.getAudioTracks();
    track.onended = onLost;
    source.connect(blocks);
    const awake = await stayAwake();
    return {
      rateHz: opened.sampleRate,
      async stop() {
        track.onended = null;
        blocks.port.postMessage("stop");
        await emptied;
        track.stop();
        await opened.close();
        await awake?.release();
      },
    };
  } catch (error) {
    if (stream) close(stream);
    await context?.close();
    if (cancelled.aborted) return null;
    if (error instanceof Problem) throw error;
    const { name, message } = /** @type {Error} */ (error);
    throw new Problem(REFUSALS[name] ?? `The microphone cannot be used: ${message}`);
  }
}

/** @param {AudioContext} context */
async function loadWorklet(context) {
  try {
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
  } catch {
    // It comes from the service, like all of the page.
    throw new Problem("The service cannot be reached.", { code: UNREACHABLE });
  }
}

/** @param {MediaStream} stream */
function close(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

/**
 * What comes of `promise`, unless `signal` is first.
 *
 * @template T
 * @param {AbortSignal} signal
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
function unless(signal, promise) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/** Keep a phone from locking its screen, and the microphone with it; `null` where browsers refuse that. */
async function stayAwake() {
  try {
    return (await navigator.wakeLock?.request("screen")) ?? null;
  } catch {
    // A battery that is low is a reason, and none to not listen.
    return null;
  }
}
