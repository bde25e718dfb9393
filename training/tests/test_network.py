import math

import pytest
import torch

from training.augmentation import Augmentation, Strength
from training.convert import from_mlx, to_mlx
from training.features import LogMel, mel_points
from training.network import MaskedBatchNorm, Shape, Transducer, encoded_length
from training.schedule import Plan

TINY = Shape(width=32, layers=2, heads=2, channels=8, vocabulary=12, dropout=0.0)


def signal(*seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([int(16_000 * item) for item in seconds])
    torch.manual_seed(5)
    return torch.randn(len(seconds), int(lengths.max())) * (
        torch.arange(int(lengths.max())) < lengths[:, None]
    ), lengths


def test_an_item_is_encoded_alike_alone_and_beside_a_longer_one() -> None:
    model = Transducer(TINY).eval()
    features = LogMel(torch.device("cpu"))
    both, lengths = signal(1.13, 2.0)
    mel, frames = features(both, lengths, magnitude=False)
    alone, alone_frames = features(both[:1, : lengths[0]], lengths[:1], magnitude=False)
    with torch.no_grad():
        together, _, _ = model.encoder(mel, frames)
        single, size, _ = model.encoder(alone, alone_frames)
    assert torch.allclose(together[0, : int(size)], single[0], atol=1e-4)


def test_padding_changes_nothing_in_training_either() -> None:
    model = Transducer(TINY).train()
    features = LogMel(torch.device("cpu"))
    mel, frames = features(*signal(1.13, 2.0), magnitude=False)
    encoded, lengths, _ = model.encoder(mel, frames)
    padded, same, _ = model.encoder(torch.nn.functional.pad(mel, (0, 0, 0, 160)), frames)
    assert torch.equal(lengths, same)
    for row, length in enumerate(lengths.tolist()):
        assert torch.allclose(encoded[row, :length], padded[row, :length], atol=1e-4)


def test_batch_normalisation_of_speech_without_padding_is_the_usual_one() -> None:
    ours, usual = MaskedBatchNorm(3), torch.nn.BatchNorm1d(3)
    x, keep = torch.randn(4, 3, 50) * 2 + 1, torch.ones(4, 50, dtype=torch.bool)
    assert torch.allclose(ours(x, keep), usual(x), atol=1e-5)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(ours.state_dict()[name], usual.state_dict()[name], rtol=1e-2, atol=1e-5)
    assert torch.allclose(ours.eval()(x, keep), usual.eval()(x), rtol=1e-2)


def test_three_halvings() -> None:
    frames = torch.arange(1, 50)
    assert encoded_length(frames).tolist() == [math.ceil(int(item) / 8) for item in frames]


def test_conversion_can_be_undone() -> None:
    model = Transducer(TINY)
    state = from_mlx(to_mlx(model.state_dict()))
    again = Transducer(TINY)
    missing = again.load_state_dict(state, strict=False)
    assert set(missing.missing_keys) == {"ctc.weight", "ctc.bias", "pupil.weight", "pupil.bias"}
    labels = torch.tensor([[1, 2, 3]])
    assert torch.allclose(model.decoder(labels), again.decoder(labels), atol=2e-3)


def test_tempo_and_speed_change_the_number_of_frames_as_told() -> None:
    both, lengths = signal(2.0, 1.0)
    augmentation = Augmentation(torch.device("cpu"), 1, rooms=4)
    features = LogMel(torch.device("cpu"))
    strength = Strength()
    faster, shorter = augmentation.speed(both, lengths, strength)
    assert faster.shape[1] == int(shorter.max())
    variation = augmentation.variation(2, strength)
    _, frames = features(faster, shorter, magnitude=True, variation=variation)
    assert frames.tolist() == [int(n) // variation.hop + 1 for n in shorter]


def test_surroundings_leave_padding_silent() -> None:
    both, lengths = signal(2.0, 1.0)
    heard = Augmentation(torch.device("cpu"), 1, rooms=4).surroundings(both, lengths, Strength(noise=1.0, room=1.0))
    assert heard.shape == both.shape
    assert heard[1, int(lengths[1]) :].abs().max() == 0
    assert torch.isfinite(heard).all()


@pytest.mark.parametrize(("spent", "expected"), [(0.0, 0.0), (0.03, 4e-4), (0.2, 8e-4), (1.0, 0.0)])
def test_the_learning_rate_rises_and_falls(spent: float, expected: float) -> None:
    assert Plan(peak=8e-4, warm_up=0.06).rate(spent) == pytest.approx(expected, abs=1e-9)


def test_a_telephone_leaves_nothing_above_its_band() -> None:
    noise = 0.1 * torch.randn(16, 32_000, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((16,), 32_000)
    augmentation = Augmentation(torch.device("cpu"), 1, rooms=4)
    strength = Strength(telephone=1.0, noise=0.0, room=0.0, babble=0.0, line=0.0, music=0.0)
    called = augmentation.surroundings(noise, lengths, strength)
    wide, _ = LogMel(torch.device("cpu"))(noise, lengths, magnitude=True)
    mel, _ = LogMel(torch.device("cpu"))(called, lengths, magnitude=True)
    clear = [band for band, hertz in enumerate(mel_points(80)[1:-1]) if 500 < hertz < 2900]
    beyond = [band for band, hertz in enumerate(mel_points(80)[1:-1]) if hertz > 5800]

    def alike(bands: list[int]) -> torch.Tensor:
        pairs = torch.stack([mel[:, 5:-5, bands].flatten(1), wide[:, 5:-5, bands].flatten(1)], dim=1)
        return torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs.nan_to_num()])

    # Once normalised, what is only fainter would be as clear as before.
    assert alike(clear).min() > 0.7
    assert alike(beyond).nan_to_num().abs().max() < 0.1


def test_a_share_of_the_noise_is_music() -> None:
    augmentation = Augmentation(torch.device("cpu"), 1, rooms=4)
    silence, lengths = torch.zeros(8, 32_000), torch.full((8,), 32_000)
    quiet = Strength(noise=1.0, music=0.5, room=0.0, babble=0.0, line=0.0)
    power = torch.fft.rfft(augmentation.surroundings(silence, lengths, quiet)).abs().square()
    # Of tones most of the power lies in few of the frequencies.
    share = power.topk(800, dim=1).values.sum(1) / power.sum(1)
    assert share[:4].min() > 0.9
    assert augmentation.surroundings(silence, lengths, Strength(noise=1.0, music=0.0)).abs().amax(1).min() > 0


def test_silence_is_filled_with_noise() -> None:
    augmentation = Augmentation(torch.device("cpu"), 1, rooms=4)
    heard = augmentation.surroundings(torch.zeros(3, 8000), torch.full((3,), 8000), Strength(noise=1.0))
    assert heard.square().mean(1).min() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with a GPU")
def test_a_gpu_computes_the_same_gradients() -> None:
    torch.manual_seed(7)
    model = Transducer(Shape(width=64, layers=2, heads=2, channels=8, vocabulary=12, dropout=0.0))
    mel, frames = torch.randn(3, 203, 80), torch.tensor([203, 160, 90])
    slopes: list[dict[str, torch.Tensor]] = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        encoded, lengths, _ = model.encoder(mel.to(device), frames.to(device))
        keep = torch.arange(encoded.shape[1], device=device)[None] < lengths[:, None]
        (encoded.square().mean(-1) * keep).sum().backward()
        slopes.append({name: value.grad.cpu() for name, value in model.named_parameters() if value.grad is not None})
    for name, expected in slopes[0].items():
        distance = (slopes[1][name] - expected).norm() / expected.norm().clamp(min=1e-6)
        assert distance < 0.02, name
