"""The port that sends the webhook of a job's end."""

from typing import Protocol


class WebhookFailedError(Exception):
    """The receiver did not take the message; the text says why, for the owner of the job."""


class WebhookSender(Protocol):
    """Signs and sends messages. May be called concurrently."""

    async def send(self, url: str, *, message_id: str, body: bytes) -> None:
        """Send one message, signed for now.

        Raises:
            WebhookFailedError: It did not arrive, or was answered with anything but success.
        """
        ...
