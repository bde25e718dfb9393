import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training import teacher
from training.features import RATE, mel_points
from training.teacher import Teacher, encoder_weights, read_model

CPU = torch.device("cpu")
WIDTH, LAYERS = 128, 2
_NUMBERS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def variables() -> dict[str, np.ndarray]:
    """A small encoder, and a little of a decoder, under CTranslate2's names."""
    chance = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int) -> None:
        made[name] = (chance.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float16)

    def norm(name: str) -> None:
        made[f"{name}/gamma"], made[f"{name}/beta"] = np.ones(WIDTH, np.float16), np.zeros(WIDTH, np.float16)

    def linear(name: str, *shape: int) -> None:
        add(f"{name}/weight", *shape)
        made[f"{name}/bias"] = (0.1 * chance.standard_normal(shape[0])).astype(np.float16)

    linear("encoder/conv1", WIDTH, 80, 3)
    linear("encoder/conv2", WIDTH, WIDTH, 3)
    add("encoder/position_encodings/encodings", 1500, WIDTH)
    for block in (f"encoder/layer_{place}" for place in range(LAYERS)):
        norm(f"{block}/self_attention/layer_norm")
        linear(f"{block}/self_attention/linear_0", 3 * WIDTH, WIDTH)
        linear(f"{block}/self_attention/linear_1", WIDTH, WIDTH)
        norm(f"{block}/ffn/layer_norm")
        linear(f"{block}/ffn/linear_0", 2 * WIDTH, WIDTH)
        linear(f"{block}/ffn/linear_1", WIDTH, 2 * WIDTH)
    norm("encoder/layer_norm")
    made["encoder/num_heads"] = np.array(2, np.int16)
    made["decoder/embeddings/weight"] = np.zeros((10, WIDTH), np.float16)
    return made


def model(path: Path, given: dict[str, np.ndarray], *, version: int = 6, name: bytes = b"WhisperSpec") -> Path:
    """A file in CTranslate2's format."""

    def string(text: bytes) -> bytes:
        return struct.pack("<H", len(text) + 1) + text + b"\0"

    parts = [struct.pack("<I", version), string(name), struct.pack("<II", 3, len(given))]
    for key, value in given.items():
        sizes = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        parts += [string(key.encode()), sizes, struct.pack("<BI", _NUMBERS[value.dtype.name], value.nbytes)]
        parts.append(value.tobytes())
    alias = string(b"decoder/projection/weight") + string(b"decoder/embeddings/weight")
    path.write_bytes(b"".join([*parts, struct.pack("<I", 1), alias]))
    return path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    out = tmp_path / "encoder.safetensors"
    given = model(tmp_path / "model.bin", variables())
    monkeypatch.setattr(sys, "argv", ["teacher", str(given), "--out", str(out)])
    teacher.main()
    return out


def signal(*seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([int(RATE * item) for item in seconds])
    chance = torch.Generator().manual_seed(5)
    sound = 0.1 * torch.randn(len(seconds), int(lengths.max()), generator=chance)
    return sound * (torch.arange(sound.shape[1]) < lengths[:, None]), lengths


def test_only_the_encoder_is_kept(weights: Path) -> None:
    kept = load_file(weights)
    assert len(kept) == 7 + LAYERS * 12
    assert {value.dtype for value in kept.values()} == {torch.float16}


def test_a_frame_for_every_20_ms_begun(weights: Path) -> None:
    both, lengths = signal(1.13, 2.01)
    features = Teacher(weights, CPU)(both, lengths)
    assert features.shape == (2, 101, WIDTH)
    assert features.isfinite().all()
    assert features.std(1).min() > 0
    assert not features.requires_grad


@pytest.mark.parametrize("margin_s", [0.0, 1.0, 30.0])
def test_an_item_has_the_same_features_alone_and_beside_a_longer_one(weights: Path, margin_s: float) -> None:
    read = Teacher(weights, CPU, margin_s=margin_s)
    both, lengths = signal(1.13, 2.0)
    alone = read(both[:1, : lengths[0]], lengths[:1])
    assert torch.allclose(read(both, lengths)[0, : alone.shape[1]], alone[0], atol=1e-4)


def test_an_item_attends_to_the_silence_behind_it(weights: Path) -> None:
    given = signal(1.0)
    assert not torch.allclose(Teacher(weights, CPU)(*given), Teacher(weights, CPU, margin_s=0)(*given), atol=1e-2)


def test_thirty_seconds_fit_and_no_more(weights: Path) -> None:
    read = Teacher(weights, CPU, layer=0)
    assert read(*signal(30.0)).shape == (1, 1500, WIDTH)
    with pytest.raises(ValueError, match="at most 480000"):
        read(*signal(30.1))


def test_features_of_another_layer(weights: Path) -> None:
    given = signal(1.0)
    last, raw, first = (Teacher(weights, CPU, layer=layer)(*given) for layer in (None, LAYERS, 1))
    assert torch.equal(last, raw)
    assert not torch.allclose(first, raw)
    # Only the last one's are normalised.
    assert torch.allclose(last.std(2, unbiased=False), torch.ones(1, 50), atol=1e-2)
    assert first.std(2).max() > 1.1
    with pytest.raises(ValueError, match="has 2 layers, not 3"):
        Teacher(weights, CPU, layer=3)


def test_a_tone_is_in_its_band_and_nothing_is_80_db_below_it(weights: Path) -> None:
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)
    mel = Teacher(weights, CPU)._mel(torch.stack([tone, tone / 10]))
    assert mel.shape == (2, 80, 100)
    corners = mel_points(80)
    band = int(mel[0, :, 50].argmax())
    assert corners[band] < 1000 < corners[band + 2]
    assert (mel.amax((1, 2)) - mel.amin((1, 2))).tolist() == pytest.approx([2, 2], abs=1e-3)
    # A tenth of the level are two powers of ten, of which a quarter is taken.
    assert float(mel[0, band, 50] - mel[1, band, 50]) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("kind", "most", "rows"), [(np.int8, 127, True), (np.int16, 1000, False)])
def test_integers_are_made_wide_by_their_scales(tmp_path: Path, kind: type, most: int, *, rows: bool) -> None:
    plain = variables()
    small = dict(plain)
    for name, value in plain.items():
        if "/linear_" in name and name.endswith("/weight"):
            wide = value.astype(np.float32)
            scale = most / np.abs(wide).max(1 if rows else None)
            small[name] = np.round(wide * (scale[:, None] if rows else scale)).astype(kind)
            small[f"{name}_scale"] = np.asarray(scale, np.float32)
    one = encoder_weights(read_model(model(tmp_path / "a.bin", plain)))
    other = encoder_weights(read_model(model(tmp_path / "b.bin", small)))
    assert one.keys() == other.keys()
    for name, stored in one.items():
        assert torch.allclose(stored.float(), other[name].float(), atol=0.02), name


def test_other_files_are_refused(tmp_path: Path) -> None:
    whole = model(tmp_path / "model.bin", variables())
    (tmp_path / "cut.bin").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="ends too early"):
        read_model(tmp_path / "cut.bin")
    with pytest.raises(ValueError, match="format 5, not 6"):
        read_model(model(tmp_path / "old.bin", {}, version=5))
    with pytest.raises(ValueError, match="a TransformerSpec, not a WhisperSpec"):
        read_model(model(tmp_path / "text.bin", {}, name=b"TransformerSpec"))
    narrow = read_model(model(tmp_path / "narrow.bin", {**variables(), "encoder/num_heads": np.array(4, np.int16)}))
    with pytest.raises(ValueError, match="4 heads of a width of 128"):
        encoder_weights(narrow)
