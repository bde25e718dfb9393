"""The graphs that a transducer's decoder runs step by step: the prediction network and the joint network."""

import numpy as np

from .architecture import Architecture, TransducerArgs
from .dense import Floats, Multiply
from .graph import Graph
from .layers import Layers
from .tensors import CheckpointTensors

_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def add_prediction(graph: Graph, architecture: Architecture, tensors: CheckpointTensors, multiply: Multiply) -> None:
    """Add one step of the prediction network to an empty graph, for any number of utterances.

    Inputs are ``last`` (the last token of each, or the blank before the first; ``(utterances,)``, int64), ``hidden``
    and ``cell`` (the LSTM's state before that token; ``(layers, utterances, width)``). Outputs are ``predicted``, as the
    joint network takes it, ``(utterances, joint width)``, and ``next_hidden`` and ``next_cell``.

    Raises:
        ModelLoadError: A tensor is missing, or is not what the architecture asks for.
    """
    args = _transducer(architecture)
    layers = Layers(graph, tensors, multiply)
    shape = (args.layers, "utterances", args.width)
    last = graph.input("last", np.int64, "utterances")
    hiddens, cells = (_split(graph, graph.input(name, np.float32, *shape), args.layers) for name in ("hidden", "cell"))
    x = ""
    next_hiddens: list[str] = []
    next_cells: list[str] = []
    for number in range(args.layers):
        name = f"decoder.prediction.dec_rnn.lstm.{number}"
        by_hidden = layers.tensors.read(f"{name}.Wh", 4 * args.width, args.width).T
        if number == 0:
            (gates,) = multiply(graph, hiddens[0], [by_hidden])
            table = graph.constant(_embedded(architecture, args, tensors))
            gates = graph.add("Add", gates, graph.add("Gather", table, last))
        else:
            both = np.concatenate([tensors.read(f"{name}.Wx", 4 * args.width, args.width).T, by_hidden])
            (gates,) = multiply(graph, graph.add("Concat", x, hiddens[number], axis=1), [both])
            gates = layers.add_bias(gates, tensors.read(f"{name}.bias", 4 * args.width))
        x, cell = _lstm(graph, gates, cells[number])
        next_hiddens.append(x)
        next_cells.append(cell)
    predicted = layers.dense(x, "joint.pred", args.width, args.joint_width, bias=True)
    graph.output(predicted, "predicted", np.float32, "utterances", args.joint_width)
    for name, states in (("next_hidden", next_hiddens), ("next_cell", next_cells)):
        stacked = [graph.add("Unsqueeze", state, graph.integers(0)) for state in states]
        graph.output(graph.add("Concat", *stacked, axis=0), name, np.float32, *shape)


def add_joint(graph: Graph, architecture: Architecture, tensors: CheckpointTensors, multiply: Multiply) -> None:
    """Add the joint network to an empty graph, for any number of utterances.

    Inputs are ``frames`` (encoded) and ``predicted``, each ``(utterances, joint width)``. The output is ``logits``: those
    of the vocabulary, the blank, and the durations.

    Raises:
        ModelLoadError: A tensor is missing, or is not what the architecture asks for.
    """
    args = _transducer(architecture)
    layers = Layers(graph, tensors, multiply)
    frames, predicted = (graph.input(n, np.float32, "utterances", args.joint_width) for n in ("frames", "predicted"))
    x = graph.add(_ACTIVATIONS[args.activation], graph.add("Add", frames, predicted))
    outputs = architecture.blank + 1 + len(args.durations)
    least = 0.0 if args.activation == "relu" else None
    logits = layers.dense(x, "joint.joint_net.2", args.joint_width, outputs, bias=True, least=least)
    graph.output(logits, "logits", np.float32, "utterances", outputs)


def _transducer(architecture: Architecture) -> TransducerArgs:
    if architecture.transducer is None:
        raise ValueError("CTC models have neither a prediction nor a joint network")
    return architecture.transducer


def _embedded(architecture: Architecture, args: TransducerArgs, tensors: CheckpointTensors) -> Floats:
    """What each token adds to the gates of the first layer: its embedding times the layer's weights, and the bias."""
    name = "decoder.prediction.dec_rnn.lstm.0"
    bias = tensors.read(f"{name}.bias", 4 * args.width)
    embeddings = tensors.read("decoder.prediction.embed.weight", args.embeddings, args.embedding_width)
    table = np.empty((architecture.blank + 1, 4 * args.width), np.float32)
    by_input = tensors.read(f"{name}.Wx", 4 * args.width, args.embedding_width).T
    table[: architecture.blank] = embeddings[: architecture.blank] @ by_input + bias
    # Before the first token the network sees zeros, whatever the blank's embedding holds.
    table[architecture.blank] = bias
    return table


def _lstm(graph: Graph, gates: str, cell: str) -> tuple[str, str]:
    """The new hidden state and cell, from the sum of what input and state give to the gates."""
    enter, forget, candidate, leave = graph.add_many("Split", 4, gates, axis=-1, num_outputs=4)
    kept = graph.add("Mul", graph.add("Sigmoid", forget), cell)
    added = graph.add("Mul", graph.add("Sigmoid", enter), graph.add("Tanh", candidate))
    cell = graph.add("Add", kept, added)
    return graph.add("Mul", graph.add("Sigmoid", leave), graph.add("Tanh", cell)), cell


def _split(graph: Graph, stacked: str, count: int) -> list[str]:
    parts = graph.add_many("Split", count, stacked, axis=0, num_outputs=count)
    return [graph.add("Squeeze", part, graph.integers(0)) for part in parts]
