// The loss of a token-and-duration transducer and its gradients.

#define IMPOSSIBLE (-1e30f)
#define ALL 0xffffffffu

// --- What the lattice needs of the scores. A warp is a place (item, frame, labels written); scores are bfloat16. ---

static __device__ __forceinline__ float wide(unsigned short x) { return __uint_as_float((unsigned)x << 16); }

static __device__ __forceinline__ unsigned short narrow(float x) {  // to the nearest, the even one of two
    const unsigned bits = __float_as_uint(x);
    return (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static __device__ __forceinline__ float highest(float x) {
    for (int step = 16; step; step >>= 1) x = fmaxf(x, __shfl_xor_sync(ALL, x, step));
    return x;
}

static __device__ __forceinline__ float added(float x) {
    for (int step = 16; step; step >>= 1) x += __shfl_xor_sync(ALL, x, step);
    return x;
}

extern "C" __global__ void log_probabilities(
    const unsigned short* scores, const long long* labels, float* blanks, float* written, float* steps, float* totals,
    int places, int frames, int states, int tokens, int durations)
{
    const int place = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (place >= places) return;
    const int u = place % states, b = place / states / frames;
    const unsigned short* row = scores + (size_t)place * (tokens + durations);
    float high = IMPOSSIBLE, rest = 0.f;
    for (int c = lane; c < tokens; c += 32) high = fmaxf(high, wide(row[c]));
    high = highest(high);
    for (int c = lane; c < tokens; c += 32) rest += __expf(wide(row[c]) - high);
    const float total = high + __logf(added(rest));
    const float step = lane < durations ? wide(row[tokens + lane]) : IMPOSSIBLE;
    const float most = highest(step);
    const float all = most + __logf(added(lane < durations ? __expf(step - most) : 0.f));
    if (lane < durations) steps[(size_t)place * durations + lane] = step - all;
    if (lane == 0) {
        totals[place] = total;
        blanks[place] = wide(row[tokens - 1]) - total;
        written[place] = wide(row[u + 1 < states ? labels[(size_t)b * (states - 1) + u] : 0]) - total;
    }
}

extern "C" __global__ void log_probabilities_backward(
    const unsigned short* scores, const long long* labels, const float* steps, const float* totals,
    const float* d_blanks, const float* d_written, const float* d_steps, unsigned short* d_scores,
    int places, int frames, int states, int tokens, int durations)
{
    const int place = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (place >= places) return;
    const int u = place % states, b = place / states / frames;
    const size_t start = (size_t)place * (tokens + durations);
    const int label = u + 1 < states ? (int)labels[(size_t)b * (states - 1) + u] : 0;
    const float blank = d_blanks[place], next = d_written[place], total = totals[place];
    for (int c = lane; c < tokens; c += 32) {
        float slope = -(blank + next) * __expf(wide(scores[start + c]) - total);
        if (c == tokens - 1) slope += blank;
        if (c == label) slope += next;
        d_scores[start + c] = narrow(slope);
    }
    const float mine = lane < durations ? d_steps[(size_t)place * durations + lane] : 0.f;
    const float every = added(mine);
    if (lane < durations)
        d_scores[start + tokens + lane] = narrow(mine - every * __expf(steps[(size_t)place * durations + lane]));
}

// --- Sums over all paths. A block is an utterance, a thread is the number of labels written so far (u); the diagonals
// t + u are walked together. ---

static __device__ __forceinline__ float add(float a, float b) {
    float high = fmaxf(a, b), low = fminf(a, b);
    return high <= IMPOSSIBLE ? IMPOSSIBLE : high + log1pf(__expf(low - high));
}

extern "C" __global__ void lattice(
    const float* blanks, const float* written, const float* steps, const int* sizes,
    float* alpha, float* beta, float* loss, float* d_blanks, float* d_written, float* d_steps,
    int batch, int most_frames, int states, int durations)
{
    const int b = blockIdx.x, u = threadIdx.x;
    const int T = sizes[b], U = sizes[batch + b];
    const size_t item = (size_t)b * most_frames * states;
    blanks += item; written += item; alpha += item; beta += item; d_blanks += item; d_written += item;
    steps += item * durations; d_steps += item * durations;
    #define AT(t, u) ((size_t)(t) * states + (u))

    for (int k = 0; k < T + U; ++k) {
        const int t = k - u;
        if (u <= U && t >= 0 && t < T) {
            float sum = k == 0 ? 0.f : IMPOSSIBLE;
            for (int d = 0; d < durations && d <= t; ++d) {
                if (d > 0) {
                    const size_t from = AT(t - d, u);
                    sum = add(sum, alpha[from] + blanks[from] + steps[from * durations + d]);
                }
                if (u > 0) {
                    const size_t from = AT(t - d, u - 1);
                    sum = add(sum, alpha[from] + written[from] + steps[from * durations + d]);
                }
            }
            alpha[AT(t, u)] = sum;
        }
        __syncthreads();
    }
    for (int k = T + U - 1; k >= 0; --k) {
        const int t = k - u;
        if (u <= U && t >= 0 && t < T) {
            float sum = IMPOSSIBLE;
            const size_t here = AT(t, u);
            for (int d = 0; d < durations && t + d <= T; ++d) {
                const float step = steps[here * durations + d];
                if (d > 0) {
                    const float rest = t + d < T ? beta[AT(t + d, u)] : (u == U ? 0.f : IMPOSSIBLE);
                    sum = add(sum, blanks[here] + step + rest);
                }
                if (u < U && t + d < T) sum = add(sum, written[here] + step + beta[AT(t + d, u + 1)]);
            }
            beta[here] = sum;
        }
        __syncthreads();
    }
    const float total = beta[0];
    if (u == 0) loss[b] = -total;
    if (u > U || total <= IMPOSSIBLE * 0.5f) return;
    for (int t = 0; t < T; ++t) {
        const size_t here = AT(t, u);
        const float reached = alpha[here] - total;
        float blank = 0.f, label = 0.f;
        for (int d = 0; d < durations && t + d <= T; ++d) {
            const float step = steps[here * durations + d];
            float share = 0.f;
            if (d > 0) {
                const float rest = t + d < T ? beta[AT(t + d, u)] : (u == U ? 0.f : IMPOSSIBLE);
                const float part = __expf(reached + blanks[here] + step + rest);
                blank += part; share += part;
            }
            if (u < U && t + d < T) {
                const float part = __expf(reached + written[here] + step + beta[AT(t + d, u + 1)]);
                label += part; share += part;
            }
            d_steps[here * durations + d] = -share;
        }
        d_blanks[here] = -blank;
        d_written[here] = -label;
    }
}
