"""The page at `/` as it is served; `tests/browser` sees it work."""

import hashlib
import mimetypes
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from parakeet_service.entrypoints.http import page
from tests.unit.entrypoints.http.probes.test_metrics import REQUESTS, figures
from tests.unit.entrypoints.world import World, a_settings, started

FILES = {path.name: path for path in (Path(page.__file__).parent / "static").iterdir()}
ASSETS = sorted(FILES.keys() - {"index.html"})


class Elements(HTMLParser):
    """Every element of a document, with its attributes and the text right in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and data.strip():
            self.texts.append((self.found[-1][0], data))


@pytest.fixture
def elements() -> Elements:
    return Elements(FILES["index.html"].read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in ASSETS)])
async def test_every_file_comes_with_its_type_and_its_guards(path: str) -> None:
    async with World().client() as client:
        answer = await client.get(path)
    name = path.rpartition("/")[2] or "index.html"
    kinds = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    assert answer.status_code == 200
    assert answer.content == FILES[name].read_bytes()
    assert answer.headers["content-type"] == kinds.get(FILES[name].suffix, "text/javascript; charset=utf-8")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "microphone=(self)" in answer.headers["permissions-policy"]


async def test_types_do_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    mimetypes.init()
    monkeypatch.setitem(mimetypes.types_map, ".js", "text/plain")
    async with World().client() as client:
        answer = await client.get("/page/page.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


async def test_the_policy_lets_in_nothing_but_what_is_ours() -> None:
    async with World().client() as client:
        policy = (await client.get("/")).headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["media-src"] == "blob:"
    assert {rules[kind] for kind in ("script-src", "worker-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in policy


def test_no_script_and_no_style_stands_in_the_document(elements: Elements) -> None:
    assert [text for tag, text in elements.texts if tag in {"script", "style"}] == []
    assert "style" not in {tag for tag, _ in elements.found}
    attributes = {name for _, attributes in elements.found for name in attributes}
    assert not {name for name in attributes if name == "style" or name.startswith("on")}


def test_all_that_is_named_is_there(elements: Elements) -> None:
    named = {value for _, attributes in elements.found for name in ("src", "href") if (value := attributes.get(name))}
    assert named >= {"page/page.js", "page/page.css", "page/icon.svg"}
    # Relative, so that a proxy may put the page below any path.
    assert {path.removeprefix("page/") for path in named} <= FILES.keys()
    for source in (path.read_text(encoding="utf-8") for name, path in FILES.items() if name.endswith(".js")):
        assert {name.removeprefix("./") for name in re.findall(r'(?:from|import\() ?"([^"]+)"', source)} <= FILES.keys()
        assert set(re.findall(r'new URL\("([^"]+)", import', source)) <= FILES.keys()


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    source = FILES[name].read_text(encoding="utf-8")
    assert set(re.findall(r"(?:https?:)?//[\w-]+\.\S+", source)) <= {'http://www.w3.org/2000/svg"'}


def test_ids_that_the_scripts_ask_for_are_in_the_document(elements: Elements) -> None:
    ids = [value for _, attributes in elements.found if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))
    scripts = "".join(path.read_text(encoding="utf-8") for name, path in FILES.items() if name.endswith(".js"))
    asked = set(re.findall(r'\$\("([\w-]+)"', scripts))
    assert asked >= {"microphone", "file", "key"}
    assert asked <= set(ids)


def test_what_labels_and_descriptions_point_at_is_there(elements: Elements) -> None:
    ids = {attributes.get("id") for _, attributes in elements.found}
    pointers = ("for", "aria-labelledby", "aria-describedby")
    assert {value for _, attributes in elements.found for name in pointers if (value := attributes.get(name))} <= ids


@pytest.mark.parametrize("path", ["/", "/page/page.js"])
async def test_a_browser_that_has_it_gets_it_once(path: str) -> None:
    async with World().client() as client:
        first = await client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        etag = first.headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}'):
            again = await client.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert (await client.get(path, headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page/page.css"])
async def test_answers_head_as_get(path: str) -> None:
    async with World().client() as client:
        get, head = await client.get(path), await client.head(path)
    assert head.status_code == 200
    varying = {"x-request-id"}
    assert {n: v for n, v in head.headers.items() if n not in varying} == {
        n: v for n, v in get.headers.items() if n not in varying
    }


async def test_a_file_that_changed_is_sent_even_if_its_date_and_size_did_not() -> None:
    directory = Path(page.__file__).parent / "static"
    async with World().client() as client:
        etag = (await client.get("/page/icon.svg")).headers["etag"]
    assert etag == f'"{hashlib.sha256((directory / "icon.svg").read_bytes()).hexdigest()[:32]}"'


async def test_works_below_a_path() -> None:
    app = FastAPI()
    app.include_router(page.router(), prefix="/speech")
    app.mount("/mounted", World().app)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        for prefix in ("/speech", "/mounted"):
            assert (await client.get(f"{prefix}/")).content == FILES["index.html"].read_bytes()
            assert (await client.get(f"{prefix}/page/page.js")).content == FILES["page.js"].read_bytes()


@pytest.mark.parametrize("path", ["/", "/page/page.js"])
async def test_takes_nothing_in(path: str) -> None:
    async with World().client() as client:
        assert (await client.post(path)).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/page/index.htm",
        "/page/__init__.py",
        "/page/..%2Fapp.py",
        "/page/..%2F__init__.py",
        "/page/%2e%2e",
        "/page/%2e",
        "/page/%00",
        "/page/" + "a" * 300,
        "/page/",
        "/page",
        "/page/a/b",
    ],
)
async def test_gives_nothing_else(path: str) -> None:
    async with World().client() as client:
        assert (await client.get(path)).status_code == 404


async def test_needs_neither_key_nor_share_nor_model() -> None:
    world = World(settings=a_settings(api_keys="s3cret", rate_limit="1/hour"))
    async with world.client() as client:
        for _ in range(2):
            assert (await client.get("/")).status_code == 200
            assert (await client.get("/page/page.js")).status_code == 200
        # What is no page of ours needs a key as before.
        assert (await client.get("/pages")).status_code == 401


async def test_does_not_fill_the_log() -> None:
    async with (await started()).client() as client:
        with capture_logs() as lines:
            await client.get("/")
            await client.get("/page/page.js")
    assert [line["log_level"] for line in lines] == ["debug", "debug"]


async def test_adds_no_figure_for_each_file() -> None:
    world = await started()
    async with world.client() as client:
        for name in (*ASSETS, "made-up.js"):
            await client.get(f"/page/{name}")
    routes = {name for name in await figures(world) if name.startswith(REQUESTS)}
    assert {re.findall(r'route="([^"]+)"', name)[0] for name in routes} == {"/page/{name}"}
