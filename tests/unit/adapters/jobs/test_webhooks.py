import base64
import time

import openai
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from parakeet_service.adapters.jobs.webhooks import SignedWebhooks
from parakeet_service.application.ports.webhook_sender import WebhookFailedError
from tests.fakes import FakeWebClient

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
BODY = '{"type":"job.completed","data":{"metadata":{"a":"ä"}}}'.encode()


URL = "https://example.com/hook"


def a_receiver() -> FakeWebClient:
    receiver = FakeWebClient()
    receiver.recordings[URL] = b""
    return receiver


async def received(*secrets: str, at: float = 0.0) -> tuple[bytes, dict[str, str]]:
    receiver = a_receiver()
    sender = SignedWebhooks(secrets, receiver, clock=lambda: time.time() + at)
    await sender.send(URL, message_id="msg_1", body=BODY)
    ((url, body, headers),) = receiver.posts
    assert url == URL
    return body, dict(headers)


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_both_verifiers_accept_each_secret_of_a_rotation(secret: str) -> None:
    body, headers = await received(OLD, NEW)
    assert Webhook(secret).verify(body, headers)["type"] == "job.completed"
    openai.OpenAI(api_key="none", webhook_secret=secret).webhooks.verify_signature(body.decode(), headers)


async def test_both_verifiers_refuse_what_was_changed() -> None:
    body, headers = await received(OLD)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body, headers)
    client = openai.OpenAI(api_key="none", webhook_secret=OLD)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body.decode() + " ", headers)


async def test_an_old_message_is_refused() -> None:
    body, headers = await received(OLD, at=-600)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body, headers)


async def test_anything_but_success_is_a_failure() -> None:
    receiver = a_receiver()
    receiver.status = 302
    sender = SignedWebhooks([OLD], receiver)
    with pytest.raises(WebhookFailedError, match="answered 302"):
        await sender.send(URL, message_id="msg_1", body=BODY)
    with pytest.raises(WebhookFailedError, match="not a host on the public internet"):
        await sender.send("https://10.0.0.1", message_id="msg_1", body=BODY)
