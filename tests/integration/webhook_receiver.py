"""Who hears of jobs that have ended: away until told to come, and as willing as the test says."""

import base64
import json
import random
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + base64.b64encode(b"parakeets talk all day long").decode()


@dataclass(frozen=True)
class Message:
    """One arrival of a message, whose signature is right."""

    id: str
    body: bytes

    @property
    def job_id(self) -> str:
        return str(json.loads(self.body)["data"]["id"])


Answer = Callable[[Message], int | None]
"""The status for a message; None closes the connection without one."""


class Moody:
    """Refuses every other message by chance, in different ways, and none more than `most` times."""

    def __init__(self, chance: random.Random, most: int) -> None:
        self.refused = Counter[str]()
        self._chance = chance
        self._most = most

    def __call__(self, message: Message) -> int | None:
        if self.refused[message.id] >= self._most or self._chance.random() < 0.5:
            return 204
        self.refused[message.id] += 1
        return self._chance.choice((302, 404, 429, 500, None))


class WebhookReceiver:
    """A server whose port refuses connections until `come`.

    Attributes:
        accepted: The messages that were answered with 2xx, in order.
        refused: The others.
        forged: What could not be verified.
    """

    def __init__(self, answer: Answer) -> None:
        self.accepted: list[Message] = []
        self.refused: list[Message] = []
        self.forged: list[str] = []
        self._answer = answer
        self._one_at_a_time = Lock()
        handler = type("Bound", (_Handler,), {"receiver": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
        # Bound, but not listening: nobody else gets the port.
        self._server.server_bind()
        self._serving: Thread | None = None
        self.url = f"http://127.0.0.1:{self._server.server_port}/ended"

    @property
    def is_away(self) -> bool:
        return self._serving is None

    def come(self) -> None:
        self._server.server_activate()
        self._serving = Thread(target=self._server.serve_forever)
        self._serving.start()

    def close(self) -> None:
        if self._serving is not None:
            self._server.shutdown()
            self._serving.join()
        self._server.server_close()

    def receive(self, body: bytes, headers: dict[str, str]) -> int | None:
        with self._one_at_a_time:
            try:
                event: dict[str, Any] = Webhook(SECRET).verify(body, headers)
            except WebhookVerificationError as error:
                self.forged.append(f"{error}: {headers} {body!r}")
                return 400
            message = Message(headers["webhook-id"], body)
            status = self._answer(message)
            accepts = status is not None and 200 <= status < 300 and event["type"] == "job.completed"
            (self.accepted if accepts else self.refused).append(message)
            return status


class _Handler(BaseHTTPRequestHandler):
    receiver: ClassVar[WebhookReceiver]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.receiver.receive(body, {name.lower(): value for name, value in self.headers.items()})
        if status is not None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
        """Say nothing."""


@contextmanager
def webhook_receiver(answer: Answer) -> Generator[WebhookReceiver]:
    receiver = WebhookReceiver(answer)
    try:
        yield receiver
    finally:
        receiver.close()
