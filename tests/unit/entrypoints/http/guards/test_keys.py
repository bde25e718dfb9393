import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from parakeet_service.config.settings import Settings
from parakeet_service.entrypoints.http.guards.keys import KeyRing, caller_of, is_loopback
from tests.unit.entrypoints.world import a_settings, started


def named(keys: str) -> list[tuple[str, str]]:
    return [(name, key.get_secret_value()) for name, key in a_settings(api_keys=keys).named_keys]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", []),
        ("sk-1", [("key-1", "sk-1")]),
        ("sk-1, alice:sk-2", [("key-1", "sk-1"), ("alice", "sk-2")]),
        ("alice:old,alice:new", [("alice", "old"), ("alice", "new")]),
        ("alice:a:b", [("alice", "a:b")]),
        (":a:b", [("key-1", "a:b")]),
        # No name has a slash or a space: then the colon belongs to the key.
        ("a/b:c", [("key-1", "a/b:c")]),
        ("bob@example.org:sk", [("bob@example.org", "sk")]),
    ],
)
def test_keys_may_have_names(keys: str, expected: list[tuple[str, str]]) -> None:
    assert named(keys) == expected


@pytest.mark.parametrize(("keys", "complaint"), [("alice:", "a name but no key"), ("a:x,b:x", "twice")])
def test_keys_that_cannot_be_meant_stop_the_start(keys: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Settings.model_validate({"api_keys": keys})


async def test_the_log_names_whose_key_it_was_and_never_the_key() -> None:
    world = await started(settings=a_settings(api_keys="alice:s3cret,plain"))
    async with world.client() as client:
        with capture_logs() as lines:
            for key in ("s3cret", "plain", "wrong"):
                await client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
    assert [line.get("key") for line in lines] == ["alice", "key-2", None]
    assert "s3cret" not in str(lines)


@pytest.mark.parametrize("path", ["/v1/models", "/config"])
async def test_a_wrong_key_is_told_from_none(path: str) -> None:
    world = await started(settings=a_settings(api_keys="s3cret"))
    async with world.client() as client:
        told = [
            (await client.get(path, headers=headers)).json()["error"]["message"]
            for headers in ({}, {"authorization": "Basic s3cret"}, {"authorization": "Bearer wrong"})
        ]
    assert told == [
        *["An API key is required: Authorization: Bearer <key>."] * 2,
        "The API key is not valid, or has expired.",
    ]


async def test_who_leaves_before_it_is_refused_is_no_defect() -> None:
    world = await started(settings=a_settings(api_keys="s3cret"))
    with capture_logs() as lines:
        async with world.live() as client:
            client.gone = True
    assert [(line["event"], line["code"], line["log_level"]) for line in lines] == [("session", "unauthorized", "info")]


async def test_the_name_opens_nothing() -> None:
    world = await started(settings=a_settings(api_keys="alice:s3cret"))
    async with world.client() as client:
        for offered in ("alice", "alice:s3cret", ""):
            answer = await client.get("/v1/models", headers={"authorization": f"Bearer {offered}"})
            assert answer.status_code == 401


async def test_a_name_in_the_configuration_is_not_shown_either() -> None:
    world = await started(settings=a_settings(api_keys="alice:s3cret"))
    async with world.client(authorization="Bearer s3cret") as client:
        assert (await client.get("/config")).json()["settings"]["api_keys"] == 1


def test_the_second_of_two_offered_keys_may_be_the_right_one() -> None:
    ring = KeyRing([("a", SecretStr("1"))])
    for offered in ("key.1", "openai-insecure-api-key.1"):
        scope = {"headers": [(b"authorization", b"Bearer 2")], "subprotocols": ["key.3", "realtime", offered]}
        assert ring.name_of(scope) == "a"


def test_a_caller_without_a_key_is_its_address() -> None:
    assert caller_of({"client": ("192.0.2.1", 80)}) == "address 192.0.2.1"
    assert caller_of({"client": None}) == "address unix socket"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_knows_what_this_machine_alone_reaches(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_knows_what_other_machines_reach(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("sent", "known"), [("käse".encode(), True), ("käse".encode("latin-1"), False), (b"k?se", False)]
)
def test_a_key_that_is_not_ascii_is_sent_in_utf_8(sent: bytes, known: bool) -> None:  # noqa: FBT001
    ring = KeyRing(a_settings(api_keys="bob:käse").named_keys)
    scope = {"type": "http", "headers": [(b"authorization", b"Bearer " + sent)]}
    assert (ring.name_of(scope) == "bob") is known
