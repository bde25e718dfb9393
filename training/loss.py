"""The loss of a token-and-duration transducer.

Source: Xu et al. 2023, "Efficient Sequence Transduction by Jointly Predicting Tokens and Durations", section 3. A
blank takes at least one frame; a label may take none. The last step must end exactly behind the last frame.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_IMPOSSIBLE = -1e30
_TOO_EARLY = 5.0
_KERNELS: dict[int, Any] = {}


def token_and_duration_loss(
    logits: Tensor,
    labels: Tensor,
    frames: Tensor,
    lengths: Tensor,
    *,
    durations: tuple[int, ...],
    sigma: float = 0.0,
    earliest: Tensor | None = None,
    kernel: bool | None = None,
) -> Tensor:
    """Negative logarithm of the probability of each item's labels.

    Args:
        logits: ``(batch, frames, labels + 1, tokens + 1 + durations)``; the blank is the last token.
        labels: ``(batch, labels)``, any valid token behind the end of an item.
        frames: Frames of each item.
        lengths: Labels of each item.
        durations: What the last columns of `logits` mean, in frames, ``0, 1, ...`` without gaps.
        sigma: Taken off each token's log-probability, so that long steps are preferred.
        earliest: ``(batch, labels)``, the frame before which a label should not come: its log-probability is less by
            5 there. Otherwise a model that sees the future writes words before they are spoken.
        kernel: Use the CUDA kernels; by default where there is a GPU.

    Returns:
        Shape ``(batch,)``, float32. Infinite, in effect, where there are more steps to take than frames.
    """
    on_gpu = kernel if kernel is not None else logits.is_cuda
    if on_gpu and logits.dtype == torch.bfloat16:
        blanks, written, steps = _LogProbabilities.apply(logits, labels, len(durations), sigma)
    else:
        blanks, written, steps = log_probabilities(logits, labels, len(durations), sigma)
    if earliest is not None:
        written = held_back(written, earliest)
    if on_gpu:
        return _Lattice.apply(blanks, written, steps, frames, lengths)
    return lattice_loss(blanks, written, steps, frames, lengths)


def log_probabilities(logits: Tensor, labels: Tensor, durations: int, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """What the lattice needs of the scores: of the blank, of the next label, and of each duration; see `lattice_loss`."""
    blank = logits.shape[-1] - durations - 1
    tokens = logits[..., : blank + 1].float()
    total = tokens.logsumexp(-1) + sigma
    wanted = torch.nn.functional.pad(labels, (0, 1))[:, None, :, None].expand(*tokens.shape[:3], 1)
    written = tokens.gather(-1, wanted)[..., 0] - total
    return tokens[..., blank] - total, written, logits[..., blank + 1 :].float().log_softmax(-1)


def held_back(written: Tensor, earliest: Tensor) -> Tensor:
    """The log-probability of the next label, less where it would be too early."""
    frame = torch.arange(written.shape[1], device=written.device)
    early = frame[None, :, None] < torch.nn.functional.pad(earliest, (0, 1))[:, None]
    return written - _TOO_EARLY * early


def lattice_loss(blanks: Tensor, written: Tensor, steps: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """The sum over all paths, one anti-diagonal after the other, in plain PyTorch.

    Args:
        blanks: ``(batch, frames, labels + 1)``, log-probability of the blank.
        written: The same shape, log-probability of the next label; anything where there is none.
        steps: ``(batch, frames, labels + 1, durations)``, log-probability of each duration.
        frames: Frames of each item.
        lengths: Labels of each item.
    """
    batch, most_frames, states = blanks.shape
    longest = steps.shape[3] - 1
    device = blanks.device
    rows = torch.arange(states, device=device)
    nothing = torch.full((batch, states), _IMPOSSIBLE, device=device)
    first = nothing.clone()
    first[:, 0] = 0
    # Column u of diagonal k is the place (k - u, u).
    diagonals = [first]
    ends = [torch.full((batch,), _IMPOSSIBLE, device=device)]
    for k in range(1, most_frames + states):
        terms: list[Tensor] = []
        for d in range(longest + 1):
            for label in (True, False):
                back = d + 1 if label else d
                if back == 0 or back > k:
                    continue
                earlier = diagonals[k - back]
                time = k - rows - d
                inside = (time >= 0) & (time < most_frames)
                at = time.clamp(0, most_frames - 1)
                if label:
                    source = (rows - 1).clamp(min=0)
                    score = earlier[:, source] + written[:, at, source] + steps[:, at, source, d]
                    inside = inside & (rows > 0)
                else:
                    score = earlier + blanks[:, at, rows] + steps[:, at, rows, d]
                terms.append(torch.where(inside, score, nothing))
        diagonal = torch.stack(terms).logsumexp(0)
        diagonals.append(torch.where((k - rows >= 0) & (k - rows < most_frames), diagonal, nothing))
    # Only a blank may end: what leaves from (T - d, U).
    stacked = torch.stack(diagonals, dim=1)
    chosen = torch.arange(batch, device=device)
    for d in range(1, longest + 1):
        time = frames - d
        at = time.clamp(min=0)
        reached = stacked[chosen, at + lengths, lengths]
        score = reached + blanks[chosen, at, lengths] + steps[chosen, at, lengths, d]
        ends.append(torch.where(time >= 0, score, torch.full_like(score, _IMPOSSIBLE)))
    return -torch.stack(ends).logsumexp(0)


class _LogProbabilities(torch.autograd.Function):
    """`log_probabilities` of scores in bfloat16 by a CUDA kernel, which reads them once and writes no copies of them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, durations: int, sigma: float) -> tuple[Tensor, ...]:
        logits, labels = logits.contiguous(), labels.contiguous()
        places = logits.shape[:3]
        blanks, written, totals = (torch.empty(places, device=logits.device) for _ in range(3))
        steps = torch.empty(*places, durations, device=logits.device)
        ctx.sizes = [places.numel(), places[1], places[2], logits.shape[3] - durations, durations]
        _launch(
            "log_probabilities",
            places.numel() // 8 + 1,
            256,
            [logits, labels, blanks, written, steps, totals],
            ctx.sizes,
        )
        ctx.save_for_backward(logits, labels, steps, totals)
        return blanks - sigma, written - sigma, steps

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, steps, totals = ctx.saved_tensors
        slope = torch.empty_like(logits)
        given = [item.contiguous() for item in upstream]
        tensors = [logits, labels, steps, totals, *given, slope]
        _launch("log_probabilities_backward", ctx.sizes[0] // 8 + 1, 256, tensors, ctx.sizes)
        return slope, None, None, None


class _Lattice(torch.autograd.Function):
    """The same sum by a CUDA kernel: a block an utterance, a thread a label; gradients by the backward variable."""

    @staticmethod
    def forward(ctx: Any, blanks: Tensor, written: Tensor, steps: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
        blanks, written, steps = blanks.contiguous(), written.contiguous(), steps.contiguous()
        batch, most_frames, states = blanks.shape
        alpha, beta = torch.empty_like(blanks), torch.empty_like(blanks)
        loss = torch.empty(batch, device=blanks.device)
        gradients = [torch.zeros_like(item) for item in (blanks, written, steps)]
        sizes = torch.stack([frames, lengths]).to(blanks.device, torch.int32)
        threads = 32 * ((states + 31) // 32)
        if threads > 1024:
            raise ValueError(f"{states - 1} labels in one utterance are too many: at most 1023")
        tensors = [blanks, written, steps, sizes, alpha, beta, loss, *gradients]
        _launch("lattice", batch, threads, tensors, [batch, most_frames, states, steps.shape[3]])
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = upstream
        first, second, third = ctx.saved_tensors
        scale = given[:, None, None]
        return first * scale, second * scale, third * scale[..., None], None, None


def _launch(name: str, blocks: int, threads: int, tensors: list[Tensor], sizes: list[int]) -> None:
    import cupy  # noqa: PLC0415 - only where there is a GPU

    device = torch.cuda.current_device()
    with cupy.cuda.Device(device), cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
        if device not in _KERNELS:
            source = (Path(__file__).parent / "loss.cu").read_text(encoding="utf-8")
            _KERNELS[device] = cupy.RawModule(code=source)
        arguments = [cupy.uint64(item.data_ptr()) for item in tensors] + [cupy.int32(item) for item in sizes]
        _KERNELS[device].get_function(name)((blocks,), (threads,), tuple(arguments))
