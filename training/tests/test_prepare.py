import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training import prepare
from training.manifests import Utterance, write_manifest
from training.shards import read_shard


def listed(path: Path, corpus: str, files: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    items = [Utterance(path.parent / f"{place}.wav", 1.0, corpus, f"{place}", "One two.") for place in range(files)]
    for item in items:
        soundfile.write(item.file, np.full(16_000, 1000, np.int16), 16_000)
    write_manifest(path, items)
    return path


def prepared(monkeypatch: pytest.MonkeyPatch, out: Path, *given: Path | str) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, given), "--out", str(out)])
    prepare.main()


def test_voices_held_out_are_in_no_other_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(monkeypatch, tmp_path / "out", listed(tmp_path / "a" / "one.tsv", "one", 20), "--held-out", "0.1")
    audio, kept = read_shard(tmp_path / "out" / "one.tsv")
    _, watched = read_shard(tmp_path / "out" / "dev.tsv")
    assert len(watched) == 2
    assert len({entry.speaker for entry in kept + watched}) == len(kept + watched) == 20
    assert set(audio.tolist()) == {int(0.6 * 32767)}


@pytest.mark.parametrize("name", ["one", "dev"])
def test_no_shard_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lists = [listed(tmp_path / "a" / "one.tsv", "one", 2), listed(tmp_path / "b" / f"{name}.tsv", "two", 2)]
    with pytest.raises(SystemExit):
        prepared(monkeypatch, tmp_path / "out", *lists)
    assert not (tmp_path / "out").exists()


def test_says_which_recording_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = listed(tmp_path / "a" / "one.tsv", "one", 2)
    (tmp_path / "a" / "1.wav").unlink()
    with pytest.raises(SystemExit, match=r"one\.tsv: there is no .*1\.wav"):
        prepared(monkeypatch, tmp_path / "out", path)


def test_of_ten_voices_one_is_held_out() -> None:
    spoken = [Utterance(Path("a.wav"), 1.0, "corpus", str(number), "One.") for number in range(10)]
    assert len(prepare.held_out(spoken, 0.04)) == 1
    assert prepare.held_out(spoken, 0.0) == set()
    assert prepare.held_out(spoken[:9], 0.04) == set()
