from copy import deepcopy
from typing import Any

import pytest

from parakeet_service.adapters.onnx.architecture import architecture_of
from parakeet_service.domain.errors import ModelLoadError

RNNT = "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel"
HYBRID = "nemo.collections.asr.models.hybrid_rnnt_ctc_bpe_models.EncDecHybridRNNTCTCBPEModel"
CTC = "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"
CONFIG: dict[str, Any] = {
    "target": RNNT,
    "model_defaults": {"tdt_durations": [0, 1, 2]},
    "preprocessor": {
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": 80,
        "n_fft": 512,
        "dither": 1e-5,
    },
    "encoder": {
        "feat_in": 80,
        "n_layers": 2,
        "d_model": 64,
        "n_heads": 4,
        "ff_expansion_factor": 4,
        "subsampling_factor": 8,
        "self_attention_model": "rel_pos",
        "subsampling": "dw_striding",
        "conv_kernel_size": 9,
        "subsampling_conv_channels": 32,
        "pos_emb_max_len": 5000,
        "att_context_size": [-1, -1],
    },
    "decoder": {
        "blank_as_pad": True,
        "vocab_size": 3,
        "prednet": {"pred_hidden": 16, "pred_rnn_layers": 2},
        "vocabulary": ["a", "b"],
    },
    "joint": {
        "vocabulary": ["x", "y", "z"],
        "jointnet": {"joint_hidden": 24, "activation": "ReLU", "encoder_hidden": 64, "pred_hidden": 16},
    },
    "decoding": {"model_type": "tdt", "durations": [0, 1, 2], "greedy": {"max_symbols": 7}},
}


def changed(path: str, value: object) -> dict[str, Any]:
    config = deepcopy(CONFIG)
    *parents, name = path.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[name] = value
    return config


def test_reads_a_tdt_model() -> None:
    architecture = architecture_of("m", CONFIG)

    assert (architecture.kind, architecture.vocabulary, architecture.blank) == ("tdt", ("x", "y", "z"), 3)
    assert architecture.frame_s == pytest.approx(0.08)
    transducer = architecture.transducer
    assert transducer is not None
    assert (transducer.embeddings, transducer.width, transducer.layers) == (4, 16, 2)
    assert (transducer.activation, transducer.durations, transducer.max_symbols) == ("relu", (0, 1, 2), 7)


def test_reads_a_plain_transducer() -> None:
    architecture = architecture_of("m", changed("model_defaults", {}))

    assert architecture.kind == "rnnt"
    assert architecture.transducer is not None
    assert architecture.transducer.durations == ()


def test_reads_the_transducer_of_a_hybrid_model() -> None:
    assert architecture_of("m", changed("target", HYBRID)).kind == "tdt"


def test_reads_a_ctc_model() -> None:
    architecture = architecture_of("m", changed("target", CTC))

    assert (architecture.kind, architecture.vocabulary, architecture.transducer) == ("ctc", ("a", "b"), None)


def test_limits_the_tokens_in_one_place_where_the_checkpoint_does_not() -> None:
    transducer = architecture_of("m", changed("decoding.greedy", None)).transducer

    assert transducer is not None
    assert transducer.max_symbols == 10


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("target", "nemo.collections.asr.models.EncDecRNNTBPEModelWithPrompt"),
        ("preprocessor.normalize", "NA"),
        ("encoder.subsampling", "striding"),
        ("encoder.causal_downsampling", True),
        ("encoder.subsampling_factor", 1),
        ("encoder.self_attention_model", "rel_pos_local_attn"),
        ("encoder.att_context_size", [[70, 13], [70, 0]]),
        ("encoder.att_context_size", [70, 13]),
        ("encoder.conv_norm_type", "layer_norm"),
        ("encoder.conv_context_size", "causal"),
        ("encoder.conv_kernel_size", 8),
        ("joint.jointnet.activation", "gelu"),
    ],
)
def test_refuses_by_its_name_what_it_does_not_compute(path: str, value: object) -> None:
    with pytest.raises(ModelLoadError, match=rf"\bm\b.*{path.rpartition('.')[2]}"):
        architecture_of("m", changed(path, value))


@pytest.mark.parametrize("path", ["preprocessor", "encoder", "decoder", "joint", "decoding"])
def test_says_that_a_configuration_is_incomplete(path: str) -> None:
    with pytest.raises(ModelLoadError, match="incomplete"):
        architecture_of("m", changed(path, {}))
