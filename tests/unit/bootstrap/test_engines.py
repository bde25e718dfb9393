from dataclasses import replace
from typing import Any

import pytest

from parakeet_service.bootstrap.engines import (
    ChosenEngine,
    Machine,
    advice,
    blocks_heard,
    chosen_engine,
    vad_processes,
)
from parakeet_service.config.settings import Settings
from parakeet_service.domain.errors import ModelLoadError

GPU = Machine(has_mlx=True, has_gpu=True)
LINUX = Machine(has_mlx=True, has_gpu=False)
WITHOUT_MLX = Machine(has_mlx=False, has_gpu=False)


def chosen(machine: Machine, **settings: Any) -> ChosenEngine:
    return chosen_engine(Settings(**settings), machine)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (GPU, ChosenEngine("mlx", "bf16", on_gpu=True)),
        (LINUX, ChosenEngine("onnx", "int8")),
        (WITHOUT_MLX, ChosenEngine("onnx", "int8")),
    ],
)
def test_takes_what_suits_the_machine(machine: Machine, expected: ChosenEngine) -> None:
    assert chosen(machine) == expected


@pytest.mark.parametrize("precision", ["bf16", "fp32", "int8"])
def test_takes_the_precision_that_is_asked_for(precision: str) -> None:
    for machine in (GPU, LINUX, WITHOUT_MLX):
        assert chosen(machine, model_precision=precision).precision == precision


def test_takes_the_engine_that_is_asked_for() -> None:
    assert chosen(GPU, engine="onnx") == ChosenEngine("onnx", "int8")
    assert chosen(LINUX, engine="mlx") == ChosenEngine("mlx", "bf16")


def test_four_bits_need_mlx() -> None:
    assert chosen(LINUX, model_precision="int4") == ChosenEngine("mlx", "int4")
    for machine, engine in ((WITHOUT_MLX, "auto"), (LINUX, "onnx")):
        with pytest.raises(ModelLoadError, match="MODEL_PRECISION: int4"):
            chosen(machine, engine=engine, model_precision="int4")
    with pytest.raises(ModelLoadError, match=r"parakeet-service\[mlx\]"):
        chosen(WITHOUT_MLX, model_precision="int4")


def test_says_that_mlx_is_not_there() -> None:
    with pytest.raises(ModelLoadError, match=r"ENGINE: MLX is not installed.*parakeet-service\[mlx\]"):
        chosen(WITHOUT_MLX, engine="mlx")


def test_says_which_provider_is_not_there() -> None:
    with pytest.raises(ModelLoadError, match=r"ONNX_PROVIDERS: .*no NoSuchProvider"):
        chosen(LINUX, engine="onnx", onnx_providers="NoSuchProvider,CPUExecutionProvider")


@pytest.mark.parametrize(("cores", "expected"), [(2, 0), (3, 0), (4, 1), (16, 4), (64, 4)])
def test_an_nvidia_gpu_gets_detector_processes_where_there_are_cores(cores: int, expected: int) -> None:
    nvidia = Machine(has_mlx=True, has_gpu=True, has_cuda=True, cores=cores)
    assert vad_processes(Settings(), nvidia) == expected
    assert vad_processes(Settings(engine="onnx"), nvidia) == 0


def test_cpus_and_apples_gpus_get_no_detector_processes_unless_asked() -> None:
    for machine in (Machine(has_mlx=True, has_gpu=True, cores=16), Machine(has_mlx=True, has_gpu=False, cores=16)):
        assert vad_processes(Settings(), machine) == 0
        assert vad_processes(Settings(vad_processes=3), machine) == 3


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (7, 1), (8, 2), (16, 4), (64, 4)])
def test_blocks_are_heard_at_once_where_there_are_cores(cores: int, expected: int) -> None:
    assert blocks_heard(cores) == expected


@pytest.mark.parametrize(("cores", "processes"), [(8, 4), (16, 8), (64, 8)])
def test_says_what_more_processes_would_gain(cores: int, processes: int) -> None:
    nvidia = Machine(has_mlx=True, has_gpu=True, has_cuda=True, cores=cores)
    for settings in (Settings(), Settings(cluster="ray")):
        assert f"HTTP_PROCESSES={processes} " in (advice(settings, nvidia) or "")


def test_says_nothing_of_more_processes_where_they_would_not_help_or_not_be_allowed() -> None:
    nvidia = Machine(has_mlx=True, has_gpu=True, has_cuda=True, cores=16)
    for settings in (
        Settings(http_processes=8),
        Settings(mcp=True),
        Settings(engine="onnx"),
    ):
        assert advice(settings, nvidia) is None
    for machine in (GPU, LINUX, WITHOUT_MLX, replace(GPU, cores=16), replace(nvidia, cores=7)):
        assert advice(Settings(), machine) is None
