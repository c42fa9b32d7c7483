// What an encoder does to one token at a time: embedding, residual and layer norm, activation, the classifier's ends.
//
// Each kernel reads and writes every value once. A warp owns a row; statistics are f32 in every dtype.

#include "numbers.cuh"

// Values of a row that a lane holds in one piece.
constexpr int STEP = 4;

// Normalises the row that a warp holds: lane l has pieces l, l + 32, .. of STEP values, PIECES of them at most.
template <typename T, int PIECES>
__device__ __forceinline__ void norm_row(float (&x)[PIECES][STEP], T *out, const float *weight, const float *bias,
                                         float epsilon, int width) {
    const int lane = threadIdx.x % 32;
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int i = 0; i < STEP; ++i) sum += x[p][i];
    const float mean = warp_sum(sum) / width;
    float squares = 0.0f;
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
        if ((lane + 32 * p) * STEP < width)
#pragma unroll
            for (int i = 0; i < STEP; ++i) squares += (x[p][i] - mean) * (x[p][i] - mean);
    const float scale = rsqrtf(warp_sum(squares) / width + epsilon);
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        const int at = (lane + 32 * p) * STEP;
        if (at < width) {
            const auto w = load<float, STEP>(weight + at), b = load<float, STEP>(bias + at);
            Pack<T, STEP> normed;
#pragma unroll
            for (int i = 0; i < STEP; ++i)
                normed.values[i] = narrow<T>((x[p][i] - mean) * scale * w.values[i] + b.values[i]);
            store(out + at, normed);
        }
    }
}

// out[t] = norm(word[ids[t]] + place[places[t]])
template <typename T, int PIECES>
__device__ __forceinline__ void embed(const unsigned *ids, const unsigned *places, const T *word, const T *place,
                                      const float *weight, const float *bias, T *out, float epsilon,
                                      unsigned rows, int width) {
    const unsigned row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    word += static_cast<size_t>(ids[row]) * width;
    place += static_cast<size_t>(places[row]) * width;
    float x[PIECES][STEP];
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        const int at = (lane + 32 * p) * STEP;
        if (at < width) {
            const auto a = load<T, STEP>(word + at), b = load<T, STEP>(place + at);
#pragma unroll
            for (int i = 0; i < STEP; ++i) x[p][i] = widen(a.values[i]) + widen(b.values[i]);
        } else {
#pragma unroll
            for (int i = 0; i < STEP; ++i) x[p][i] = 0.0f;
        }
    }
    norm_row(x, out + static_cast<size_t>(row) * width, weight, bias, epsilon, width);
}

// x[t] = norm(x[t] + delta[t] + shift), where shift is the bias of the product that delta is.
template <typename T, int PIECES>
__device__ __forceinline__ void add_norm(T *x, const T *delta, const float *shift, const float *weight,
                                         const float *bias, float epsilon, unsigned rows, int width) {
    const unsigned row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    x += static_cast<size_t>(row) * width;
    delta += static_cast<size_t>(row) * width;
    float sum[PIECES][STEP];
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        const int at = (lane + 32 * p) * STEP;
        if (at < width) {
            const auto a = load<T, STEP>(x + at), b = load<T, STEP>(delta + at);
            const auto s = load<float, STEP>(shift + at);
#pragma unroll
            for (int i = 0; i < STEP; ++i) sum[p][i] = widen(a.values[i]) + (widen(b.values[i]) + s.values[i]);
        } else {
#pragma unroll
            for (int i = 0; i < STEP; ++i) sum[p][i] = 0.0f;
        }
    }
    norm_row(sum, x, weight, bias, epsilon, width);
}

enum Activation { GELU, GELU_TANH, RELU, SILU, TANH };

// erf by Abramowitz and Stegun 7.1.26, within 1.5e-7: a five-hundredth of what f16 can tell apart, in half of erff's time.
__device__ __forceinline__ float erf_short(float x) {
    const float a = fabsf(x), t = __fdividef(1.0f, fmaf(0.3275911f, a, 1.0f));
    float p = fmaf(1.061405429f, t, -1.453152027f);
    p = fmaf(p, t, 1.421413741f);
    p = fmaf(p, t, -0.284496736f);
    p = fmaf(p, t, 0.254829592f);
    return copysignf(1.0f - p * t * __expf(-a * a), x);
}

template <typename T, int KIND> __device__ __forceinline__ float activated(float x) {
    if (KIND == GELU) {
        const float scaled = x * 0.70710678f;
        return 0.5f * x * (1.0f + (sizeof(T) == 4 ? erff(scaled) : erf_short(scaled)));
    }
    if (KIND == GELU_TANH) return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    if (KIND == RELU) return fmaxf(x, 0.0f);
    if (KIND == SILU) return x / (1.0f + expf(-x));
    return tanhf(x);
}

// x = activation(x + shift), rows of `pieces` times 16 bytes.
template <typename T, int KIND>
__device__ __forceinline__ void activate(T *x, const float *shift, unsigned all, unsigned pieces) {
    constexpr int N = 16 / sizeof(T);
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= all) return;
    x += static_cast<size_t>(at) * N;
    auto values = load<T, N>(x);
    shift += at % pieces * N;
#pragma unroll
    for (int half = 0; half < N; half += 4) {
        const auto s = load<float, 4>(shift + half);
#pragma unroll
        for (int i = 0; i < 4; ++i)
            values.values[half + i] = narrow<T>(activated<T, KIND>(widen(values.values[half + i]) + s.values[i]));
    }
    store(x, values);
}

// out[r] = x[starts[r] - base]: the first token of each row.
template <typename T>
__device__ __forceinline__ void take_first(const T *x, const unsigned *starts, T *out, unsigned base, int width) {
    const T *from = x + static_cast<size_t>(starts[blockIdx.x] - base) * width;
    T *to = out + static_cast<size_t>(blockIdx.x) * width;
    for (int at = threadIdx.x * STEP; at < width; at += blockDim.x * STEP) store(to + at, load<T, STEP>(from + at));
}

// out[r] = x[r] . weight + bias
template <typename T>
__device__ __forceinline__ void score(const T *x, const float *weight, float *out, float bias, unsigned rows,
                                      int width) {
    const unsigned row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    x += static_cast<size_t>(row) * width;
    float sum = 0.0f;
    for (int at = threadIdx.x % 32; at < width; at += 32) sum += widen(x[at]) * weight[at];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) out[row] = sum + bias;
}

#define NORMS(T, name, PIECES)                                                                                         \
    extern "C" __global__ void __launch_bounds__(128) embed_##name##_##PIECES(                                         \
        const unsigned *ids, const unsigned *places, const T *word, const T *place, const float *weight,               \
        const float *bias, T *out, float epsilon, unsigned rows, int width) {                                          \
        embed<T, PIECES>(ids, places, word, place, weight, bias, out, epsilon, rows, width);                           \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128) add_norm_##name##_##PIECES(                                      \
        T *x, const T *delta, const float *shift, const float *weight, const float *bias, float epsilon,               \
        unsigned rows, int width) {                                                                                    \
        add_norm<T, PIECES>(x, delta, shift, weight, bias, epsilon, rows, width);                                      \
    }

#define ACTIVATION(T, name, kind, KIND)                                                                                \
    extern "C" __global__ void __launch_bounds__(256) activate_##name##_##kind(                                        \
        T *x, const float *shift, unsigned all, unsigned pieces) {                                                     \
        activate<T, KIND>(x, shift, all, pieces);                                                                      \
    }

#define KERNELS(T, name)                                                                                               \
    NORMS(T, name, 1)                                                                                                  \
    NORMS(T, name, 2)                                                                                                  \
    NORMS(T, name, 3)                                                                                                  \
    NORMS(T, name, 4)                                                                                                  \
    NORMS(T, name, 6)                                                                                                  \
    NORMS(T, name, 8)                                                                                                  \
    ACTIVATION(T, name, gelu, GELU)                                                                                    \
    ACTIVATION(T, name, gelu_tanh, GELU_TANH)                                                                          \
    ACTIVATION(T, name, relu, RELU)                                                                                    \
    ACTIVATION(T, name, silu, SILU)                                                                                    \
    ACTIVATION(T, name, tanh, TANH)                                                                                    \
    extern "C" __global__ void take_first_##name(const T *x, const unsigned *starts, T *out, unsigned base,            \
                                                 int width) {                                                          \
        take_first(x, starts, out, base, width);                                                                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128) score_##name(const T *x, const float *weight, float *out,        \
                                                                   float bias, unsigned rows, int width) {             \
        score(x, weight, out, bias, rows, width);                                                                      \
    }

KERNELS(float, f32)
KERNELS(half, f16)
KERNELS(bf16, bf16)
