// The microphone, as blocks of samples.

import { Problem } from "./service.js";

const BLOCK_S = 0.05;

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

const REFUSALS = {
  NotAllowedError:
    "The microphone was refused. Allow it for this page, in the browser beside the address, and press Speak again.",
  NotFoundError: "No microphone was found. Connect one and press Speak again, or choose a recording.",
  NotReadableError: "The microphone cannot be read. Perhaps another program holds it.",
  OverconstrainedError: "The microphone cannot do what is asked of it.",
};

/** Why there can be no microphone on this page, or an empty text. */
export function whyNoMicrophone() {
  if (!window.isSecureContext)
    return (
      "Browsers let a page use the microphone only over https, or on localhost, and this page came over plain http. " +
      "Recordings work here; to speak, open it by https."
    );
  if (!navigator.mediaDevices || !window.AudioWorkletNode) return "This browser gives pages no microphone.";
  return "";
}

/**
 * Begins to listen; the browser may ask first.
 *
 * @param {(block: Float32Array) => void} onBlock Hears the samples, in [-1, 1].
 * @param {() => void} onLost Hears that the microphone was unplugged, or taken away.
 * @param {number} [rateHz] The rate to be had; without it, it is what the device has.
 * @returns {Promise<{rateHz: number, stop: () => Promise<void>}>} `stop` hands over what is left first.
 * @throws {Problem} There is none, or it was refused.
 */
export async function openMicrophone(onBlock, onLost, rateHz) {
  let stream, context;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: WISHES });
    context = new AudioContext(rateHz ? { sampleRate: rateHz } : {});
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    await context.resume();
    const source = context.createMediaStreamSource(stream);
    const blocks = new AudioWorkletNode(context, "blocks", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { frames: Math.round(context.sampleRate * BLOCK_S) },
    });
    const emptied = new Promise((resolve) => {
      blocks.port.onmessage = ({ data }) => (data ? onBlock(data) : resolve());
    });
    const [track] = stream.getAudioTracks();
    track.onended = onLost;
    source.connect(blocks);
    const awake = await stayAwake();
    return {
      rateHz: context.sampleRate,
      async stop() {
        track.onended = null;
        blocks.port.postMessage("stop");
        await emptied;
        track.stop();
        await context.close();
        await awake?.release();
      },
    };
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    await context?.close();
    throw new Problem(REFUSALS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
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
