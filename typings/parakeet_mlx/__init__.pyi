# The part of parakeet-mlx 0.7 that this project uses; the package itself has no py.typed.
from parakeet_mlx.parakeet import ParakeetCTC as ParakeetCTC
from parakeet_mlx.parakeet import ParakeetRNNT as ParakeetRNNT
from parakeet_mlx.parakeet import ParakeetTDT as ParakeetTDT
from parakeet_mlx.parakeet import ParakeetTDTCTC as ParakeetTDTCTC
from parakeet_mlx.utils import from_pretrained as from_pretrained
