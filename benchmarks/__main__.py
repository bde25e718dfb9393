import argparse
from collections.abc import Callable
from pathlib import Path

from . import (
    accuracy,
    cluster,
    dispatch,
    engine,
    fairness,
    host,
    isolation,
    length,
    live,
    long_file,
    memory,
    methods,
    mixed_load,
    noise,
    overhead,
    search,
    service,
    sessions,
    spread,
    start,
)
from .report import Chart, check_can_draw, draw

parser = argparse.ArgumentParser(
    prog="python -m benchmarks", description="Measure the service with the embedded model."
)
parser.add_argument(
    "--speech", type=Path, metavar="DIR", help="16 kHz WAV files, with a .tsv of texts (default: the bundled sample)"
)
parser.add_argument("--minutes", type=float, default=10, help="length of the long recording")
parser.add_argument(
    "--model", default="embedded", help="embedded, 0.6b (random weights), a directory, or in sessions null"
)
parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16, 32], help="clips read at once")
parser.add_argument(
    "--engine",
    choices=("plain", "mlx", "onnx"),
    nargs=2,
    default=["plain", "mlx"],
    metavar=("ENGINE", "ENGINE"),
    help="what engine compares: plain (parakeet-mlx as it comes), mlx, onnx",
)
parser.add_argument("--uploads", type=int, default=20)
parser.add_argument("--streams", type=int, default=4)

parser.add_argument("--rounds", type=int, default=20, help="turns of each in overhead, length and host")
parser.add_argument("--clips", type=int, default=100, help="clips idle, and under load, in fairness")
parser.add_argument("--long-ones", type=int, default=10, help="long recordings in fairness")
parser.add_argument("--hours", type=float, default=1, help="length of each of them")
parser.add_argument("--jobs", type=int, metavar="N", help="in fairness: jobs of --minutes each, not long recordings")
parser.add_argument("--requests", type=int, default=1200, help="sent for memory")
parser.add_argument("--every", type=int, default=100, help="requests between two looks at memory")
parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 8], help="live sessions at once")
parser.add_argument("--seconds", type=float, default=60, help="how long each of them speaks")
parser.add_argument(
    "--context", type=live.Context.of, nargs="+", metavar="L,C,R", help="left, chunk and right context in live, s"
)
parser.add_argument(
    "--workers", type=int, nargs="+", default=[1, 2], help="workers on Ray, in cluster, dispatch and spread"
)
parser.add_argument(
    "--slower", type=float, default=8, help="in spread: how many times as long as an H100 a worker takes"
)
parser.add_argument("--find-limit", action="store_true", help="in live and cluster: how many sessions there may be")
parser.add_argument("--pauses", action="store_true", help="in live and sessions: pauses, and uneven utterances")
parser.add_argument(
    "--setting",
    nargs="+",
    default=[],
    metavar="NAME=value",
    help="what differs from the defaults in service, sessions, live, cluster, dispatch and start",
)
parser.add_argument(
    "--client-processes", type=int, metavar="N", help="in sessions: that speak (default: one for 64 speakers, up to 8)"
)
parser.add_argument("--only", default="", metavar="TEXT", help="in service: only rows whose name has this in it")
parser.add_argument("--no-engine", action="store_true", help="in service: leave out the engine alone")
parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw what is measured (needs matplotlib)")

measurements: dict[str, Callable[[argparse.Namespace], Chart | None]] = {
    "engine": lambda given: engine.run(given.speech, given.model, given.at_once, given.engine),
    "overhead": lambda given: overhead.run(given.speech, given.model, given.rounds),
    "fairness": lambda given: (
        fairness.run(given.speech, given.model, given.clips, given.long_ones, given.hours)
        if given.jobs is None
        else fairness.run_beside_jobs(given.speech, given.model, given.clips, given.jobs, given.minutes)
    ),
    "memory": lambda given: memory.run(given.speech, given.model, given.requests, given.every),
    "length": lambda given: length.run(given.speech, given.model, given.rounds),
    "accuracy": lambda given: accuracy.run(given.speech, given.model),
    "long": lambda given: long_file.run(given.speech, given.minutes),
    "mixed": lambda given: mixed_load.run(given.speech, given.uploads, given.streams),
    "isolation": lambda given: isolation.run(given.speech),
    "noise": lambda given: noise.run(given.speech, given.model),
    "methods": lambda given: methods.run(given.speech, given.model),
    "live": lambda given: live.run(
        given.speech,
        given.model,
        given.sessions,
        given.seconds,
        given.context,
        find_limit=given.find_limit,
        pauses=given.pauses,
        settings=given.setting,
    ),
    "contexts": lambda given: live.run_contexts(given.speech, given.model, given.seconds, given.context),
    "sessions": lambda given: sessions.run(
        given.speech,
        given.model,
        given.sessions,
        given.seconds,
        None if given.context is None else given.context[0],
        pauses=given.pauses,
        settings=given.setting,
        clients=given.client_processes,
    ),
    "service": lambda given: service.run(
        given.speech,
        given.model,
        given.at_once,
        given.seconds,
        given.setting,
        alone=not given.no_engine,
        only=given.only,
    ),
    "cluster": lambda given: cluster.run(
        given.speech,
        given.model,
        given.workers,
        given.rounds,
        given.at_once,
        given.seconds,
        given.setting,
        given.sessions,
        find_limit=given.find_limit,
    ),
    "dispatch": lambda given: dispatch.run(
        given.speech, given.workers, given.at_once, given.seconds, given.sessions, given.setting
    ),
    "spread": lambda given: spread.run(given.workers, given.at_once, given.sessions, given.seconds, given.slower),
    "host": lambda given: host.run(given.speech, given.rounds),
    "search": lambda given: search.run(given.speech, given.model),
    "start": lambda given: start.run(given.model, given.setting),
}
of_one_model = ("long", "mixed", "isolation", "dispatch", "spread", "host")
drawn = ("engine", "overhead", "fairness", "memory", "length", "live", "contexts")
parser.add_argument("what", choices=(*measurements, "all"), nargs="?", default="all")
arguments = parser.parse_args()
if arguments.what in of_one_model and arguments.model != parser.get_default("model"):
    parser.error(f"{arguments.what} takes no --model: it measures the embedded one, or none")
if arguments.plot is not None:
    if arguments.what not in (*drawn, "all"):
        parser.error(f"--plot draws {', '.join(drawn)}")
    check_can_draw()
charts: list[Chart] = []
# Ray is an extra.
everything = [name for name in measurements if name not in ("cluster", "dispatch", "spread")]
for name in everything if arguments.what == "all" else (arguments.what,):
    chart = measurements[name](arguments)
    if chart is not None:
        charts.append(chart)
if arguments.plot is not None:
    draw(charts, arguments.plot)
