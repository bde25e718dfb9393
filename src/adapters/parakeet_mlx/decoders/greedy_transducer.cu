// The body of a kernel: MLX writes its head, with the arguments and the constants (in capitals) that cuda.py names, and
// puts greedy_transducer.cuh before it.

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
