import mlx.core as mx

class PreprocessArgs:
    sample_rate: int
    features: int
    n_fft: int
    normalize: str
    window_size: float
    window_stride: float
    window: str
    preemph: float | None
    mag_power: float
    @property
    def win_length(self) -> int: ...
    @property
    def hop_length(self) -> int: ...

def get_logmel(x: mx.array, args: PreprocessArgs) -> mx.array: ...
