import json
import zlib
from bz2 import compress as bzip2
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from training import sources
from training.sources import KINDS, main, proper, typed


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("im fine thx", "I'm fine thanks."),
        ("so what do you do", "So what do you do?"),
        ("i dont know!!", "I don't know!"),
        ("do you? haha", "Do you? haha."),
        ("I'll go 'now'", "I'll go now."),
        ("  ", ""),
    ],
)
def test_a_message_gets_what_typing_leaves_out(given: str, expected: str) -> None:
    assert typed(given) == expected


def test_unknown_and_coarse_words_are_left_out() -> None:
    known = Counter({"hello": 2, "there": 2, "once": 1, "porn": 9})
    assert list(proper(["Hello there!", "Hello qwrt.", "Hello once.", "Hello porn.", "!!"], known)) == ["Hello there!"]


def test_countries_and_definitions_and_examples(tmp_path: Path) -> None:
    written(tmp_path / "africa" / "ag.json", json.dumps({"a": {"text": "It is dry."}, "b": [{"text": "So it is."}]}))
    assert list(sources.factbook(tmp_path)) == ["It is dry.", "So it is."]
    written(
        tmp_path / "data.noun",
        '0 06 n 01 owl 0 000 | a bird of prey; "an owl hooted"\n'
        "0 06 n 01 rail_way 0 000 | a line of (iron) rails\n0 06 n 01 Anna 0 000 | a name\n0 06 n 01 kite 0 000 | a toy\n",
    )
    assert list(sources.definitions(tmp_path)) == ["An owl is a bird of prey.", "A kite is a toy."]
    assert list(sources.examples(tmp_path)) == ["an owl hooted"]


@pytest.mark.parametrize("packed", [zlib.compress, lambda block: b"2" + bzip2(block)])
def test_the_strings_of_data_for_r(packed: Callable[[bytes], bytes], tmp_path: Path) -> None:
    def string(text: bytes) -> bytes:
        return b"\x00\x04\x00\x09" + len(text).to_bytes(4, "big") + text

    blocks = [b"RDX" + string(b"It was") + string(b"late.") + string(b"") + string(b"They left."), string(b"The end.")]
    database = tmp_path / "data" / "Rdata.rdb"
    database.parent.mkdir()
    database.write_bytes(b"".join(len(block).to_bytes(4, "big") + packed(block) for block in blocks))
    assert list(sources.novels(tmp_path)) == ["It was\nlate.", "They left.\nThe end."]


def test_assistants_and_dialogues(tmp_path: Path) -> None:
    written(tmp_path / "locale" / "en-us" / "time.intent", "what time is it\nis it {time}\n")
    written(tmp_path / "locale" / "en-us" / "time.dialog", "It is late\n\n")
    written(tmp_path / "locale" / "de-de" / "time.dialog", "Es ist spät\n")
    assert sorted(sources.assistants(tmp_path)) == ["It is late", "What time is it?"]
    written(tmp_path / "english" / "a.yml", "categories:\n- talk\nconversations:\n- - Hello there\n  - 'Hi, you.'\n")
    assert list(sources.dialogues(tmp_path)) == ["talk", "Hello there", "Hi, you."]


def test_messages_become_paragraphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = {"messages": [[{"text": "hello from korea"}], [{"text": "wat u say"}]]}
    written(tmp_path / "dataset.json", json.dumps({"one": talk}))
    known = written(tmp_path / "known.txt", "Say hello from Korea.\nSay hello from Korea.\nSay Korea, hello.\n")
    out = tmp_path / "out.txt"
    monkeypatch.setattr("sys.argv", ["sources", "chat", str(tmp_path), "--known", str(known), "--out", str(out)])
    main()
    assert out.read_text(encoding="utf-8") == "Hello from Korea.\n"
    facts = written(tmp_path / "facts.txt", "One.\nTwo.\n")
    assert list(KINDS["lines"](facts)) == ["One.", "Two."]
