// Transcripts and sound as files.

import { toJson, toSrt, toVtt } from "./captions.js";

/**
 * @typedef {object} Content
 * @property {import("./transcript.js").Transcript} transcript
 * @property {() => Blob} wav The sound.
 */

/** @type {Record<string, (content: Content) => Blob>} */
const FORMATS = {
  txt: ({ transcript }) => new Blob([transcript.text], { type: "text/plain" }),
  srt: ({ transcript }) => new Blob([toSrt(transcript.words)], { type: "application/x-subrip" }),
  vtt: ({ transcript }) => new Blob([toVtt(transcript.words)], { type: "text/vtt" }),
  json: ({ transcript }) => new Blob([toJson(transcript.words)], { type: "application/json" }),
  wav: ({ wav }) => wav(),
};

/**
 * Put a text on the clipboard.
 *
 * @param {string} text
 * @returns {Promise<boolean>} Whether the browser did.
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP browsers have no clipboard for pages, but what is selected can be copied.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    return isCopied;
  }
}

/**
 * Let the browser save `content`.
 *
 * @param {string} ending Which format, and the end of the file's name.
 * @param {string} name The file's name, before that.
 * @param {Content} content
 */
export function save(ending, name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(FORMATS[ending](content));
  link.download = `${name}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
