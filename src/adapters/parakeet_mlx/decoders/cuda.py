"""Greedy decoding on NVIDIA GPUs, in one kernel: the loop over the tokens runs on the device and waits for nobody.

Put together from MLX's operations, a step is some twenty kernels, and starting them takes longer than their work.
Here a few thread blocks share an utterance: each computes its part of every product, and they meet at a barrier.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import cast

import mlx.core as mx
import numpy as np
from mlx.nn.layers.activations import ReLU, Sigmoid, Tanh  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from ..arrays import Floats, floats, integers
from .transducer import Decoded, DecoderState, Emission, Stretch, Transducer, durations_of, most_repeats_of

_THREADS = 512
_MULTIPROCESSOR_COUNT = 16
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT of cuda.h."""
_MOST_PER_UTTERANCE = 16
_APART = 32
"""Each utterance's counter has a cache line of its own. MLX keeps the smallest arrays in memory shared with the host,
where it takes twenty times as long to meet at one."""
_LANES = 8
"""Numbers that a thread loads at once: the widths of the model must be multiples of it."""
_ACTIVATIONS: dict[type, int] = {ReLU: 0, Sigmoid: 1, Tanh: 2}

_HEADER = r"""
__device__ inline void unpack(const __nv_bfloat16* at, float* to) {
  uint4 raw = *reinterpret_cast<const uint4*>(at);
  const __nv_bfloat162* pairs = reinterpret_cast<const __nv_bfloat162*>(&raw);
  #pragma unroll
  for (int i = 0; i < 4; i++) { float2 pair = __bfloat1622float2(pairs[i]); to[2 * i] = pair.x; to[2 * i + 1] = pair.y; }
}
__device__ inline void unpack(const float* at, float* to) {
  const float4* quads = reinterpret_cast<const float4*>(at);
  float4 a = quads[0], b = quads[1];
  to[0] = a.x; to[1] = a.y; to[2] = a.z; to[3] = a.w; to[4] = b.x; to[5] = b.y; to[6] = b.z; to[7] = b.w;
}

__device__ inline float over_warp(float sum) {
  #pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffff, sum, offset);
  return sum;
}

// A lane's part of four dot products of length N with the same vector. All loads are independent and can be under way
// at once: waiting for memory is what this kernel does most.
template <int N, typename T>
__device__ inline void dots(const T* a, const T* b, const T* c, const T* d, const float* vector, int lane, float* sums) {
  #pragma unroll
  for (int part = 0; part < (N + 255) / 256; part++) {
    const int k = part * 256 + lane * 8;
    if ((part + 1) * 256 <= N || k < N) {
      float v[8], w[4][8];
      unpack(a + k, w[0]); unpack(b + k, w[1]); unpack(c + k, w[2]); unpack(d + k, w[3]);
      unpack(vector + k, v);
      #pragma unroll
      for (int r = 0; r < 4; r++) {
        #pragma unroll
        for (int i = 0; i < 8; i++) sums[r] = fmaf(w[r][i], v[i], sums[r]);
      }
    }
  }
}

// y = W x + bias, for every rows_apart-th of COUNT rows from `first` on.
template <int COUNT, int N, typename T>
__device__ inline void multiply(
    const T* weights, const float* bias, const float* x, float* y, int first, int rows_apart, int lane) {
  for (int row = first; row < COUNT; row += 4 * rows_apart) {
    float sums[4] = {0, 0, 0, 0};
    const T* at[4];
    #pragma unroll
    for (int r = 0; r < 4; r++) at[r] = weights + (long)min(row + r * rows_apart, COUNT - 1) * N;
    dots<N>(at[0], at[1], at[2], at[3], x, lane, sums);
    #pragma unroll
    for (int r = 0; r < 4; r++) {
      float sum = over_warp(sums[r]);
      if (lane == 0 && row + r * rows_apart < COUNT) y[row + r * rows_apart] = sum + bias[row + r * rows_apart];
    }
  }
}

// The first place of the greatest of `count` numbers, and that number; every thread of the block gets both.
__device__ inline void greatest(const float* numbers, int count, int& place, float& number) {
  __shared__ float best_of[32];
  __shared__ int place_of[32];
  float best = -INFINITY_;
  int at = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    float x = __ldcg(numbers + i);
    if (x > best) { best = x; at = i; }
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int round = 0; round < 2; round++) {
    #pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      float other = __shfl_xor_sync(0xffffffff, best, offset);
      int there = __shfl_xor_sync(0xffffffff, at, offset);
      if (other > best || (other == best && there < at)) { best = other; at = there; }
    }
    if (round == 0) {
      __syncthreads();
      if (lane == 0) { best_of[warp] = best; place_of[warp] = at; }
      __syncthreads();
      best = lane < warps ? best_of[lane] : -INFINITY_;
      at = lane < warps ? place_of[lane] : 0x7fffffff;
    }
  }
  place = at;
  number = best;
}

__device__ inline float sum_of_exponentials(const float* numbers, int count, float less) {
  __shared__ float part_of[32];
  float sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += __expf(__ldcg(numbers + i) - less);
  sum = over_warp(sum);
  __syncthreads();
  if (threadIdx.x % 32 == 0) part_of[threadIdx.x / 32] = sum;
  __syncthreads();
  return over_warp(threadIdx.x % 32 < blockDim.x / 32 ? part_of[threadIdx.x % 32] : 0);
}

// All blocks of an utterance wait here for the last of them; what each wrote before, the others see.
__device__ inline void meet(int blocks, int* arrived, int& round) {
  __syncthreads();
  if (blocks > 1 && threadIdx.x == 0) {
    round++;
    __threadfence();
    atomicAdd(arrived, 1);
    while (*reinterpret_cast<volatile int*>(arrived) < round * blocks) {}
    __threadfence();
  }
  __syncthreads();
}

__device__ inline float logistic(float x) { return 1.0f / (1.0f + __expf(-x)); }
""".replace("INFINITY_", "__int_as_float(0x7f800000)")

_SOURCE = r"""
constexpr int OUT = TOKENS + DURATIONS;
constexpr int WARPS = THREADS / 32;
const int length = sizes[0], most = sizes[1], blocks = sizes[2];
const int item = blockIdx.x / blocks, part = blockIdx.x % blocks;
const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
const int first = part * WARPS + warp, step = blocks * WARPS;
const int blank = TOKENS - 1;

__shared__ __align__(16) float h[2][LAYERS][WIDTH];
__shared__ __align__(16) float c[2][LAYERS][WIDTH];
__shared__ __align__(16) float predicted[JOINT];
__shared__ __align__(16) float joined[JOINT];

float* shared_h = scratch + item * (LAYERS * WIDTH + JOINT + 2 * OUT);
float* shared_prediction = shared_h + LAYERS * WIDTH;
float* shared_logits = shared_prediction + JOINT;

for (int i = threadIdx.x; i < LAYERS * WIDTH; i += THREADS) {
  h[0][0][i] = hidden_in[item * LAYERS * WIDTH + i];
  c[0][0][i] = cell_in[item * LAYERS * WIDTH + i];
}
int time = where[item * 4], last = where[item * 4 + 2], repeats = where[item * 4 + 3];
const int end = where[item * 4 + 1];
int now = 0, count = 0, looks = 0, round = 0;
bool known = false;  // whether the prediction after `last` is known
__syncthreads();

while (time < end) {
  if (!known) {
    #pragma unroll
    for (int l = 0; l < LAYERS; l++) {
      for (int u = first; u < WIDTH; u += step) {
        float gates[4] = {0, 0, 0, 0};
        constexpr long GATE = (long)WIDTH * WIDTH;
        auto* row = hidden_weights + l * 4 * GATE + u * WIDTH;
        dots<WIDTH>(row, row + GATE, row + 2 * GATE, row + 3 * GATE, h[now][l], lane, gates);
        if (l > 0) {
          row = input_weights + (l - 1) * 4 * GATE + u * WIDTH;
          dots<WIDTH>(row, row + GATE, row + 2 * GATE, row + 3 * GATE, h[1 - now][l > 0 ? l - 1 : 0], lane, gates);
        }
        #pragma unroll
        for (int g = 0; g < 4; g++) {
          const float* more = l == 0 ? embedded + (long)last * 4 * WIDTH : biases + (long)l * 4 * WIDTH;
          gates[g] = over_warp(gates[g]) + more[g * WIDTH + u];
        }
        if (lane == 0) {
          float cell = logistic(gates[1]) * c[now][l][u] + logistic(gates[0]) * tanhf(gates[2]);
          c[1 - now][l][u] = cell;
          shared_h[l * WIDTH + u] = logistic(gates[3]) * tanhf(cell);
        }
      }
      meet(blocks, arrived + item * APART, round);
      for (int i = threadIdx.x; i < WIDTH; i += THREADS) h[1 - now][l][i] = __ldcg(shared_h + l * WIDTH + i);
      __syncthreads();
    }
    multiply<JOINT, WIDTH>(
        prediction_weights, prediction_bias, h[1 - now][LAYERS - 1], shared_prediction, first, step, lane);
    meet(blocks, arrived + item * APART, round);
    for (int j = threadIdx.x; j < JOINT; j += THREADS) predicted[j] = __ldcg(shared_prediction + j);
    known = true;
    __syncthreads();
  }

  for (int j = threadIdx.x; j < JOINT; j += THREADS) {
    float x = (float)frames[((long)item * length + time) * JOINT + j] + predicted[j];
    joined[j] = ACTIVATION == 0 ? fmaxf(x, 0.0f) : ACTIVATION == 1 ? logistic(x) : tanhf(x);
  }
  __syncthreads();
  // Two buffers: a block may be one meeting ahead of those that still read.
  float* logits = shared_logits + (looks++ % 2) * OUT;
  multiply<OUT, JOINT>(out_weights, out_bias, joined, logits, first, step, lane);
  meet(blocks, arrived + item * APART, round);

  int token, choice;
  float best, other;
  greatest(logits, TOKENS, token, best);
  int lasts = token == blank;
  if (DURATIONS > 0) {
    greatest(logits + TOKENS, DURATIONS, choice, other);
    lasts = durations[choice];
  }
  if (token != blank) {
    if (part == 0) {
      float likelihood = 1.0f / sum_of_exponentials(logits, TOKENS, best);
      if (threadIdx.x == 0) {
        int* at = emitted + ((long)item * most + count) * 3;
        at[0] = token; at[1] = time; at[2] = DURATIONS > 0 ? lasts : 1;
        probability[(long)item * most + count] = likelihood;
      }
    }
    count++;
    last = token;
    now = 1 - now;
    known = false;
  }
  repeats = lasts == 0 ? repeats + 1 : 0;
  time += lasts;
  if (repeats >= MOST_REPEATS) { time++; repeats = 0; }
}

__syncthreads();
if (part == 0 && threadIdx.x == 0) {
  reached[item * 4] = time; reached[item * 4 + 1] = count; reached[item * 4 + 2] = last; reached[item * 4 + 3] = repeats;
}
// A cell is known to the block that computed it alone.
for (int l = 0; l < LAYERS; l++) {
  for (int u = first; u < WIDTH; u += step) {
    if (lane == 0) {
      hidden[(item * LAYERS + l) * WIDTH + u] = h[now][l][u];
      cell[(item * LAYERS + l) * WIDTH + u] = c[now][l][u];
    }
  }
}
"""


class CudaDecoder:
    """See `TransducerDecoder`; weights in their precision, sums in float32."""

    def __init__(self, model: Transducer) -> None:
        """Copy the decoder's and joint network's weights out of `model`, in the kernel's layout.

        Raises:
            ValueError: The widths are not multiples of 8.
        """
        prediction, joint = model.decoder.prediction, model.joint
        layers = prediction["dec_rnn"].lstm
        self._blank = len(model.vocabulary)
        self._layers, self._width = len(layers), layers[0].Wh.shape[-1]
        self._project = joint.enc
        activation, *_, out = joint.joint_net
        self._joint = out.weight.shape[-1]
        if self._width % _LANES or self._joint % _LANES:
            raise ValueError(f"widths {self._width} and {self._joint} are not multiples of {_LANES}")
        durations = durations_of(model)
        self._dtype = joint.enc.weight.dtype
        self._template = [
            ("LAYERS", self._layers),
            ("WIDTH", self._width),
            ("JOINT", self._joint),
            ("TOKENS", self._blank + 1),
            ("DURATIONS", len(durations)),
            ("MOST_REPEATS", most_repeats_of(model)),
            ("ACTIVATION", _ACTIVATIONS[type(activation)]),
            ("THREADS", _THREADS),
            ("APART", _APART),
        ]
        self._most_repeats = most_repeats_of(model)
        self._most_blocks = _multiprocessors()
        self._out_size = self._blank + 1 + len(durations)

        # The first layer's input is an embedding: its product with the weights is as well looked up.
        embeddings = prediction["embed"].weight[: self._blank].astype(mx.float32)
        table = embeddings @ layers[0].Wx.T.astype(mx.float32)
        # Before the first token the network sees zeros, whatever the blank's embedding holds.
        table = mx.concatenate([table, mx.zeros((1, 4 * self._width))]) + layers[0].bias.astype(mx.float32)
        deeper = [layer.Wx for layer in layers[1:]] or [layers[0].Wx]
        self._weights = [
            table,
            mx.stack([layer.Wh for layer in layers]).astype(self._dtype),
            mx.stack(deeper).astype(self._dtype),
            mx.stack([layer.bias for layer in layers]).astype(mx.float32),
            joint.pred.weight.astype(self._dtype),
            joint.pred.bias.astype(mx.float32),
            out.weight.astype(self._dtype),
            out.bias.astype(mx.float32),
            mx.array(durations or (0,), dtype=mx.int32),
        ]
        mx.eval(self._weights)  # pyright: ignore[reportUnknownMemberType] - its stub has no types
        self._kernel = cast(
            "Callable[..., list[mx.array]]",
            mx.fast.cuda_kernel(
                name="greedy_transducer",
                input_names=[
                    *("frames", "sizes", "where", "hidden_in", "cell_in"),
                    *("embedded", "hidden_weights", "input_weights", "biases"),
                    *("prediction_weights", "prediction_bias", "out_weights", "out_bias", "durations"),
                ],
                output_names=["emitted", "probability", "reached", "hidden", "cell", "scratch", "arrived"],
                source=_SOURCE,
                header=_HEADER,
            ),
        )

    def decode(self, encoded: mx.array, stretches: Sequence[Stretch]) -> list[Decoded]:
        """See `TransducerDecoder`."""
        decoded: list[Decoded] = []
        for at in range(0, len(stretches), self._most_blocks):
            part = slice(at, at + self._most_blocks)
            decoded += self._decode(self._project(encoded[part]), stretches[part])
        return decoded

    def _decode(self, frames: mx.array, stretches: Sequence[Stretch]) -> list[Decoded]:
        count = len(stretches)
        longest = max(stretch.end - stretch.begin for stretch in stretches)
        most = max(longest, 1) * self._most_repeats + self._most_repeats
        states = [stretch.state for stretch in stretches]
        where = [(one.begin + one.state.skip, one.end, one.state.last, one.state.repeats) for one in stretches]
        # Blocks that wait for each other must all run at once: at most one on each multiprocessor.
        blocks = 1
        while 2 * blocks * count <= self._most_blocks and blocks < _MOST_PER_UTTERANCE:
            blocks *= 2
        shape = (count, self._layers, self._width)
        scratch = self._layers * self._width + self._joint + 2 * self._out_size
        # What the kernel waits for must be there before it starts: others' kernels beside it could keep its blocks out.
        mx.eval(frames)  # pyright: ignore[reportUnknownMemberType]
        outputs = self._kernel(
            inputs=[
                frames,
                mx.array([frames.shape[1], most, blocks], dtype=mx.int32),
                mx.array(where, dtype=mx.int32),
                mx.array(np.stack([state.hidden for state in states])),
                mx.array(np.stack([state.cell for state in states])),
                *self._weights,
            ],
            template=self._template,
            grid=(count * blocks * _THREADS, 1, 1),
            threadgroup=(_THREADS, 1, 1),
            output_shapes=[
                (count, most, 3),
                (count, most),
                (count, 4),
                shape,
                shape,
                (count, scratch),
                (count, _APART),
            ],
            output_dtypes=[mx.int32, mx.float32, mx.int32, mx.float32, mx.float32, mx.float32, mx.int32],
            init_value=0,
        )
        emitted, probability, reached, hidden, cell, *_ = outputs
        return [
            Decoded(_emissions(tokens[:count], likelihoods), DecoderState(max(time - one.end, 0), last, repeats, h, c))
            for one, tokens, likelihoods, (time, count, last, repeats), h, c in zip(
                stretches,
                integers(emitted),
                floats(probability),
                integers(reached).tolist(),
                floats(hidden),
                floats(cell),
                strict=True,
            )
        ]


def _emissions(tokens: NDArray[np.int32], likelihoods: Floats) -> tuple[Emission, ...]:
    return tuple(
        Emission(token, frame, frames, likelihood)
        for (token, frame, frames), likelihood in zip(tokens.tolist(), likelihoods.tolist(), strict=False)
    )


def _multiprocessors() -> int:
    """How many there are on the device that MLX uses: the first that CUDA shows us.

    Raises:
        RuntimeError: The driver does not say.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetAttribute(ctypes.byref(count), _MULTIPROCESSOR_COUNT, 0)
    if failed:
        raise RuntimeError(f"the CUDA driver does not say how many multiprocessors there are: error {failed}")
    return count.value
