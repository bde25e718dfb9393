"""Kokoro's and Piper's networks: sentences in, speech of many voices out."""

import json
import random
import re
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import soxr  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.nn import functional

from .accents import accented
from .alignment import beginnings
from .shards import Samples

RATE = 16_000
_STYLE_STEP = 10

_KOKORO = (
    ("aɪ", "I"),
    ("aʊ", "W"),
    ("eɪ", "A"),
    ("ɔɪ", "Y"),
    ("oʊ", "O"),
    ("əʊ", "O"),
    ("eə", "ɛə"),
    ("dʒ", "ʤ"),
    ("tʃ", "ʧ"),
    ("əl", "ᵊl"),
    ("ɜːɹ", "ɜɹ"),
    ("ɜː", "ɜɹ"),
    ("ɪə", "iə"),
    ("ɐ", "ə"),
    ("ɚ", "əɹ"),
    ("r", "ɹ"),
    ("x", "k"),
    ("e", "A"),
    ("ʔ", "t"),
    ("ɾ", "T"),
    ("ː", ""),
)
"""What espeak-ng writes, and the letter on which Kokoro was trained; in this order.

Source: the phonemes are described in EN_PHONES.md of misaki (MIT); the list is ours.
"""


class Line(NamedTuple):
    """A text and how espeak-ng says it."""

    text: str
    american: str
    british: str


class Spoken(NamedTuple):
    """A text that was said."""

    text: str
    voice: str
    samples: Samples
    bounds: tuple[int, ...] = ()
    """See `Entry`."""


class Voices(Protocol):
    """A network that has been loaded."""

    corpus: str
    at_once: int
    """How many lines are best said together."""

    def say(self, lines: list[Line], chance: random.Random) -> list[Spoken]:
        """Say each line in a voice of chance: 16 kHz, the peak at 0.6."""
        ...


def _levelled(audio: np.ndarray) -> Samples:
    return (audio * (0.6 * 32767 / max(float(np.abs(audio).max(initial=0.0)), 1e-4))).astype(np.int16)


class Kokoro:
    """Kokoro-82M: 54 voices and mixtures of two of them, one line at a time."""

    corpus = "kokoro"
    at_once = 1

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
            self._voices = {name: torch.from_numpy(found[name].astype(np.float32)) for name in found.files}
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

    def say(self, lines: list[Line], chance: random.Random) -> list[Spoken]:
        """See `Voices`."""
        said: list[Spoken] = []
        for line in lines:
            name, english, style = self._someone(chance)
            phonemes = line.american if english == "a" else line.british
            said.append(Spoken(line.text, name, self._one(phonemes, style, chance.uniform(0.8, 1.25))))
        return said

    def _one(self, phonemes: str, style: Tensor, speed: float) -> Samples:
        for theirs, ours in _KOKORO:
            phonemes = phonemes.replace(theirs, ours)
        numbers = [self._letters[letter] for letter in phonemes if letter in self._letters][:508]
        row = style[min(len(numbers) // _STYLE_STEP, len(style) - 1)][None]
        tokens = torch.tensor([[0, *numbers, 0]])
        if self._network is not None:
            (said,) = self._network(
                tokens=tokens.to(self._device),
                style=row.to(self._device),
                speed=torch.full((1,), speed, device=self._device),
            )
            audio = said.flatten().cpu().numpy()
        else:
            given = {"tokens": tokens.numpy(), "style": row.numpy(), "speed": np.full(1, speed, np.float32)}
            audio = np.asarray(self._session.run(None, given)[0]).flatten()
        return _levelled(soxr.resample(audio, 24_000, RATE))

    def _someone(self, chance: random.Random) -> tuple[str, str, Tensor]:
        """A name, the kind of English (``a`` or ``b``), and a style: one voice's, or a mixture of two."""
        names = sorted(self._voices)
        # English voices twice as often as those of other languages, which have an accent.
        names += [name for name in names if name[0] in "ab"]
        first, second = chance.choice(names), chance.choice(names)
        english = first[0] if first[0] in "ab" else chance.choice("aab")
        if chance.random() < 0.4:
            return first, english, self._voices[first]
        share = chance.uniform(0.3, 0.7)
        return f"{first}-{second}", english, share * self._voices[first] + (1 - share) * self._voices[second]


def pack_voices(directory: Path, out: Path) -> None:
    """Every tenth style of each voice of a directory of ``NAME.bin`` (510 styles of 256 float32), in one file.

    Raises:
        ValueError: The directory has no voices.
    """
    voices = {
        path.stem: np.fromfile(path, np.float32).reshape(-1, 256)[::_STYLE_STEP].astype(np.float16)
        for path in sorted(directory.glob("*.bin"))
    }
    if not voices:
        raise ValueError(f"{directory}: no NAME.bin")
    np.savez_compressed(out, allow_pickle=False, **voices)


class Piper:
    """A Piper voice of many speakers, mixtures of two of them, and speakers made up; many lines at a time, on PyTorch."""

    corpus = "piper-libritts"
    at_once = 24

    _ACCENTED = 0.3
    _BRITISH = 0.15
    _MADE_UP = 4000
    _HOP = 256
    # Frames of each phoneme.
    _LENGTHS = "/Ceil_output_0"
    _STYLES = "emb_g.weight"
    # 441 samples of 22.05 kHz are 320 of 16 kHz.
    _FROM, _TO = 441, 320

    def __init__(self, model: Path, letters: Path, device: torch.device) -> None:
        """Load all.

        Args:
            model: The ONNX export, of 22.05 kHz.
            letters: The configuration that comes with it, or lines of a phoneme, a blank and its number.
            device: Where it runs.
        """
        from .onnx_on_torch import OnnxOnTorch  # noqa: PLC0415 - needs onnx

        text = letters.read_text(encoding="utf-8")
        if letters.suffix == ".json":
            self._letters = {letter: int(numbers[0]) for letter, numbers in json.loads(text)["phoneme_id_map"].items()}
        else:
            self._letters = {line[0]: int(line[1:]) for line in text.splitlines() if re.fullmatch(r". \d+", line)}
        self._device = device
        self._network = OnnxOnTorch(model, device, more=[self._LENGTHS])
        self._styles = self._network.constant(self._STYLES)
        self._mean = self._styles.float().mean(0)
        _, spread, axes = torch.linalg.svd(self._styles.float() - self._mean, full_matrices=False)
        # Along each, as far as the speakers are from their mean.
        self._axes = spread[:, None] / len(self._styles) ** 0.5 * axes

    def say(self, lines: list[Line], chance: random.Random) -> list[Spoken]:
        """See `Voices`."""
        lines = [
            line._replace(american=line.british.replace(":", "ː")) if chance.random() < self._BRITISH else line
            for line in lines
        ]
        lines = [
            line._replace(american=accented(line.american, chance)) if chance.random() < self._ACCENTED else line
            for line in lines
        ]
        rows = [self._numbers(line.american) for line in lines]
        tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        voices, styles = zip(*(self._someone(chance) for _ in lines), strict=True)
        # Noise of the sound, slowness, noise of the durations; wider than Piper's own 0.333, 1, 0.333.
        scales = torch.tensor([chance.uniform(0.3, 0.7), chance.uniform(0.75, 1.25), chance.uniform(0.3, 0.9)])
        said, lasting = self._network(
            input=tokens.to(self._device),
            input_lengths=torch.tensor([len(row) for row in rows], device=self._device),
            scales=scales.to(self._device),
            sid=torch.arange(len(lines), device=self._device),
            **{self._STYLES: torch.stack(styles)},
        )
        audio = self._resampled(said.flatten(1)).cpu().numpy()
        # Column n: where the n-th number of a row begins; the last one: where the row ends.
        places = functional.pad(lasting.flatten(1).cumsum(1), (1, 0)) * (self._HOP * self._TO / self._FROM)
        made: list[Spoken] = []
        for line, voice, row, sound, place in zip(lines, voices, rows, audio, places.long().tolist(), strict=True):
            bounds = tuple(place[number] for number in self._first_numbers(line))
            made.append(Spoken(line.text, voice, _levelled(sound[: place[len(row)]]), bounds))
        return made

    def _someone(self, chance: random.Random) -> tuple[str, Tensor]:
        """A name and a style: one speaker's, a mixture of two, or one made up.

        Mixtures lie nearer to the mean than speakers do: their pitch varies by 3.1 semitones, that of speakers by 4.4.
        Those made up vary as speakers do, and a little more.
        """
        kind = chance.random()
        if kind < 0.5:
            return self._made_up(chance.randrange(self._MADE_UP))
        first, second = (chance.randrange(len(self._styles)) for _ in range(2))
        if kind < 0.8:
            return str(first), self._styles[first]
        return f"{first}-{second}", torch.lerp(self._styles[first], self._styles[second], chance.uniform(0.3, 0.7))

    def _made_up(self, number: int) -> tuple[str, Tensor]:
        """A speaker drawn from the normal distribution of the speakers, always the same one for a number."""
        chance = torch.Generator().manual_seed(number)
        place = torch.randn(len(self._axes), generator=chance) * (1 + 0.4 * torch.rand(1, generator=chance))
        style = self._mean + place.to(self._axes.device) @ self._axes
        return f"made-up-{number}", style.to(self._styles.dtype)

    def _numbers(self, phonemes: str) -> list[int]:
        """Each phoneme between two blanks, as Piper was trained."""
        known = [self._letters[letter] for letter in phonemes if letter in self._letters]
        blank = self._letters["_"]
        return [self._letters["^"], blank, *(number for one in known for number in (one, blank)), self._letters["$"]]

    def _first_numbers(self, line: Line) -> list[int]:
        """Of each word of the text the place, among the numbers, of its first; the word's before where it is not sure."""
        # Two numbers come before the first phoneme, and each phoneme has two; see `_numbers`.
        before = [0, *accumulate(int(letter in self._letters) for letter in line.american)]
        found: list[int] = []
        for start in beginnings(line.text, line.american):
            found.append(found[-1] if start is None else 2 + 2 * before[start])
        return found

    def _resampled(self, audio: Tensor) -> Tensor:
        units = audio.shape[1] // self._FROM + 2
        spectrum = torch.fft.rfft(audio, n=units * self._FROM)
        return torch.fft.irfft(spectrum[:, : units * self._TO // 2 + 1], n=units * self._TO) * (self._TO / self._FROM)
