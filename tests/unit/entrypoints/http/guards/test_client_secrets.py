import time
from typing import Any

import pytest
from starlette.types import Scope

from parakeet_service.entrypoints.http.guards.client_secrets import ClientSecret, ClientSecrets

FAR = 1 << 40


def scope(key: str, *, kind: str = "websocket", path: str = "/v1/realtime") -> Scope:
    return {"type": kind, "path": path, "headers": [(b"authorization", f"Bearer {key}".encode("latin-1"))]}


def test_a_secret_says_what_was_put_into_it() -> None:
    secrets = ClientSecrets()
    secret = ClientSecret("alice", {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}, FAR)
    value = secrets.make(secret)
    assert value.startswith("ek_")
    assert secrets.find(scope(value)) == secret
    assert secrets.owner_of(scope(value)) == "alice"


def test_it_can_be_offered_as_a_subprotocol() -> None:
    secrets = ClientSecrets()
    value = secrets.make(ClientSecret("alice", {}, FAR))
    # What a subprotocol may be made of (RFC 9110, a token).
    assert set(value) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    offered: dict[str, Any] = {"type": "websocket", "path": "/v1/realtime", "headers": []}
    for prefix in ("key.", "openai-insecure-api-key."):
        assert secrets.owner_of({**offered, "subprotocols": ["realtime", prefix + value]}) == "alice"


@pytest.mark.parametrize(("kind", "path"), [("http", "/v1/realtime"), ("websocket", "/ws"), ("http", "/v1/models")])
def test_it_opens_nothing_else(kind: str, path: str) -> None:
    secrets = ClientSecrets()
    value = secrets.make(ClientSecret("alice", {}, FAR))
    assert secrets.find(scope(value, kind=kind, path=path)) is None


def test_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ClientSecrets()
    value = secrets.make(ClientSecret("alice", {}, 1000))
    monkeypatch.setattr(time, "time", lambda: 999.9)
    assert secrets.owner_of(scope(value)) == "alice"
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert secrets.owner_of(scope(value)) is None


def test_what_another_process_made_is_worth_nothing() -> None:
    value = ClientSecrets().make(ClientSecret("alice", {}, FAR))
    assert ClientSecrets().find(scope(value)) is None


def test_nothing_of_it_can_be_changed() -> None:
    secrets = ClientSecrets()
    (content, signature), (others, _) = (
        secrets.make(ClientSecret(name, {}, FAR)).removeprefix("ek_").split(".") for name in ("mallory", "alice")
    )
    forged = [f"ek_{others}.{signature}", f"ek_{content}.{signature[:-8]}", f"ek_{content}", f"{content}.{signature}"]
    forged += [f"ek_A{content}.{signature}", "ek_", "ek_.", "ek_é.é"]
    assert [secrets.find(scope(one)) for one in forged] == [None] * len(forged)
