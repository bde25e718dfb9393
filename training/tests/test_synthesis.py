import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from training.accents import accented
from training.onnx_on_torch import OnnxOnTorch
from training.synthesis import batches, tasks
from training.voices import Line, Piper, pack_voices


def _graph(path: Path) -> Path:
    """A stand-in for an export of Piper: each phoneme is 256 samples as loud as its number, longer by the scale."""
    nodes = [
        helper.make_node("Cast", ["input"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["column"]),
        helper.make_node("Mul", ["column", "ones"], ["spread"]),
        helper.make_node("Reshape", ["spread", "flat"], ["said"]),
        helper.make_node("Pow", ["numbers", "nothing"], ["/Ceil_output_0"]),
        helper.make_node("Mul", ["said", "tenth"], ["output"]),
    ]
    constants: dict[str, np.ndarray] = {
        "last": np.array([2], np.int64),
        "ones": np.ones(256, np.float16),
        "flat": np.array([0, -1], np.int64),
        "nothing": np.array(0, np.float32),
        "emb_g.weight": np.zeros((7, 4), np.float32),
        "tenth": np.array(0.1, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "voice",
        [helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph), path)
    return path


def test_piper_says_each_line_as_long_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "letters").write_text("_ 0\n^ 1\n$ 2\n  3\na 4\nb 9\n", encoding="utf-8")
    monkeypatch.setattr(Piper, "_ACCENTED", 0)
    voices = Piper(_graph(tmp_path / "voice.onnx"), tmp_path / "letters", torch.device("cpu"))
    lines = [Line("A b.", "a bx", ""), Line("A.", "a", "")]

    said = voices.say(lines, random.Random(0))

    assert [one.text for one in said] == ["A b.", "A."]
    # ^ _ (phoneme _) ... $; the unknown x is left out. 256 samples of 22.05 kHz are 185.8 of 16 kHz.
    assert [len(one.samples) for one in said] == [int(9 * 256 * 320 / 441), int(5 * 256 * 320 / 441)]
    assert all(abs(int(np.abs(one.samples).max()) - 0.6 * 32767) <= 1 for one in said)
    first = said[0].samples.astype(float)
    loud = [
        np.median(np.abs(first[round(place * 185.76) + 40 : round((place + 1) * 185.76) - 40])) for place in range(9)
    ]
    assert np.allclose(np.array(loud) / max(loud), np.array([1, 0, 4, 0, 3, 0, 9, 0, 2]) / 9, atol=0.02)
    assert all(0 <= int(number) < 7 for one in said for number in one.voice.split("-"))
    # "A" begins with the third number, "b." with the seventh.
    assert [one.bounds for one in said] == [(int(2 * 185.76), int(6 * 185.76)), (int(2 * 185.76),)]


def test_letters_may_come_from_pipers_configuration(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("_ 0\n^ 1\n$ 2\n  3\na 4\n", encoding="utf-8")
    numbers = {"_": [0], "^": [1], "$": [2], " ": [3], "a": [4]}
    (tmp_path / "voice.onnx.json").write_text(json.dumps({"phoneme_id_map": numbers}), encoding="utf-8")
    graph = _graph(tmp_path / "voice.onnx")
    spoken = [
        Piper(graph, tmp_path / name, torch.device("cpu")).say([Line("A a.", "a a", "")], random.Random(0))[0]
        for name in ("letters", "voice.onnx.json")
    ]
    assert np.array_equal(spoken[0].samples, spoken[1].samples)


def test_values_within_the_graph_come_out_too(tmp_path: Path) -> None:
    network = OnnxOnTorch(_graph(tmp_path / "voice.onnx"), torch.device("cpu"), more=["/Ceil_output_0"])
    sound, frames = network(input=torch.tensor([[1, 2]]), input_lengths=torch.tensor([2]))
    assert sound.shape == (1, 512)
    assert frames.tolist() == [[1.0, 1.0]]


def test_an_accent_keeps_the_words_apart() -> None:
    said = "ðə wˈɪnɚz ʌv ˈiːtʃ stˈeɪdʒ, wʌɾ ɹˈoʊd ðæt wˈɪl hæv ðˈɪs?"
    heard = {accented(said, random.Random(seed)) for seed in range(50)}
    assert len(heard) > 40
    assert {len(other.split()) for other in heard} == {len(said.split())}
    assert all(other.count(",") == 1 and other.endswith("?") for other in heard)


def test_batches_hold_every_line_once_and_lines_of_about_one_length() -> None:
    lines = [f"Text {number}.\t{'a' * (1 + number * 37 % 300)}\tb" for number in range(200)]
    alone = list(tasks(lines, random.Random(0)))
    together = list(batches(iter(alone), 8, random.Random(0)))
    assert sorted(line.text for batch in together for line in batch) == sorted(line.text for line in alone)
    assert " ".join(sorted(" ".join(line.text for line in alone).split())) == " ".join(
        sorted(" ".join(f"Text {number}." for number in range(200)).split())
    )
    as_they_came = [alone[start : start + 8] for start in range(0, len(alone), 8)]
    assert _left_empty(together) < _left_empty(as_they_came) / 2


def test_says_that_a_line_has_no_phonemes() -> None:
    with pytest.raises(ValueError, match=r"training\.phonemes.*Only a text"):
        list(tasks(["One.\ta\tb\n", "Only a text.\n"], random.Random(0)))


def test_says_that_a_directory_has_no_voices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no NAME\.bin"):
        pack_voices(tmp_path, tmp_path / "voices.npz")
    assert not list(tmp_path.iterdir())


def _left_empty(batches: list[list[Line]]) -> int:
    return sum(max(len(line.american) for line in batch) - len(line.american) for batch in batches for line in batch)
