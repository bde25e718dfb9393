"""What a checkpoint's ``config.json`` says of its model, as far as this engine needs it; the rest is refused by name."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from dacite import Config, DaciteError, from_dict

from ...domain.errors import ModelLoadError

Kind: TypeAlias = Literal["tdt", "rnnt", "ctc"]

_TARGETS: Mapping[str, Kind] = {
    "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel": "rnnt",
    "nemo.collections.asr.models.hybrid_rnnt_ctc_bpe_models.EncDecHybridRNNTCTCBPEModel": "rnnt",
    "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE": "ctc",
}
_UNLIMITED = ([-1, -1], None)


@dataclass(frozen=True, slots=True)
class FeatureArgs:
    """How log-mel features are made; names are NeMo's, times in seconds."""

    sample_rate: int
    window_size: float
    window_stride: float
    window: str
    features: int
    n_fft: int
    normalize: str
    preemph: float | None = 0.97
    mag_power: float = 2.0

    @property
    def win_length(self) -> int:
        """Samples of a frame's window."""
        return int(self.window_size * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(self.window_stride * self.sample_rate)


@dataclass(frozen=True, slots=True)
class EncoderArgs:
    """The FastConformer's sizes; names are NeMo's."""

    feat_in: int
    n_layers: int
    d_model: int
    n_heads: int
    ff_expansion_factor: int
    subsampling_factor: int
    subsampling_conv_channels: int
    conv_kernel_size: int
    subsampling: str
    self_attention_model: str
    pos_emb_max_len: int = 5000
    use_bias: bool = True
    xscaling: bool = False
    causal_downsampling: bool = False
    att_context_size: Any = None
    conv_norm_type: str = "batch_norm"
    conv_norm: str = "batch_norm"
    conv_context_size: Any = None

    @property
    def stages(self) -> int:
        """Convolutions that each halve the number of frames."""
        return self.subsampling_factor.bit_length() - 1


@dataclass(frozen=True, slots=True)
class TransducerArgs:
    """The prediction and joint networks' sizes.

    Attributes:
        embeddings: Tokens that have one.
        embedding_width: Of the tokens' embeddings.
        width: Of the LSTM's state.
        layers: Of the LSTM.
        joint_width: Of the joint network's hidden layer.
        activation: Of the joint network: ``relu``, ``sigmoid`` or ``tanh``.
        durations: Frames that each output of the duration head stands for; none for a plain transducer.
        max_symbols: Tokens in one place after which decoding moves on.
    """

    embeddings: int
    embedding_width: int
    width: int
    layers: int
    joint_width: int
    activation: str
    durations: tuple[int, ...]
    max_symbols: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """One member of the Parakeet family. `transducer` is ``None`` for CTC."""

    kind: Kind
    features: FeatureArgs
    encoder: EncoderArgs
    vocabulary: tuple[str, ...] = field(repr=False)
    transducer: TransducerArgs | None

    @property
    def blank(self) -> int:
        """The blank's index: it follows the vocabulary."""
        return len(self.vocabulary)

    @property
    def frame_s(self) -> float:
        """Seconds from one encoder frame to the next."""
        return self.encoder.subsampling_factor / self.features.sample_rate * self.features.hop_length


def architecture_of(model_id: str, config: Mapping[str, Any]) -> Architecture:
    """Read a NeMo-style configuration.

    Raises:
        ModelLoadError: It describes something that this engine does not compute; the message names the field.
    """
    target = str(config.get("target"))
    if target not in _TARGETS:
        raise ModelLoadError(
            f"{model_id!r} is not a Parakeet model that can be used: target = {target!r} is not supported."
        )
    try:
        features = from_dict(FeatureArgs, config["preprocessor"])
        encoder = from_dict(EncoderArgs, config["encoder"], Config(type_hooks={bool: bool}))
        _check(model_id, features, encoder)
        if _TARGETS[target] == "ctc":
            return Architecture("ctc", features, encoder, tuple(config["decoder"]["vocabulary"]), None)
        transducer = _transducer(config)
        vocabulary = tuple(config["joint"]["vocabulary"])
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, DaciteError) as error:
        raise ModelLoadError(f"the configuration of {model_id} is incomplete: {error!r}") from error
    _allow(model_id, "joint.jointnet.activation", transducer.activation, ("relu", "sigmoid", "tanh"))
    return Architecture("tdt" if transducer.durations else "rnnt", features, encoder, vocabulary, transducer)


def _transducer(config: Mapping[str, Any]) -> TransducerArgs:
    prednet, jointnet = config["decoder"]["prednet"], config["joint"]["jointnet"]
    defaults: Mapping[str, Any] = config.get("model_defaults") or {}
    greedy: Mapping[str, Any] = config["decoding"].get("greedy") or {}
    has_durations = defaults.get("tdt_durations") is not None
    return TransducerArgs(
        embeddings=int(config["decoder"]["vocab_size"]) + bool(config["decoder"]["blank_as_pad"]),
        embedding_width=int(prednet["pred_hidden"]),
        width=int(prednet.get("rnn_hidden_size") or prednet["pred_hidden"]),
        layers=int(prednet["pred_rnn_layers"]),
        joint_width=int(jointnet["joint_hidden"]),
        activation=str(jointnet["activation"]).lower(),
        durations=tuple(int(frames) for frames in config["decoding"]["durations"]) if has_durations else (),
        # Without a limit a checkpoint whose duration head says 0 again and again would never end.
        max_symbols=int(greedy.get("max_symbols") or 10),
    )


def _check(model_id: str, features: FeatureArgs, encoder: EncoderArgs) -> None:
    _allow(model_id, "preprocessor.features", features.features, (encoder.feat_in,))
    _allow(
        model_id,
        "preprocessor.window_size",
        features.window_size,
        [features.window_size] if 0 < features.win_length <= features.n_fft else (),
    )
    _allow(
        model_id,
        "preprocessor.window_stride",
        features.window_stride,
        [features.window_stride] if features.hop_length > 0 else (),
    )
    _allow(model_id, "preprocessor.normalize", features.normalize, ("per_feature", "all_features"))
    _allow(
        model_id,
        "encoder.n_heads",
        encoder.n_heads,
        [n for n in range(1, encoder.d_model + 1) if encoder.d_model % n == 0],
    )
    _allow(model_id, "encoder.subsampling", encoder.subsampling, ("dw_striding",))
    _allow(model_id, "encoder.causal_downsampling", encoder.causal_downsampling, (False,))
    _allow(model_id, "encoder.subsampling_factor", encoder.subsampling_factor, (2, 4, 8, 16))
    _allow(model_id, "encoder.self_attention_model", encoder.self_attention_model, ("rel_pos",))
    _allow(model_id, "encoder.att_context_size", encoder.att_context_size, _UNLIMITED)
    _allow(model_id, "encoder.conv_norm_type", encoder.conv_norm_type, ("batch_norm",))
    _allow(model_id, "encoder.conv_norm", encoder.conv_norm, ("batch_norm",))
    _allow(model_id, "encoder.conv_context_size", encoder.conv_context_size, (None,))
    _allow(model_id, "encoder.conv_kernel_size", encoder.conv_kernel_size, range(1, 64, 2))


def _allow(model_id: str, name: str, value: object, allowed: Container[object]) -> None:
    if value not in allowed:
        raise ModelLoadError(f"{model_id} has {name} = {value!r}, which this engine does not support.")
