import base64
import time
from collections.abc import Mapping

import openai
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from parakeet_service.adapters.jobs.webhooks import SignedWebhooks
from parakeet_service.application.ports.webhook_sender import WebhookFailedError

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
BODY = '{"type":"job.completed","data":{"metadata":{"a":"ä"}}}'.encode()


class Receiver:
    def __init__(self, status: int = 204, failure: Exception | None = None) -> None:
        self.status = status
        self.failure = failure
        self.checked: list[str] = []
        self.headers: dict[str, str] = {}
        self.body = b""

    async def check(self, url: str) -> None:
        self.checked.append(url)

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> int:
        assert url
        assert timeout_s
        if self.failure is not None:
            raise self.failure
        self.headers, self.body = dict(headers), body
        return self.status


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_both_verifiers_accept_each_secret_of_a_rotation(secret: str) -> None:
    receiver = Receiver()
    await SignedWebhooks([OLD, NEW], receiver).send("https://example.com", message_id="msg_1", body=BODY)
    assert Webhook(secret).verify(receiver.body, receiver.headers)["type"] == "job.completed"
    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    client.webhooks.verify_signature(receiver.body.decode(), receiver.headers)


async def test_both_verifiers_refuse_what_was_changed() -> None:
    receiver = Receiver()
    await SignedWebhooks([OLD], receiver).send("https://example.com", message_id="msg_1", body=BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(receiver.body, receiver.headers)
    client = openai.OpenAI(api_key="none", webhook_secret=OLD)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(receiver.body.decode() + " ", receiver.headers)


async def test_an_old_message_is_refused() -> None:
    receiver = Receiver()
    sender = SignedWebhooks([OLD], receiver, clock=lambda: time.time() - 600)
    await sender.send("https://example.com", message_id="msg_1", body=BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(receiver.body, receiver.headers)


@pytest.mark.parametrize(
    ("receiver", "why"),
    [
        (Receiver(status=302), "answered 302"),
        (Receiver(failure=ConnectionError("no route")), "no route"),
        (Receiver(failure=TimeoutError()), "did not answer in time"),
    ],
)
async def test_anything_but_success_is_a_failure(receiver: Receiver, why: str) -> None:
    sender = SignedWebhooks([OLD], receiver)
    await sender.check("https://example.com")
    assert receiver.checked == ["https://example.com"]
    with pytest.raises(WebhookFailedError, match=why):
        await sender.send("https://example.com", message_id="msg_1", body=BODY)
