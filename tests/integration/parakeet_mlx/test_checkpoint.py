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


def safetensors(*names: str, data: bytes = bytes(8), length: int | None = None) -> bytes:
    """A file with these tensors, of two numbers each; `length` is what the header states instead of the truth."""
    end = len(data) if length is None else length
    header = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, end]} for name in names}).encode()
    return len(header).to_bytes(8, "little") + header + (data if names else b"")


FILES = {
    "config.json": b'{"target": "somewhere"}',
    "model.safetensors": safetensors("a.weight"),
    "README.md": b"not needed",
}
ABOUT_THE_MODEL = {
    "id": "owner/name",
    "siblings": [{"rfilename": name, "size": len(content)} for name, content in FILES.items()],
}


class Hub(ThreadingHTTPServer):
    """A Hub with one model, as far as its client asks."""

    def __init__(self, *, status: int = 200, error: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = status
        self.error = error
        self.about: object = ABOUT_THE_MODEL
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
        content = FILES.get(self.path.rpartition("/")[2], json.dumps(self.server.about).encode())
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


_COUNT = """
import json
from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.adapters.inference.progress import Progress

class Watched(Progress):
    def end(self):
        self.last = self.stage
        super().end()

progress = Watched()
locate("owner/name", offline=False, progress=progress)
print(json.dumps([progress.last.doing, progress.last.done_bytes, progress.last.total_bytes, progress.stage]))
"""


def located(cache: Path, hub: Hub | None, *, offline: bool = False, program: str = _LOCATE) -> str:
    """The path of the weights, or the error's message, in a process that knows no other Hub than `hub`."""
    where = {"HF_ENDPOINT": hub.url} if hub else {"HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, "HF_HOME": str(cache), **where}
    arguments = [sys.executable, "-c", program, "offline" if offline else "online"]
    return (
        subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True)
        .stdout.strip()
        .splitlines()[-1]
    )


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


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (b"", "is damaged or no safetensors file"),
        (b"weights", "is damaged or no safetensors file"),
        (b"\xff" * 100, "is damaged or no safetensors file"),
        (safetensors("a.weight")[:40], "is damaged or no safetensors file"),
        (safetensors("a.weight")[:-1], "bytes, and not the"),
        (safetensors("a.weight", length=1 << 31), "bytes, and not the"),
        (safetensors("a.weight") + b"more", "bytes, and not the"),
    ],
)
def test_says_that_weights_are_not_all_there(tmp_path: Path, weights: bytes, reason: str) -> None:
    model_id = checkpoint_with(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelLoadError, match=rf"model\.safetensors .*{reason}.*copy or download it again\.$"):
        locate(model_id, offline=True)


@pytest.mark.parametrize(
    ("config", "names"), [({"quantization": {"bits": 4}}, ("a.weight",)), ({}, ("a.weight", "a.scales"))]
)
def test_refuses_quantised_weights_in_one_sentence(tmp_path: Path, config: object, names: tuple[str, ...]) -> None:
    model_id = checkpoint_with(tmp_path, config)
    (tmp_path / "model.safetensors").write_bytes(safetensors(*names))
    with pytest.raises(ModelLoadError, match=r"has quantised weights.*MODEL_PRECISION=int8 or int4\.$"):
        locate(model_id, offline=True)


def checkpoint_with(directory: Path, config: object) -> str:
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(safetensors())
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


@pytest.mark.parametrize(
    "name", ["nowhere", "/nowhere/at/all", "a/b/c", "owner/na me", "", "./x", ".x/y", "../x", "a/.b", "-a/b", "a/b."]
)
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
    message = located(tmp_path, None)
    assert "the Hub cannot be reached" in message
    for remedy in ("HTTPS_PROXY", "HF_ENDPOINT", "hf download owner/name", "MODEL_ID may be a directory"):
        assert remedy in message


def test_says_so_at_once_where_nobody_listens(tmp_path: Path) -> None:
    with serving(Hub()) as gone:
        pass
    assert "the Hub cannot be reached" in located(tmp_path, gone)


def test_refuses_what_does_not_fit_on_the_disk(tmp_path: Path) -> None:
    with serving(Hub()) as hub:
        hub.about = {**ABOUT_THE_MODEL, "siblings": [{"rfilename": name, "size": 1 << 60} for name in FILES]}
        assert "The model takes about 2305843009.2 GB, and the disk of" in located(tmp_path, hub)


def test_fetches_from_a_mirror_that_knows_files_and_nothing_else(tmp_path: Path) -> None:
    with serving(Hub()) as hub:
        hub.about = {}
        assert Path(located(tmp_path, hub)).read_bytes() == FILES["model.safetensors"]


def test_a_download_is_counted(tmp_path: Path) -> None:
    with serving(Hub()) as hub:
        counted = located(tmp_path, hub, program=_COUNT)
    size = len(FILES["config.json"]) + len(FILES["model.safetensors"])
    assert json.loads(counted) == ["downloading", size, size, None]
