import argparse
from pathlib import Path

from . import accuracy, engine, long_file, mixed_load, noise

parser = argparse.ArgumentParser(
    prog="python -m benchmarks", description="Measure the service with the embedded model."
)
parser.add_argument("what", choices=("engine", "accuracy", "long", "mixed", "noise", "all"), nargs="?", default="all")
parser.add_argument(
    "--speech", type=Path, metavar="DIR", help="16 kHz WAV files, with a .tsv of texts (default: the bundled sample)"
)
parser.add_argument("--minutes", type=float, default=10, help="length of the long recording")
parser.add_argument("--uploads", type=int, default=20)
parser.add_argument("--streams", type=int, default=4)
arguments = parser.parse_args()
if arguments.what in ("engine", "all"):
    engine.run(arguments.speech)
if arguments.what in ("accuracy", "all"):
    accuracy.run(arguments.speech)
if arguments.what in ("long", "all"):
    long_file.run(arguments.speech, arguments.minutes)
if arguments.what in ("mixed", "all"):
    mixed_load.run(arguments.speech, arguments.uploads, arguments.streams)
if arguments.what in ("noise", "all"):
    noise.run(arguments.speech)
