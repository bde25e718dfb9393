// Runs in the audio thread: gathers the microphone's samples, and hands them over in blocks.

class Blocks extends AudioWorkletProcessor {
  #block;
  #filled = 0;
  #stopped = false;

  /** @param {{processorOptions: {frames: number}}} options */
  constructor({ processorOptions }) {
    super();
    this.#block = new Float32Array(processorOptions.frames);
    this.port.onmessage = () => {
      this.#stopped = true;
      this.#hand();
      this.port.postMessage(null);
    };
  }

  /** @param {Float32Array[][]} inputs */
  process([[channel]]) {
    // Without a channel, nothing is connected yet, or no more.
    for (let at = 0; channel && at < channel.length;) {
      const taken = channel.subarray(at, at + this.#block.length - this.#filled);
      this.#block.set(taken, this.#filled);
      this.#filled += taken.length;
      at += taken.length;
      if (this.#filled === this.#block.length) this.#hand();
    }
    return !this.#stopped;
  }

  #hand() {
    this.port.postMessage(this.#block.slice(0, this.#filled));
    this.#filled = 0;
  }
}

registerProcessor("blocks", Blocks);
