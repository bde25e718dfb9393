import functools
import math

import pytest
import torch
from torch import Tensor

from training.loss import held_back, lattice_loss, log_probabilities, token_and_duration_loss

DURATIONS = (0, 1, 2, 3, 4)


def by_hand(logits: Tensor, labels: list[int], frames: int, sigma: float) -> float:
    """All paths, one by one, in double precision; `logits` of shape ``(frames, labels + 1, columns)``."""
    blank = logits.shape[-1] - len(DURATIONS) - 1
    tokens = (logits[..., : blank + 1].double().log_softmax(-1) - sigma).exp().tolist()
    steps = logits[..., blank + 1 :].double().softmax(-1).tolist()

    @functools.cache
    def rest(t: int, u: int) -> float:
        if t >= frames:
            return float(t == frames and u == len(labels))
        total = 0.0
        for d, step in zip(DURATIONS, steps[t][u], strict=True):
            if d > 0:
                total += tokens[t][u][blank] * step * rest(t + d, u)
            if u < len(labels) and t + d < frames:
                total += tokens[t][u][labels[u]] * step * rest(t + d, u + 1)
        return total

    return -math.log(rest(0, 0))


def scores(batch: int, frames: int, labels: int, tokens: int, device: str = "cpu") -> Tensor:
    torch.manual_seed(3)
    return torch.randn(batch, frames, labels + 1, tokens + 1 + len(DURATIONS), device=device, requires_grad=True)


def test_is_the_sum_over_all_paths() -> None:
    logits = scores(3, 9, 5, 7)
    labels = torch.randint(0, 7, (3, 5))
    frames, lengths = torch.tensor([9, 7, 6]), torch.tensor([5, 3, 0])
    loss = token_and_duration_loss(logits, labels, frames, lengths, durations=DURATIONS, sigma=0.05)
    for row in range(3):
        said = labels[row, : lengths[row]].tolist()
        expected = by_hand(logits[row, :, : len(said) + 1].detach(), said, int(frames[row]), 0.05)
        assert loss[row].item() == pytest.approx(expected, rel=1e-5)


def test_labels_hardly_come_before_their_words_begin() -> None:
    logits, labels = scores(2, 9, 3, 7).detach(), torch.randint(0, 7, (2, 3))
    frames, lengths = torch.tensor([9, 7]), torch.tensor([3, 3])
    earliest = torch.tensor([[2.0, 2.0, 6.0], [0.0, 3.0, 3.0]])
    early = torch.arange(9)[None, :, None] < earliest[:, None]
    too_early: list[float] = []
    for bound in (torch.zeros(2, 3), earliest):
        blanks, written, steps = log_probabilities(logits, labels, len(DURATIONS), 0.0)
        written.requires_grad_()
        lattice_loss(blanks, held_back(written, bound), steps, frames, lengths).sum().backward()
        assert written.grad is not None
        probability = -written.grad
        assert probability.sum().item() == pytest.approx(6, rel=1e-4), "each label comes once"
        too_early.append(float((probability[..., :3] * early).sum()))
    assert too_early[0] > 2
    assert too_early[1] < too_early[0] / 5


def test_what_lies_behind_the_end_of_an_item_has_no_gradient() -> None:
    logits = scores(2, 8, 4, 6)
    loss = token_and_duration_loss(
        logits, torch.ones(2, 4, dtype=torch.int64), torch.tensor([8, 5]), torch.tensor([4, 2]), durations=DURATIONS
    )
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[1, 5:].abs().max() == 0
    assert logits.grad[1, :, 3:].abs().max() == 0
    assert logits.grad[1, :5, :3].abs().min() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel needs a GPU")
def test_the_kernel_gives_the_same_loss_and_gradients() -> None:
    for frames, labels, batch in ((40, 12, 5), (130, 70, 3), (7, 3, 4)):
        logits = scores(batch, frames, labels, 30, "cuda")
        said = torch.randint(0, 30, (batch, labels), device="cuda")
        lasting = torch.randint(frames // 2 + 1, frames + 1, (batch,), device="cuda")
        lengths = torch.randint(0, labels + 1, (batch,), device="cuda")
        results: list[tuple[Tensor, Tensor]] = []
        for kernel in (True, False):
            logits.grad = None
            loss = token_and_duration_loss(
                logits, said, lasting, lengths, durations=DURATIONS, sigma=0.02, kernel=kernel
            )
            loss.sum().backward()
            assert logits.grad is not None
            results.append((loss.detach(), logits.grad.clone()))
        (first, slope), (second, plain) = results
        print(
            f"kernel: {(first - second).abs().max():.1e} of {second.mean():.1f}, gradient {(slope - plain).abs().max():.1e}"
        )
        assert torch.allclose(first, second, rtol=1e-5, atol=1e-4)
        assert torch.allclose(slope, plain, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel needs a GPU")
def test_the_kernel_for_scores_of_16_bits_gives_the_same_loss_and_gradients() -> None:
    logits = (3 * scores(4, 60, 25, 512, "cuda")).detach().bfloat16().requires_grad_()
    said = torch.randint(0, 512, (4, 25), device="cuda")
    lasting, lengths = torch.tensor([60, 33, 41, 60], device="cuda"), torch.tensor([25, 9, 0, 14], device="cuda")
    results: list[tuple[Tensor, Tensor]] = []
    for kernel in (True, False):
        logits.grad = None
        loss = token_and_duration_loss(logits, said, lasting, lengths, durations=DURATIONS, sigma=0.02, kernel=kernel)
        loss.sum().backward()
        assert logits.grad is not None
        results.append((loss.detach(), logits.grad.float()))
    (first, slope), (second, plain) = results
    print(f"16 bits: {(first - second).abs().max():.1e}, gradient {(slope - plain).abs().max():.1e}")
    assert torch.allclose(first, second, rtol=1e-4)
    assert torch.allclose(slope, plain, atol=5e-3)
