// What the microphone heard, kept to be played, saved, and sent again if a connection breaks.

const TAIL_S = 30;

/** Mono sound of 16 bits; all but the last seconds lies in blobs, which browsers may keep on disk. */
export class Sound {
  /** @type {Blob[]} */
  #blobs = [];
  #inBlobs = 0;
  /** @type {Int16Array<ArrayBuffer>[]} */
  #tail = [];
  #inTail = 0;

  /** @param {number} rateHz */
  constructor(rateHz) {
    this.rateHz = rateHz;
  }

  /** Samples so far. */
  get length() {
    return this.#inBlobs + this.#inTail;
  }

  get seconds() {
    return this.length / this.rateHz;
  }

  /** @param {Float32Array} block Samples in [-1, 1]; louder ones are cut. */
  append(block) {
    const samples = Int16Array.from(block, (sample) => Math.max(-1, Math.min(1, sample)) * 32767);
    this.#tail.push(samples);
    this.#inTail += samples.length;
    // Two tails' worth, so that the last seconds are always at hand.
    if (this.#inTail < 2 * TAIL_S * this.rateHz) return;
    let moved = 0;
    const from = this.#tail.findIndex((one) => (moved += one.length) >= TAIL_S * this.rateHz) + 1;
    this.#blobs.push(new Blob(this.#tail.splice(0, from)));
    this.#inBlobs += moved;
    this.#inTail -= moved;
  }

  /**
   * The bytes of samples `from` to `to`, little-endian: every machine that has browsers is.
   *
   * @param {number} from
   * @param {number} to
   * @returns {Promise<ArrayBuffer>}
   */
  async read(from, to) {
    if (from < this.#inBlobs) {
      const all = new Blob([...this.#blobs, ...this.#tail]);
      return await all.slice(from * 2, to * 2).arrayBuffer();
    }
    // Whoever follows what is being said finds it here, twenty times a second.
    const samples = new Int16Array(to - from);
    let begin = this.length;
    for (let at = this.#tail.length - 1; begin > from; at--) {
      const block = this.#tail[at];
      begin -= block.length;
      const wanted = block.subarray(Math.max(from - begin, 0), Math.max(to - begin, 0));
      if (wanted.length) samples.set(wanted, Math.max(begin - from, 0));
    }
    return samples.buffer;
  }

  /** All of it as a file that every program can play. */
  wav() {
    const bytes = this.length * 2;
    const head = new DataView(new ArrayBuffer(44));
    const text = (/** @type {number} */ at, /** @type {string} */ letters) =>
      [...letters].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF");
    head.setUint32(4, 36 + bytes, true);
    text(8, "WAVEfmt ");
    head.setUint32(16, 16, true);
    head.setUint16(20, 1, true);
    head.setUint16(22, 1, true);
    head.setUint32(24, this.rateHz, true);
    head.setUint32(28, this.rateHz * 2, true);
    head.setUint16(32, 2, true);
    head.setUint16(34, 16, true);
    text(36, "data");
    head.setUint32(40, bytes, true);
    return new Blob([head, ...this.#blobs, ...this.#tail], { type: "audio/wav" });
  }
}
