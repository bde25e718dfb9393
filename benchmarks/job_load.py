"""Jobs that a service reads while something else is measured."""

import asyncio
from pathlib import Path

import httpx2

from .harness import Service

_LOOK_S = 5.0
"""Between two looks at a job: often enough to notice its end, too seldom to be a load."""


def job_settings(scratch: Path, jobs: int) -> dict[str, str]:
    """Settings under which a service reads so many jobs at once, and keeps them in `scratch`."""
    return {
        "JOBS": "on",
        "DATA_DIR": str(scratch / "jobs"),
        "JOB_WORKERS": str(jobs),
        "MAX_UPLOADS": str(max(64, jobs + 1)),
        "MAX_JOBS": str(jobs),
        "MAX_JOBS_PER_KEY": str(jobs),
    }


class RunningJob:
    """A recording that is submitted as a job, and deleted with its task."""

    def __init__(self, wav: bytes) -> None:
        self._wav = wav
        self.sent = False
        # All jobs together have no more windows with the model than a batch has.
        self.least_waiting = 0

    async def send(self, service: Service, client: httpx2.AsyncClient) -> None:
        """Submit it, and wait for its end; `sent` when it runs.

        Raises:
            httpx2.HTTPError: The service did not take it, or does not know it.
        """
        answer = await client.post(f"{service.url}/v1/jobs", files={"file": ("recording.wav", self._wav)})
        answer.raise_for_status()
        url = f"{service.url}/v1/jobs/{answer.json()['id']}"
        try:
            while (status := await self._status(client, url)) in ("queued", "running"):
                self.sent = status == "running"
                await asyncio.sleep(_LOOK_S)
        finally:
            (await client.delete(url)).raise_for_status()

    @staticmethod
    async def _status(client: httpx2.AsyncClient, url: str) -> str:
        answer = await client.get(url)
        answer.raise_for_status()
        return str(answer.json()["status"])
