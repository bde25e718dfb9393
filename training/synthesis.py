"""Synthetic speech of many voices: Kokoro's, and mixtures of two of them, over all GPUs and processes of a machine."""

import argparse
import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soxr  # type: ignore[import-untyped]
import torch

from .shards import Entry, Samples, write_shard

_RATE_IN, _RATE = 24_000, 16_000
_STYLE_STEP = 10


def pack_voices(directory: Path, out: Path) -> None:
    """Every tenth style of each voice of a directory of ``NAME.bin`` (510 styles of 256 float32), in one file."""
    voices = {
        path.stem: np.fromfile(path, np.float32).reshape(-1, 256)[::_STYLE_STEP].astype(np.float16)
        for path in sorted(directory.glob("*.bin"))
    }
    np.savez_compressed(out, allow_pickle=False, **voices)


def tasks(lines: list[str], chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """Texts with their American and British phonemes, one to five sentences at a time."""
    at = 0
    while at < len(lines):
        wanted = chance.choice((20, 60, 120, 200, 280))
        group = [lines[at].rstrip("\n").split("\t")]
        at += 1
        while at < len(lines) and sum(len(item[1]) for item in group) < wanted:
            following = lines[at].rstrip("\n").split("\t")
            if sum(len(item[1]) for item in group) + len(following[1]) > 380:
                break
            group.append(following)
            at += 1
        yield tuple(" ".join(item[column] for item in group) for column in range(3))  # type: ignore[misc]


class Speaker:
    """Kokoro's network and voices on one device."""

    def __init__(self, model: Path, letters: Path, voices: Path, device: torch.device) -> None:
        """Load all.

        Args:
            model: The ONNX export.
            letters: JSON that numbers the phonemes, as ``{"vocab": {...}}`` or plainly.
            voices: What `pack_voices` wrote.
            device: With CUDA the network runs on PyTorch, else on onnxruntime.
        """
        numbers = json.loads(letters.read_text(encoding="utf-8"))
        self._letters: dict[str, int] = numbers.get("vocab", numbers)
        with np.load(voices) as found:
            self.voices = {name: torch.from_numpy(found[name].astype(np.float32)) for name in found.files}
        self._device = device
        self._network: Any = None
        self._session: Any = None
        if device.type == "cuda":
            from .onnx_on_torch import OnnxOnTorch  # noqa: PLC0415 - needs onnx

            self._network = OnnxOnTorch(model, device)
        else:
            import onnxruntime  # noqa: PLC0415 - not wanted on a GPU

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def say(self, phonemes: str, style: torch.Tensor, speed: float) -> Samples:
        """Audio of 16 kHz, its peak at 0.6.

        Args:
            phonemes: At most 508 letters; unknown ones are left out.
            style: Shape ``(styles, 256)``, one for every tenth length.
            speed: Factor, about 1.
        """
        numbers = [self._letters[letter] for letter in phonemes if letter in self._letters][:508]
        row = style[min(len(numbers) // _STYLE_STEP, len(style) - 1)][None]
        tokens = torch.tensor([[0, *numbers, 0]])
        if self._network is not None:
            said = self._network(
                tokens=tokens.to(self._device),
                style=row.to(self._device),
                speed=torch.full((1,), speed, device=self._device),
            )
            audio = said.flatten().cpu().numpy()
        else:
            given = {"tokens": tokens.numpy(), "style": row.numpy(), "speed": np.full(1, speed, np.float32)}
            audio = np.asarray(self._session.run(None, given)[0]).flatten()
        audio = soxr.resample(audio, _RATE_IN, _RATE)
        return (audio * (0.6 * 32767 / max(float(np.abs(audio).max()), 1e-4))).astype(np.int16)

    def someone(self, chance: random.Random) -> tuple[str, str, torch.Tensor]:
        """A name, the kind of English (``a`` or ``b``), and a style: one voice's, or a mixture of two."""
        names = sorted(self.voices)
        # English voices twice as often as those of other languages, which have an accent.
        names += [name for name in names if name[0] in "ab"]
        first, second = chance.choice(names), chance.choice(names)
        english = first[0] if first[0] in "ab" else chance.choice("aab")
        if chance.random() < 0.4:
            return first, english, self.voices[first]
        share = chance.uniform(0.3, 0.7)
        return f"{first}-{second}", english, share * self.voices[first] + (1 - share) * self.voices[second]


def _work(number: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    chance = random.Random(f"{arguments.seed}/{number}")  # noqa: S311 - no secret
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", number % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    speaker = Speaker(arguments.model, arguments.letters, arguments.voices, device)
    with arguments.phonemes.open(encoding="utf-8") as text:
        lines = [line for place, line in enumerate(text) if place % arguments.processes == number]
    until = arguments.begun + arguments.seconds
    waiting = tasks(lines, chance)
    round_ = 0
    finished = False
    while not finished:

        def spoken() -> Iterator[tuple[Samples, Entry]]:
            nonlocal finished
            made = 0
            while made < arguments.shard_s * _RATE:
                task = next(waiting, None)
                if task is None or time.time() > until:
                    finished = True
                    return
                name, english, style = speaker.someone(chance)
                phonemes = task[1] if english == "a" else task[2]
                audio = speaker.say(phonemes, style, chance.uniform(0.8, 1.25))
                made += len(audio)
                yield audio, Entry(len(audio), "kokoro", name, task[0])

        hours = write_shard(arguments.out / f"kokoro-{arguments.seed}-{number:03d}-{round_:03d}", spoken())
        round_ += 1
        print(f"{time.time() - arguments.begun:.0f} s: process {number} has made {hours:.3f} h", flush=True)


def main() -> None:
    """``python -m training.synthesis``: shards of speech, until the text or the time is used up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--letters", type=Path, required=True)
    parser.add_argument("--voices", type=Path, required=True, help="a file, or a directory of NAME.bin")
    parser.add_argument("--phonemes", type=Path, required=True, help="what training.phonemes wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="of time")
    parser.add_argument("--shard-s", type=float, default=900, help="seconds of audio in a shard")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.begun = time.time()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.voices.is_dir():
        packed = arguments.out / "voices.npz"
        pack_voices(arguments.voices, packed)
        arguments.voices = packed
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(number, arguments)) for number in range(arguments.processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
