import argparse
from collections.abc import Callable
from pathlib import Path

from . import accuracy, engine, isolation, long_file, mixed_load, noise, search

parser = argparse.ArgumentParser(
    prog="python -m benchmarks", description="Measure the service with the embedded model."
)
parser.add_argument(
    "--speech", type=Path, metavar="DIR", help="16 kHz WAV files, with a .tsv of texts (default: the bundled sample)"
)
parser.add_argument("--minutes", type=float, default=10, help="length of the long recording")
parser.add_argument("--model", default="embedded", help="embedded, 0.6b (random weights) or a directory")
parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16, 32], help="clips read at once")
parser.add_argument("--uploads", type=int, default=20)
parser.add_argument("--streams", type=int, default=4)

measurements: dict[str, Callable[[argparse.Namespace], None]] = {
    "engine": lambda given: engine.run(given.speech, given.model, given.at_once),
    "accuracy": lambda given: accuracy.run(given.speech),
    "long": lambda given: long_file.run(given.speech, given.minutes),
    "mixed": lambda given: mixed_load.run(given.speech, given.uploads, given.streams),
    "isolation": lambda given: isolation.run(given.speech),
    "noise": lambda given: noise.run(given.speech),
    "search": lambda given: search.run(given.speech, given.model),
}
parser.add_argument("what", choices=(*measurements, "all"), nargs="?", default="all")
arguments = parser.parse_args()
for name in measurements if arguments.what == "all" else (arguments.what,):
    measurements[name](arguments)
