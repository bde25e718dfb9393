import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training import corpora
from training.manifests import read_manifest
from training.selection import trainable


def silence(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(16_000 * seconds), np.int16), 16_000)


def listed(monkeypatch: pytest.MonkeyPatch, kind: str, directory: Path) -> list[tuple[str, str, float, str]]:
    out = directory.parent / "list.tsv"
    monkeypatch.setattr(sys, "argv", ["corpora", kind, str(directory), "--out", str(out)])
    corpora.main()
    return [(item.file.name, item.voice, item.seconds, item.text) for item in trainable(read_manifest(out))]


def test_a_directory_of_nothing_gives_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="nothing of librispeech"):
        listed(monkeypatch, "librispeech", tmp_path / "train")
    assert not (tmp_path / "list.tsv").exists()


def test_librispeech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chapter = tmp_path / "train" / "103" / "1240"
    silence(chapter / "103-1240-0000.flac", 1.5)
    silence(chapter / "103-1240-0001.flac", 2.0)
    (chapter / "103-1240.trans.txt").write_text(
        "103-1240-0000 I THINK I'M LATE\n103-1240-0001 MISSUS RACHEL LYNDE LIVED THERE\n", encoding="utf-8"
    )
    assert listed(monkeypatch, "librispeech", tmp_path / "train") == [
        ("103-1240-0000.flac", "librispeech/103", 1.5, "I think I'm late."),
        ("103-1240-0001.flac", "librispeech/103", 2.0, "Missus rachel lynde lived there."),
    ]


def test_common_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silence(tmp_path / "en" / "clips" / "a.mp3", 1.5)
    (tmp_path / "en" / "validated.tsv").write_text(
        'client_id\tpath\tsentence\tage\n0123456789abcdefXYZ\ta.mp3\t"Is it you, Zoe?"\t\n', encoding="utf-8"
    )
    ((name, voice, seconds, text),) = listed(monkeypatch, "common-voice", tmp_path / "en")
    assert (name, voice, text) == ("a.mp3", "common-voice/0123456789abcdef", "Is it you, Zoe?")
    assert seconds == pytest.approx(1.5, abs=0.1)
