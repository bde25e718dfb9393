"""What a pupil is to hear of a teacher: its features at the pupil's frames, and how far the pupil's are from them.

Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; Romero et al. 2015, "FitNets: Hints for Thin
Deep Nets", for layers within networks.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .features import HOP
from .network import SUBSAMPLING
from .teacher import FRAME

_SMOOTHED = 5
"""So many of the teacher's frames make up for one of the pupil's, which is four times as long."""


def at_frames(features: Tensor, frames: int, hop: int = HOP) -> tuple[Tensor, Tensor]:
    """The teacher's features where the pupil's frames are.

    Args:
        features: ``(batch, frames of the teacher, numbers)``.
        frames: How many the pupil has.
        hop: Samples from one of the pupil's feature frames to the next.

    Returns:
        ``(batch, frames, numbers)``, and ``(batch, frames)``: whether the teacher heard so far.
    """
    heard = features.shape[1]
    place = (torch.arange(frames, device=features.device) * (hop * SUBSAMPLING / FRAME)).round().long()
    smooth = functional.avg_pool1d(
        features.transpose(1, 2), _SMOOTHED, stride=1, padding=_SMOOTHED // 2, count_include_pad=False
    ).transpose(1, 2)
    return smooth[:, place.clamp(max=heard - 1)], (place < heard).expand(len(features), -1)


def distance(own: Tensor, features: Tensor, keep: Tensor) -> Tensor:
    """Mean square of the difference to the teacher's features, each of whose numbers counts alike.

    Args:
        own: ``(batch, frames, numbers)``.
        features: The same of the teacher, of any scale: over the batch each number is given mean 0 and variance 1. To
            guess nothing but the mean costs 1.
        keep: ``(batch, frames)``, which frames count.
    """
    inside, number = keep[:, :, None], keep.sum().clamp(min=1)
    features = features.float()
    mean = (features * inside).sum((0, 1)) / number
    variance = ((features - mean).square() * inside).sum((0, 1)) / number
    wanted = (features - mean) * torch.rsqrt(variance + 1e-5)
    return ((own.float() - wanted).square().mean(2) * keep).sum() / number
