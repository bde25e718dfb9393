"""What a checkpoint must hold beside what parakeet-mlx checks itself."""

import math
from typing import cast

import mlx.core as mx
from mlx.nn.layers.base import Module  # pyright: ignore[reportMissingTypeStubs]
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType]
from parakeet_mlx.parakeet import BaseParakeet


class UnsupportedModelError(Exception):
    """A checkpoint that parakeet-mlx takes and we do not; the message says what in it."""


def require_usable_features(model: BaseParakeet) -> None:
    """Check the numbers from which the features are computed.

    Raises:
        UnsupportedModelError: One of them makes no sense.
    """
    args = model.preprocessor_config
    if not (math.isfinite(args.window_stride) and args.hop_length > 0):
        raise UnsupportedModelError(f"window_stride of {args.window_stride} s")
    if not (math.isfinite(args.window_size) and 0 < args.win_length <= args.n_fft):
        raise UnsupportedModelError(f"window_size of {args.window_size} s with n_fft {args.n_fft}")
    if args.features != model.encoder_config.feat_in:
        raise UnsupportedModelError(f"{args.features} features, and an encoder of {model.encoder_config.feat_in}")


def require_finite(name: str, module: Module) -> None:
    """Check the weights of a module; it should be a small one.

    Raises:
        UnsupportedModelError: Some are not finite.
    """
    weights = cast("list[tuple[str, mx.array]]", tree_flatten(module.parameters()))  # type: ignore[no-untyped-call]
    if not all(mx.all(mx.isfinite(weight)).item() for _, weight in weights):
        raise UnsupportedModelError(f"weights of the {name} that are not finite")
