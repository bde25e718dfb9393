"""Jobs and their webhooks, on real servers that are killed at every stage of the work."""

import logging
import os
import random
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.job_servers import COMMAND, JobServer, job_server, recording
from tests.integration.webhook_receiver import SECRET, Message, Moody, WebhookReceiver, webhook_receiver

WORKERS, AHEAD = 4, 4
NOTING = (str(Path(__file__).with_name("noting_server.py")),)
LAST = 0.8
"""Behind so much of the work no kill is planned: it would often find nothing left."""

_log = logging.getLogger(__name__)


def telling_server(
    directory: Path, *, program: tuple[str, ...] = COMMAND, wait: bool = True, **settings: str
) -> AbstractContextManager[JobServer]:
    """A server that may send webhooks to a receiver on this machine."""
    return job_server(
        directory,
        directory / "data",
        program=program,
        wait=wait,
        WEBHOOK_SECRET=SECRET,
        URL_ALLOW_HTTP="true",
        URL_ALLOWED_HOSTS="127.0.0.1",
        **settings,
    )


class WindowLedger:
    """How often each window was given to the model, and stored; what is killed takes nothing of it back."""

    def __init__(self, directory: Path) -> None:
        self.notes = directory / "given"
        self._database = directory / "data" / "jobs.db"

    def open(self) -> None:
        """Count from now on: windows are deleted with the end of their job, and what a trigger wrote is not."""
        with closing(sqlite3.connect(self._database)) as connection:
            connection.executescript("""
                CREATE TABLE ledger (job_id, channel, start_ms, samples);
                CREATE TRIGGER ledger_entry AFTER INSERT ON job_windows BEGIN
                    INSERT INTO ledger VALUES (NEW.job_id, NEW.channel, NEW.start_ms, NEW.samples);
                END;
            """)

    def stored(self, job_id: str) -> Counter[tuple[int, int, int]]:
        with closing(sqlite3.connect(self._database)) as connection:
            rows = connection.execute("SELECT channel, start_ms, samples FROM ledger WHERE job_id = ?", (job_id,))
            return Counter(rows.fetchall())

    def lost(self) -> int:
        """Windows that were given to the model and not stored: in hand, or lost with a server."""
        with closing(sqlite3.connect(self._database)) as connection:
            (stored,) = connection.execute("SELECT count(*) FROM ledger").fetchone()
        return len(self.notes.read_text().splitlines()) - int(stored)

    def unfinished(self) -> int:
        """Jobs that have not ended."""
        with closing(sqlite3.connect(self._database)) as connection:
            query = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')"
            return int(connection.execute(query).fetchone()[0])


class Trial:
    """Jobs of so many samples each, which tell a receiver of their end, on servers of which one at a time lives."""

    def __init__(self, directory: Path, receiver: WebhookReceiver, moods: Moody) -> None:
        self.ledger = WindowLedger(directory)
        self.kills = 0
        self.in_hand: list[int] = []
        self.expected: dict[str, str] = {}
        """The text of each job, by its id."""
        self._directory = directory
        self._receiver = receiver
        self._moods = moods
        self._of_undisturbed: dict[str, str] = {}

    @contextmanager
    def server(self, *, wait: bool = True) -> Generator[JobServer]:
        with telling_server(
            self._directory,
            program=NOTING,
            wait=wait,
            NOTES=str(self.ledger.notes),
            JOB_WORKERS=str(WORKERS),
            BATCH_SIZE=str(AHEAD),
        ) as server:
            yield server
        assert not [line for line in server.server.lines if "jobs failed" in line or "Traceback" in line]

    def submit(self, lengths: tuple[int, ...]) -> float:
        """Submit the jobs after one of each length that nothing disturbs, and kill; gives the seconds of them all."""
        with self.server() as server:
            self.ledger.open()
            undisturbed = {times: server.submit(recording(times)) for times in lengths}
            texts = {times: server.text(job_id) for times, job_id in undisturbed.items()}
            for times in lengths:
                job_id = server.submit(recording(times), webhook_url=self._receiver.url)
                self.expected[job_id] = texts[times]
                self._of_undisturbed[job_id] = undisturbed[times]
            seconds = sum(float(server.job(undisturbed[times])["progress"]["duration_s"]) for times in lengths)
            self.kill(server)
        return seconds

    def kill(self, server: JobServer) -> None:
        before = sum(self.in_hand)
        server.kill()
        self.kills += 1
        assert self.ledger.unfinished(), f"kill {self.kills} fell on finished work only"
        self.in_hand.append(self.ledger.lost() - before)
        # No job has more windows ahead, be they with the model or about to be stored.
        assert 0 <= self.in_hand[-1] <= WORKERS * AHEAD

    def kill_when_done(self, seconds: float) -> None:
        with self.server() as server:
            while sum(job["progress"]["done_s"] for job in self.jobs(server)) < seconds:
                time.sleep(0.01)
            self.kill(server)

    def jobs(self, server: JobServer) -> list[dict[str, Any]]:
        """Our jobs; the receiver comes when it has missed a message."""
        listed = server.client.get("/v1/jobs", params={"limit": 100}).json()["data"]
        ours = [job for job in listed if job["id"] in self.expected]
        assert len(ours) == len(self.expected)
        missed = {job["webhook"]["id"]: job["webhook"]["attempts"] for job in ours if job["webhook"]}
        if self._receiver.is_away and any(missed.values()):
            self._moods.refused.update(missed)
            self._receiver.come()
        return ours

    def end(self) -> None:
        """Let the jobs end, and what they have to tell arrive."""
        with self.server() as server:
            while not all(job["webhook"] and job["webhook"]["status"] == "delivered" for job in self.jobs(server)):
                time.sleep(0.1)
            for job_id, text in self.expected.items():
                assert server.text(job_id) == text
                assert server.job(job_id)["webhook"]["id"] in {message.id for message in self._receiver.accepted}

    def check_windows(self) -> None:
        for job_id, undisturbed in self._of_undisturbed.items():
            once = self.ledger.stored(undisturbed)
            assert set(once.values()) == {1}
            assert self.ledger.stored(job_id) == once
        # Read again was what was in hand at a kill, and nothing else.
        assert self.ledger.lost() == sum(self.in_hand)

    def check_messages(self) -> None:
        receiver = self._receiver
        assert not receiver.forged
        assert {message.job_id for message in receiver.accepted} == set(self.expected)
        # Each message is the same to the byte whenever it comes, and another job's is another.
        assert len(set(receiver.accepted + receiver.refused)) == len(self.expected)
        assert len({message.id for message in receiver.accepted}) == len(self.expected)
        assert len(receiver.accepted) <= len(self.expected) + self.kills


@contextmanager
def seeded() -> Generator[random.Random]:
    """Chance that another run can repeat."""
    seed = int(os.environ.get("KILL_SEED") or secrets.randbits(32))
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"KILL_SEED={seed} plans the same kills again")
        raise


@pytest.mark.parametrize(
    ("lengths", "kills", "refusals"),
    [
        pytest.param((20, 60), 3, 1, id="short and long"),
        pytest.param((500,), 20, 2, marks=pytest.mark.soak, id="one of two hours"),
        pytest.param((60,) * 10, 20, 2, marks=pytest.mark.soak, id="ten at once"),
    ],
)
def test_jobs_survive_random_kills(tmp_path: Path, lengths: tuple[int, ...], kills: int, refusals: int) -> None:
    began = time.monotonic()
    with seeded() as chance:
        moods = Moody(random.Random(chance.random()), refusals)
        with webhook_receiver(moods) as receiver:
            trial = Trial(tmp_path, receiver, moods)
            seconds = trial.submit(lengths) * LAST
            for number in range(kills):
                if chance.random() < 0.3:
                    with trial.server(wait=False) as server:
                        trial.kill(server)
                trial.kill_when_done(seconds * (number + chance.random()) / kills)
            trial.end()
        trial.check_windows()
        trial.check_messages()
        windows = sum(trial.ledger.stored(job_id).total() for job_id in trial.expected)
        _log.info(
            "%d jobs, %d kills, %d windows, of which %d were read twice (in hand: %s); %d messages refused; %.0f s",
            *(len(lengths), trial.kills, windows, sum(trial.in_hand), trial.in_hand),
            *(len(receiver.refused), time.monotonic() - began),
        )


def test_a_message_that_is_due_outlives_kill_9(tmp_path: Path) -> None:
    with webhook_receiver(lambda _: 204) as receiver:
        with telling_server(tmp_path) as server:
            job_id = server.submit(recording(1), webhook_url=receiver.url)
            while not (missed := server.ended(job_id)["webhook"])["attempts"]:
                time.sleep(0.05)
            server.kill()
        assert missed["status"] == "pending"
        receiver.come()
        with telling_server(tmp_path) as server:
            webhook = _delivered(server, job_id)
        assert webhook["id"] == missed["id"]
        assert webhook["attempts"] > missed["attempts"]
    assert not receiver.forged
    assert [(message.id, message.job_id) for message in receiver.accepted] == [(missed["id"], job_id)]


def test_a_message_whose_arrival_could_not_be_noted_comes_again_under_the_same_id(tmp_path: Path) -> None:
    living: list[JobServer] = []

    def answer(_: Message) -> int | None:
        if not living:
            return 204
        living.pop().server.process.kill()
        return None

    with webhook_receiver(answer) as receiver:
        receiver.come()
        with telling_server(tmp_path, JOB_LEASE="3") as server:
            living.append(server)
            job_id = server.submit(recording(1), webhook_url=receiver.url)
            server.server.wait()
        with telling_server(tmp_path, JOB_LEASE="3") as server:
            webhook = _delivered(server, job_id)
    assert not receiver.forged
    (first,) = receiver.refused
    assert (first.id, first.job_id) == (webhook["id"], job_id)
    assert set(receiver.accepted) == {first}
    # The first time was not noted.
    assert webhook["attempts"] <= len(receiver.accepted)


def _delivered(server: JobServer, job_id: str) -> dict[str, Any]:
    while (webhook := server.ended(job_id)["webhook"])["status"] != "delivered":
        time.sleep(0.05)
    return dict(webhook)
