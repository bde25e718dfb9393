import pytest
import torch

from training.distillation import at_frames, distance


def test_features_are_taken_where_the_frames_are() -> None:
    # A teacher that hears but the time: frame j is at j * 20 ms.
    features = torch.arange(100.0)[None, :, None].expand(2, -1, 3)
    for hop, distance_ in ((160, 4.0), (200, 5.0)):
        found, known = at_frames(features, 30, hop)
        assert found.shape == (2, 30, 3)
        # Of 80 ms, and of 100 ms where speech is played faster by a fourth.
        assert torch.allclose(found[1, 1:19, 0], distance_ * torch.arange(1, 19))
        assert known.sum(1).tolist() == [100 / distance_] * 2


def test_to_guess_the_mean_costs_one_and_to_know_nothing() -> None:
    features = 3 + 5 * torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0))
    keep = torch.arange(50)[None] < torch.tensor([50, 40, 30, 1])[:, None]
    inside = features[keep]
    known = (features - inside.mean(0)) / inside.std(0, correction=0)
    assert float(distance(known, features, keep)) == pytest.approx(0, abs=1e-5)
    assert float(distance(torch.zeros_like(features), features, keep)) == pytest.approx(1, abs=1e-4)


def test_what_does_not_count_changes_nothing() -> None:
    features = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1))
    keep = torch.arange(9)[None] < torch.tensor([9, 5])[:, None]
    other = torch.where(keep[:, :, None], features, 1e3)
    own = torch.zeros_like(features)
    assert float(distance(own, features, keep)) == pytest.approx(float(distance(own, other, keep)))
