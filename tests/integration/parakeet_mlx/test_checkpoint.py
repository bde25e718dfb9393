import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.domain.errors import ModelLoadError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"target": "somewhere"}', "model.safetensors": b"weights", "README.md": b"not needed"}


class Hub(ThreadingHTTPServer):
    """A Hub with one model, as far as its client asks."""

    def __init__(self, *, status: int = 200, error: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = status
        self.error = error
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride] - the one that made it

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        self.server.asked.append(self.path)
        content = FILES.get(self.path.rpartition("/")[2], b"{}")
        self.send_response(self.server.status)
        if self.server.error:
            self.send_header("X-Error-Code", self.server.error)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing."""


@contextmanager
def serving(hub: Hub) -> Generator[Hub]:
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


_LOCATE = """
import sys
from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.domain.errors import ModelLoadError
try:
    print(locate("owner/name", offline=sys.argv[1] == "offline").weights)
except ModelLoadError as error:
    print(error.message)
"""


def located(cache: Path, hub: Hub | None, *, offline: bool = False) -> str:
    """The path of the weights, or the error's message, in a process that knows no other Hub than `hub`."""
    where = {"HF_ENDPOINT": hub.url} if hub else {"HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, "HF_HOME": str(cache), **where}
    arguments = [sys.executable, "-c", _LOCATE, "offline" if offline else "online"]
    return subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_finds_the_embedded_model() -> None:
    checkpoint = locate("embedded", offline=True)
    assert checkpoint.weights.is_file()
    assert checkpoint.config["encoder"]["d_model"] == 256


def test_finds_a_directory(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    checkpoint = locate(str(tmp_path), offline=True)
    assert checkpoint.config == {"target": "somewhere"}
    assert checkpoint.weights == tmp_path / "model.safetensors"


def test_says_which_file_a_directory_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match=r"no model\.safetensors"):
        locate(str(tmp_path), offline=False)


def test_refuses_a_configuration_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelLoadError, match="cannot be read"):
        locate(str(tmp_path), offline=False)


def checkpoint_with(directory: Path, config: object) -> str:
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").touch()
    return str(directory)


@pytest.mark.parametrize("config", [[], None, 3, "text"])
def test_refuses_a_configuration_that_is_no_object(tmp_path: Path, config: object) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json holds no JSON object\.$"):
        locate(checkpoint_with(tmp_path, config), offline=True)


def test_refuses_a_configuration_that_is_nested_too_deeply(tmp_path: Path) -> None:
    model_id = checkpoint_with(tmp_path, {})
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        locate(model_id, offline=True)


def test_reads_what_a_configuration_says_to_us(tmp_path: Path) -> None:
    section = {"languages": ["de", "en"], "max_window_s": 30, "note": "A test."}
    card = locate(checkpoint_with(tmp_path, {"parakeet_service": section}), offline=True).card
    assert (card.languages, card.max_window_s, card.note) == (("de", "en"), 30.0, "A test.")


@pytest.mark.parametrize(
    "section",
    [
        *(None, [], "text"),
        *({"languages": "de"}, {"languages": [1]}, {"languages": 0}),
        *({"max_window_s": "long"}, {"max_window_s": 0}, {"max_window_s": -1}, {"max_window_s": float("nan")}),
        {"note": ["many"]},
    ],
)
def test_says_that_our_section_of_a_configuration_is_wrong(tmp_path: Path, section: object) -> None:
    with pytest.raises(ModelLoadError, match="parakeet_service: "):
        locate(checkpoint_with(tmp_path, {"parakeet_service": section}), offline=True)


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "a/b/c", "owner/na me", ""])
def test_refuses_a_name_that_can_be_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadError, match="neither a directory nor a Hub id"):
        locate(name or "?", offline=False)


def test_fetches_from_the_hub_what_it_needs_and_once(tmp_path: Path) -> None:
    with serving(Hub()) as hub:
        weights = located(tmp_path, hub)
        assert Path(weights).read_bytes() == FILES["model.safetensors"]
        assert (Path(weights).parent / "config.json").read_bytes() == FILES["config.json"]
        assert not any("README" in path for path in hub.asked)
        hub.asked.clear()
        assert located(tmp_path, hub, offline=True) == weights
        assert hub.asked == []


def test_never_asks_the_hub_when_offline(tmp_path: Path) -> None:
    with serving(Hub()) as hub:
        assert located(tmp_path, hub, offline=True) == "'owner/name' is not in the cache, and downloads are disabled."
        assert hub.asked == []


def test_says_that_the_hub_has_no_such_model(tmp_path: Path) -> None:
    with serving(Hub(status=404, error="RepoNotFound")) as hub:
        assert "The Hub has no model 'owner/name'" in located(tmp_path, hub)


def test_says_that_a_model_is_gated(tmp_path: Path) -> None:
    with serving(Hub(status=403, error="GatedRepo")) as hub:
        assert "gated" in located(tmp_path, hub)


def test_says_that_the_hub_is_out_of_reach(tmp_path: Path) -> None:
    assert "the Hub cannot be reached" in located(tmp_path, None)
