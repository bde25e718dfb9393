"""Synthetic speech of many voices, over all GPUs and processes of a machine."""

import argparse
import multiprocessing
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from .shards import Entry, Samples, write_shard
from .voices import RATE, Kokoro, Line, Piper, Voices, pack_voices

_SORTED = 8
"""So many batches are put in the order of their length at a time: less of what the longest leaves empty is computed."""


def _line(row: str) -> Line:
    columns = row.rstrip("\n").split("\t")
    if len(columns) != len(Line._fields):
        raise ValueError(f"not a text and its phonemes, as training.phonemes writes them: {row!r}")
    return Line(*columns)


def tasks(lines: list[str], chance: random.Random) -> Iterator[Line]:
    """One to five sentences at a time, of lines of text, American and British phonemes."""
    at = 0
    while at < len(lines):
        wanted = chance.choice((20, 60, 120, 200, 280))
        group = [_line(lines[at])]
        at += 1
        while at < len(lines) and sum(len(item.american) for item in group) < wanted:
            following = _line(lines[at])
            if sum(len(item.american) for item in group) + len(following.american) > 380:
                break
            group.append(following)
            at += 1
        yield Line(*(" ".join(column) for column in zip(*group, strict=True)))


def batches(waiting: Iterator[Line], size: int, chance: random.Random) -> Iterator[list[Line]]:
    """So many lines at a time, of about one length."""
    while some := list(islice(waiting, size * _SORTED)):
        some.sort(key=lambda line: len(line.american))
        together = [some[start : start + size] for start in range(0, len(some), size)]
        chance.shuffle(together)
        yield from together


def _voices(arguments: argparse.Namespace, device: torch.device) -> Voices:
    if arguments.voices:
        return Kokoro(arguments.model, arguments.letters, arguments.voices, device)
    return Piper(arguments.model, arguments.letters, device)


def _work(number: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    chance = random.Random(f"{arguments.seed}/{number}")  # noqa: S311 - no secret
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", number % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    voices = _voices(arguments, device)
    with arguments.phonemes.open(encoding="utf-8") as text:
        lines = [line for place, line in enumerate(text) if place % arguments.processes == number]
    chance.shuffle(lines)
    until = arguments.begun + arguments.seconds
    waiting = batches(tasks(lines, chance), arguments.at_once or voices.at_once, chance)
    round_ = 0
    finished = False
    while not finished:

        def spoken() -> Iterator[tuple[Samples, Entry]]:
            nonlocal finished
            made = 0
            while made < arguments.shard_s * RATE:
                some = next(waiting, None)
                if some is None or time.time() > until:
                    finished = True
                    return
                for said in voices.say(some, chance):
                    made += len(said.samples)
                    yield said.samples, Entry(len(said.samples), voices.corpus, said.voice, said.text, said.bounds)

        name = f"{voices.corpus}-{arguments.seed}-{number:03d}-{round_:03d}"
        hours = write_shard(arguments.out / name, spoken())
        round_ += 1
        print(f"{time.time() - arguments.begun:.0f} s: process {number} has made {hours:.3f} h", flush=True)


def main() -> None:
    """``python -m training.synthesis``: shards of speech, until the text or the time is used up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="ONNX export of Kokoro, or of a Piper voice of many speakers"
    )
    parser.add_argument("--letters", type=Path, required=True, help="the numbers of the phonemes")
    parser.add_argument(
        "--voices", type=Path, help="those of Kokoro, a file or a directory of NAME.bin; without, Piper"
    )
    parser.add_argument("--phonemes", type=Path, required=True, help="what training.phonemes wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="of time")
    parser.add_argument("--shard-s", type=float, default=900, help="seconds of audio in a shard")
    parser.add_argument(
        "--at-once",
        type=int,
        help="lines said together, by default as many as suit the network; fewer need less memory",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.begun = time.time()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.voices and arguments.voices.is_dir():
        packed = arguments.out / "voices.npz"
        pack_voices(arguments.voices, packed)
        arguments.voices = packed
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(number, arguments)) for number in range(arguments.processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed; see above")


if __name__ == "__main__":
    main()
