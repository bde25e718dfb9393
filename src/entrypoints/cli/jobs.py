"""``parakeet-service jobs``: recordings that a running service transcribes in the background."""

import json
import secrets
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .exit_code import ExitCode

FORMATS = ("text", "json", "verbose_json", "diarized_json", "srt", "vtt")
_LOOK_S = 0.5
_TIMEOUT_S = 60.0
_PATIENCE_S = 120.0
"""How long a service that does not answer may take to come back: it may be starting again."""
_ENDED = ("completed", "failed", "cancelled")

Job: TypeAlias = dict[str, Any]


class JobsError(Exception):
    """The service refused, or cannot be reached; the message says why."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAULT) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class JobsClient:
    """Asks the service, and asks again while it cannot be reached."""

    http: httpx2.Client
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def ask(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """The answer.

        Raises:
            JobsError: The service refuses, or does not answer for long.
        """
        until = self.clock() + _PATIENCE_S
        while True:
            try:
                answer = self.http.request(method, path, **request)
            except httpx2.TransportError as error:
                if self.clock() >= until:
                    raise JobsError(f"{self.http.base_url} cannot be reached: {error}") from error
            else:
                if answer.status_code != 503 or self.clock() >= until:
                    return _checked(answer)
            self.sleep(_LOOK_S)

    def submit(self, source: str, fields: dict[str, str]) -> Job:
        """Send a file, or the URL of one; what is sent again after a broken connection makes no second job."""
        headers = {"idempotency-key": secrets.token_hex(16)}
        if source.startswith(("http://", "https://")):
            body = {**fields, "file_url": source}
            return _job(self.ask("POST", "/v1/jobs", headers=headers, json=body))
        try:
            with Path(source).open("rb") as file:
                part = (Path(source).name, file, "application/octet-stream")
                return _job(self.ask("POST", "/v1/jobs", headers=headers, data=fields, files={"file": part}))
        except OSError as error:
            raise JobsError(f"{source}: {error.strerror or error}", ExitCode.UNREADABLE) from error

    def watch(self, job_id: str) -> Job:
        """Wait for the end, and show how far it is."""
        with _progress_bar() as bar:
            task = bar.add_task(job_id, total=None, status="")
            while True:
                job = _job(self.ask("GET", f"/v1/jobs/{job_id}"))
                done = job["progress"]
                bar.update(task, completed=done["done_s"], total=done["duration_s"], status=job["status"])
                if job["status"] in _ENDED:
                    return job
                self.sleep(_LOOK_S)

    def result(self, job_id: str, style: str | None) -> str:
        """The text of a completed job."""
        params = {} if style is None else {"response_format": style}
        text = self.ask("GET", f"/v1/jobs/{job_id}/result", params=params).text
        return text if text.endswith("\n") else f"{text}\n"


def add_jobs(parser: ArgumentParser, *, url: str, api_key: str | None) -> None:
    """Give `parser` the commands; `url` and `api_key` are what they use unless told otherwise."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def add(name: str, about: str, work: Callable[[JobsClient, Namespace], ExitCode]) -> ArgumentParser:
        one = actions.add_parser(name, help=about)
        one.add_argument("--url", default=url, help=f"URL of the service (default: {url})")
        one.add_argument("--api-key", metavar="KEY", default=api_key, help="API key (default: $API_KEY)")
        one.set_defaults(run=partial(_run, work=work))
        return one

    submit = add("submit", "send recordings, or URLs of them, and print the ids of their jobs", _submit)
    submit.add_argument("sources", nargs="+", metavar="FILE|URL")
    submit.add_argument("--webhook-url", metavar="URL", help="receives a message at the end")
    submit.add_argument("--metadata", metavar="JSON", help="an object of your own, given back as it is")
    submit.add_argument("--language", metavar="CODE", help="language of the recording")
    submit.add_argument("--keywords", metavar="LIST", help="words and phrases to favour, comma-separated")
    submit.add_argument(
        "--channels",
        choices=("mix", "separate"),
        help="`separate` reads each channel by itself, such as the two sides of a call (default: mix)",
    )
    submit.add_argument("--watch", action="store_true", help="wait for the end, and print the text instead of the id")
    listed = add("list", "list your jobs, the newest first", _list)
    listed.add_argument("--status", choices=("queued", "running", *_ENDED))
    listed.add_argument("--limit", type=int, default=20, metavar="N")
    listed.add_argument("--json", action="store_true", help="print one JSON object per job")
    watch = add("watch", "wait for the end of a job, and print its text", _watch)
    result = add("result", "print the text of a completed job", _result)
    cancel = add("cancel", "cancel a job, or delete one that has ended", _cancel)
    for one in (watch, result, cancel):
        one.add_argument("id", metavar="ID")
    for one in (submit, watch, result):
        one.add_argument("--format", choices=FORMATS, default="text", help="output format (default: text)")


def _run(parsed: Namespace, *, work: Callable[[JobsClient, Namespace], ExitCode]) -> ExitCode:
    headers = {} if parsed.api_key is None else {"authorization": f"Bearer {parsed.api_key}"}
    with httpx2.Client(base_url=parsed.url, headers=headers, timeout=_TIMEOUT_S) as http:
        try:
            return work(JobsClient(http), parsed)
        except JobsError as error:
            print(error, file=sys.stderr)
            return error.code


def _submit(client: JobsClient, parsed: Namespace) -> ExitCode:
    fields = {
        name: value
        for name in ("webhook_url", "metadata", "language", "keywords", "channels")
        if (value := getattr(parsed, name)) is not None
    }
    fields["response_format"] = parsed.format
    jobs = [client.submit(source, fields) for source in parsed.sources]
    if not parsed.watch:
        for job in jobs:
            print(job["id"])
        return ExitCode.DONE
    return max(_print_end(client, job["id"], parsed.format) for job in jobs)


def _list(client: JobsClient, parsed: Namespace) -> ExitCode:
    params = {"limit": parsed.limit} | ({} if parsed.status is None else {"status": parsed.status})
    jobs: Sequence[Job] = client.ask("GET", "/v1/jobs", params=params).json()["data"]
    for job in jobs:
        print(json.dumps(job, ensure_ascii=False) if parsed.json else _line(job))
    return ExitCode.DONE


def _line(job: Job) -> str:
    progress = job["progress"]
    whole = "?" if progress["duration_s"] is None else _clock(progress["duration_s"])
    made = datetime.fromtimestamp(job["created_at"]).astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{job['id']}  {made}  {job['status']:9}  {_clock(progress['done_s'])} of {whole}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _watch(client: JobsClient, parsed: Namespace) -> ExitCode:
    return _print_end(client, parsed.id, parsed.format)


def _print_end(client: JobsClient, job_id: str, style: str) -> ExitCode:
    job = client.watch(job_id)
    if job["status"] == "completed":
        print(client.result(job_id, style), end="", flush=True)
        return ExitCode.DONE
    reason = "" if job["error"] is None else f": {job['error']['message']}"
    print(f"{job_id}: {job['status']}{reason}", file=sys.stderr)
    return ExitCode.UNREADABLE if job["status"] == "failed" else ExitCode.FAULT


def _result(client: JobsClient, parsed: Namespace) -> ExitCode:
    print(client.result(parsed.id, parsed.format), end="", flush=True)
    return ExitCode.DONE


def _cancel(client: JobsClient, parsed: Namespace) -> ExitCode:
    answer = client.ask("DELETE", f"/v1/jobs/{parsed.id}")
    print(f"{parsed.id}: {'deleted' if answer.status_code == 204 else _job(answer)['status']}", file=sys.stderr)
    return ExitCode.DONE


def _job(answer: httpx2.Response) -> Job:
    job: Job = answer.json()
    return job


def _checked(answer: httpx2.Response) -> httpx2.Response:
    if answer.is_success:
        return answer
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the service answered {answer.status_code}"
    if answer.status_code == 404 and "job" not in message:
        message = "The service has no jobs: JOBS=off, or it is an older version."
    raise JobsError(message)


@contextmanager
def _progress_bar() -> Generator[Progress]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description} {task.fields[status]}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        # rich would send standard output to standard error while the bar is shown.
        redirect_stdout=False,
        disable=not console.is_terminal,
    ) as bar:
        yield bar
