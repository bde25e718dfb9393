"""A transcription that outlives the request that asked for it: what is asked, and how it stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from .vad import VadParams

Json: TypeAlias = Mapping[str, Any]


class JobStatus(StrEnum):
    """Where a job stands.

    ::

        queued ---> running ---> completed
          |  ^        |  |-----> failed
          |  '--------'  |            (a server that stops, or dies, puts it back)
          '--------------'-----> cancelled
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it never changes again."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class WebhookStatus(StrEnum):
    """Where the message stands that tells of a job's end."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """It was tried for as long as it may; it can be sent again."""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: the code and the message of a `ServiceError`."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What is asked for.

    Attributes:
        beam_size: As in `Decoding`.
        phrases: As in `Decoding`.
        detection: When audio counts as speech; ``None`` leaves it to the service.
        track: Which audio track, counted from 1; ``None`` takes the one that is marked as default.
        separate: Whether each channel is read by itself.
        file_url: Where the recording is fetched from; ``None`` if it was uploaded.
        webhook_url: Who hears of the end; ``None``: nobody.
        metadata: The caller's own, given back as it is.
        presentation: How the result is written unless asked otherwise; only the entrypoint that made it reads it.
    """

    beam_size: int = 1
    phrases: tuple[str, ...] = ()
    detection: VadParams | None = None
    track: int | None = None
    separate: bool = False
    file_url: str | None = None
    webhook_url: str | None = None
    metadata: Json = field(default_factory=dict[str, Any])
    presentation: Json = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """As it is stored; `of_json` gives an equal one."""
        detection = self.detection
        # Absent unless asked for: requests are told apart by their JSON, those of older versions among them.
        separate = {"separate": True} if self.separate else {}
        return {
            "beam_size": self.beam_size,
            "phrases": list(self.phrases),
            "detection": None
            if detection is None
            else [detection.threshold, detection.prefix_padding_s, detection.silence_s],
            "track": self.track,
            **separate,
            "file_url": self.file_url,
            "webhook_url": self.webhook_url,
            "metadata": dict(self.metadata),
            "presentation": dict(self.presentation),
        }

    @classmethod
    def of_json(cls, form: Json) -> "JobRequest":
        """The request that `as_json` wrote."""
        detection = form["detection"]
        return cls(
            beam_size=form["beam_size"],
            phrases=tuple(form["phrases"]),
            detection=None if detection is None else VadParams(*detection),
            track=form["track"],
            separate=form.get("separate", False),
            file_url=form["file_url"],
            webhook_url=form["webhook_url"],
            metadata=form["metadata"],
            presentation=form["presentation"],
        )


@dataclass(frozen=True, slots=True)
class WebhookState:
    """How far the message is that tells of the end.

    Attributes:
        id: The same at every attempt, so that a receiver can tell a message that it has had.
        status: Where it stands.
        attempts: How often it was sent so far.
        last_error: Why the latest attempt failed.
    """

    id: str
    status: WebhookStatus
    attempts: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times are Unix time, in seconds.

    Attributes:
        id: ``job_`` and letters; nobody can guess it.
        owner: Whose it is: the only one who sees it.
        caller: Whom the quota charges.
        request: What is asked for.
        status: Where it stands.
        created_at: When it was taken.
        started_at: When a server first began it.
        finished_at: When it ended.
        done_s: How far the recording has been read.
        duration_s: How long it is, once that is known.
        model: What reads it, once that is known.
        error: Why it failed.
        webhook: The message of its end, once it has ended and somebody is to hear of it.
    """

    id: str
    owner: str
    caller: str | None
    request: JobRequest
    status: JobStatus
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    done_s: float = 0.0
    duration_s: float | None = None
    model: str | None = None
    error: JobError | None = None
    webhook: WebhookState | None = None

    def as_json(self) -> dict[str, Any]:
        """As the outside sees it, on every route and in webhooks."""
        done = self.status is JobStatus.COMPLETED
        webhook = self.webhook
        return {
            "id": self.id,
            "object": "transcription.job",
            "status": self.status.value,
            "created_at": int(self.created_at),
            "started_at": None if self.started_at is None else int(self.started_at),
            "finished_at": None if self.finished_at is None else int(self.finished_at),
            "progress": {"done_s": round(self.done_s, 3), "duration_s": _rounded(self.duration_s)},
            "error": None if self.error is None else {"code": self.error.code, "message": self.error.message},
            "metadata": dict(self.metadata),
            "model": self.model,
            "usage": {"type": "duration", "seconds": _rounded(self.duration_s)} if done else None,
            "webhook": None
            if webhook is None
            else {
                "id": webhook.id,
                "status": webhook.status.value,
                "attempts": webhook.attempts,
                "last_error": webhook.last_error,
            },
        }

    @property
    def metadata(self) -> Json:
        """The caller's own."""
        return self.request.metadata


@dataclass(frozen=True, slots=True)
class JobEvent:
    """The news of a job.

    Attributes:
        number: Counted from 1, in order; the same again after a restart.
        type: ``job.progress``, or ``job.`` and a final status.
        data: What it tells.
    """

    number: int
    type: str
    data: Json


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
