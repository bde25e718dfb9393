import numpy as np
import pytest
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from parakeet_service.adapters.onnx.dense import Multiply, MultiplyInt8, multiply_float32, quantize, quantize_rows
from parakeet_service.adapters.onnx.graph import Graph
from parakeet_service.adapters.onnx.saturation import saturates

Floats = NDArray[np.float32]

INPUTS, OUTPUTS = 192, 80


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def weight(random: np.random.Generator) -> Floats:
    return random.normal(0, 0.1, (INPUTS, OUTPUTS)).astype(np.float32)


def product(multiply: Multiply, x: Floats, weight: Floats, *, least: float | None = None) -> Floats:
    graph = Graph(None)
    name = graph.input("x", np.float32, "batch", "frames", INPUTS)
    (y,) = multiply(graph, name, [weight], least=least)
    graph.output(y, "y", np.float32, "batch", "frames", OUTPUTS)
    session = InferenceSession(graph.model("product").SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"x": x})
    return found


def error(found: Floats, x: Floats, weight: Floats) -> float:
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    return float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean()))


def test_multiplies_in_float32(random: np.random.Generator, weight: Floats) -> None:
    x = random.normal(0, 1, (2, 9, INPUTS)).astype(np.float32)
    assert error(product(multiply_float32, x, weight), x, weight) < 1e-6


needs_exact_products = pytest.mark.skipif(saturates(), reason="this CPU cuts sums of 8-bit products off at 16 bits")


@pytest.mark.parametrize(("top", "bound"), [pytest.param(255, 0.012, marks=needs_exact_products), (127, 0.02)])
def test_int8_is_close(random: np.random.Generator, weight: Floats, top: int, bound: float) -> None:
    x = random.normal(0, 1, (2, 9, INPUTS)).astype(np.float32)
    assert error(product(MultiplyInt8(top), x, weight), x, weight) < bound


@pytest.mark.parametrize(("top", "bound"), [pytest.param(255, 0.012, marks=needs_exact_products), (127, 0.02)])
def test_int8_rounds_each_row_by_itself(random: np.random.Generator, weight: Floats, top: int, bound: float) -> None:
    loudness = np.array([1e-4, 1, 1e4], np.float32)[:, None, None]
    x = random.normal(0, 1, (3, 5, INPUTS)).astype(np.float32) * loudness

    found = product(MultiplyInt8(top), x, weight)

    for item in range(3):
        assert error(found[item], x[item], weight) < bound
        np.testing.assert_array_equal(product(MultiplyInt8(top), x[item : item + 1], weight)[0], found[item])


@pytest.mark.parametrize("least", [0.0, -0.25])
def test_a_known_least_value_halves_the_error_of_int8(
    random: np.random.Generator, weight: Floats, least: float
) -> None:
    # A weight without rounding error leaves that of the activations.
    exact = (np.rint(weight * 400).clip(-127, 127) / 400).astype(np.float32)
    exact[0] = 127 / 400
    x = random.exponential(1, (4, 9, INPUTS)).astype(np.float32) + np.float32(least)

    known = error(product(MultiplyInt8(), x, exact, least=least), x, exact)

    assert known < 0.6 * error(product(MultiplyInt8(), x, exact), x, exact)


def test_int8_makes_zeros_of_zeros(weight: Floats) -> None:
    zeros = np.zeros((1, 3, INPUTS), np.float32)
    for least in (None, 0.0):
        assert not product(MultiplyInt8(), zeros, weight, least=least).any()


@pytest.mark.parametrize("least", [None, 0.0])
def test_without_vnni_two_products_fit_into_16_bits(random: np.random.Generator, least: float | None) -> None:
    graph = Graph(None)
    name = graph.input("x", np.float32, "frames", INPUTS)
    rows = quantize_rows(graph, name, INPUTS, top=127, least=least)
    graph.output(rows.values, "values", np.uint8, "frames", INPUTS)
    session = InferenceSession(graph.model("rows").SerializeToString(), providers=["CPUExecutionProvider"])
    x = random.normal(0, 1, (9, INPUTS)).astype(np.float32)

    (values,) = session.run(["values"], {"x": x if least is None else np.abs(x)})

    assert int(values.max()) == 127
    assert 2 * int(values.max()) * 127 < 1 << 15


def test_weights_are_rounded_for_each_output(random: np.random.Generator) -> None:
    weight = (random.normal(0, 1, (50, 3)) * [1e-3, 1, 1e3]).astype(np.float32)
    weight[:, 1] = 0

    rounded, scales = quantize(weight)

    assert rounded.dtype == np.dtype(np.int8)
    assert scales.dtype == np.dtype(np.float32)
    assert [int(np.abs(rounded[:, output]).max()) for output in range(3)] == [127, 0, 127]
    assert (np.abs(rounded * scales - weight) <= scales * 0.501 + np.abs(weight) * 1e-6).all()
