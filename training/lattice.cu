// Sums over all paths of a token-and-duration transducer, and their gradients.
// A block is an utterance, a thread is the number of labels written so far (u); the diagonals t + u are walked together.

#define IMPOSSIBLE (-1e30f)

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
