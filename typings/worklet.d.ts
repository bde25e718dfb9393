// What an audio worklet finds around it; TypeScript's library has only what a page finds.

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}

declare function registerProcessor(
  name: string,
  processor: new (options: { processorOptions: { frames: number } }) => AudioWorkletProcessor,
): void;
