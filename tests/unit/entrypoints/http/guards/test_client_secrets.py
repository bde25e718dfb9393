import hashlib
import time
from typing import Any

import pytest
from itsdangerous import URLSafeSerializer
from starlette.types import Scope

from parakeet_service.entrypoints.http.guards.client_secrets import ClientSecret, ClientSecrets
from parakeet_service.entrypoints.http.guards.websocket_gateway import JsonObject

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


def test_processes_that_share_a_signing_key_accept_each_others_secrets() -> None:
    value = ClientSecrets(b"a" * 32).make(ClientSecret("alice", {}, FAR))
    assert ClientSecrets(b"a" * 32).owner_of(scope(value)) == "alice"
    assert ClientSecrets(b"b" * 32).find(scope(value)) is None


@pytest.mark.parametrize("key", [b"", b"secret", b"a" * 31])
def test_refuses_a_signing_key_that_could_be_guessed(key: bytes) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        ClientSecrets(key)


@pytest.mark.parametrize("session", [{}, {"prompt": "yes " * 400}], ids=["plain", "compressed"])
def test_a_change_of_any_character_is_noticed(session: JsonObject) -> None:
    secrets = ClientSecrets()
    value = secrets.make(ClientSecret("alice", session, FAR))
    assert secrets.owner_of(scope(value)) == "alice"
    # A signature's last character carries two bits that are not read.
    for at in range(len(value) - 1):
        other = "A" if value[at] != "A" else "B"
        assert secrets.find(scope(value[:at] + other + value[at + 1 :])) is None, at


def test_a_later_end_cannot_be_written_into_it() -> None:
    secrets = ClientSecrets()
    _, _, signature = secrets.make(ClientSecret("alice", {}, 1000)).rpartition(".")
    content, _, _ = ClientSecrets().make(ClientSecret("alice", {}, FAR)).rpartition(".")
    assert secrets.find(scope(f"{content}.{signature}")) is None


def test_what_another_use_of_the_same_key_has_signed_is_worth_nothing() -> None:
    key = b"a" * 32
    for salt in ("itsdangerous", "cookie"):
        other = URLSafeSerializer(
            key, salt=salt, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )
        assert ClientSecrets(key).find(scope("ek_" + other.dumps(["alice", {}, FAR]))) is None
