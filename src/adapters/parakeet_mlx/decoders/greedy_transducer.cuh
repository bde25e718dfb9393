// What the kernel in greedy_transducer.cu calls.

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
  float best = -__int_as_float(0x7f800000);
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
      best = lane < warps ? best_of[lane] : -__int_as_float(0x7f800000);
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
