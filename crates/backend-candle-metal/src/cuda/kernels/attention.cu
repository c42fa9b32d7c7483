// Attention for every dtype and head up to 128 wide, without tensor cores: f32, odd widths, and the last layer, where
// only first tokens ask.
//
// A block has one head of one row and up to eight queries a warp. Keys and values pass through shared memory, 32 at a
// time; a lane scores one key, then sums one column of values. Scores are powers of two: log2(e) is in the query's
// weights.

#include "numbers.cuh"

constexpr int KEYS = 32;
// From one key to the next, so that 32 lanes reading one column of 32 keys meet 32 banks.
__device__ __forceinline__ int pitch(int head_dim) { return head_dim | 1; }

// `query` is `[queries, query_stride]`, `key` and `value` begin at the row-major `[tokens, stride]`'s columns of head 0.
// FIRST: a row has one query, and its index is the row's.
template <typename T, int COLUMNS, int QUERIES, bool FIRST>
__device__ __forceinline__ void attend(const T *query, unsigned query_stride, const float *query_bias, const T *key,
                                       const T *value, unsigned stride, T *out, const unsigned *starts,
                                       unsigned base, int heads, int head_dim) {
    extern __shared__ float memory[];
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned row = blockIdx.x / heads;
    const int head = blockIdx.x % heads;
    const unsigned start = starts[row] - base, length = starts[row + 1] - starts[row];
    const unsigned block = blockIdx.y * warps * QUERIES;
    if (!FIRST && block >= length) return;
    const unsigned asked = FIRST ? 1 : length, first = block + warp * QUERIES;
    const int width = pitch(head_dim);
    float *keys = memory, *values = keys + KEYS * width;
    // Of this warp: `[head_dim, QUERIES]`.
    float *queries = values + KEYS * width + warp * head_dim * QUERIES;
    const size_t query_row = FIRST ? row : start + first;

    key += static_cast<size_t>(start) * stride + head * head_dim;
    value += static_cast<size_t>(start) * stride + head * head_dim;
    query_bias += head * head_dim;
    const size_t column = static_cast<size_t>(head) * head_dim;
    for (int q = 0; q < QUERIES; ++q)
        for (int d = lane; d < head_dim; d += 32)
            queries[d * QUERIES + q] =
                first + q < asked ? widen(query[(query_row + q) * query_stride + column + d]) + query_bias[d] : 0.0f;

    float most[QUERIES], sum[QUERIES], context[QUERIES][COLUMNS];
#pragma unroll
    for (int q = 0; q < QUERIES; ++q) {
        most[q] = -INFINITY;
        sum[q] = 0.0f;
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) context[q][c] = 0.0f;
    }

    for (unsigned from = 0; from < length; from += KEYS) {
        const int here = min(length - from, static_cast<unsigned>(KEYS));
        __syncthreads();
        for (int k = warp; k < KEYS; k += warps)
            for (int d = lane; d < head_dim; d += 32) {
                const size_t at = static_cast<size_t>(from + k) * stride + d;
                keys[k * width + d] = k < here ? widen(key[at]) : 0.0f;
                values[k * width + d] = k < here ? widen(value[at]) : 0.0f;
            }
        __syncthreads();

        float score[QUERIES];
#pragma unroll
        for (int q = 0; q < QUERIES; ++q) score[q] = 0.0f;
        for (int d = 0; d < head_dim; ++d) {
            const float k = keys[lane * width + d];
#pragma unroll
            for (int q = 0; q < QUERIES; ++q) score[q] = fmaf(queries[d * QUERIES + q], k, score[q]);
        }
#pragma unroll
        for (int q = 0; q < QUERIES; ++q) {
            if (lane >= here) score[q] = -INFINITY;
            const float more = fmaxf(most[q], warp_max(score[q]));
            const float shrink = exp2f(most[q] - more);
            most[q] = more;
            score[q] = exp2f(score[q] - more);
            sum[q] = sum[q] * shrink + score[q];
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) context[q][c] *= shrink;
        }
        for (int k = 0; k < here; ++k) {
            float v[COLUMNS];
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) v[c] = lane + 32 * c < head_dim ? values[k * width + lane + 32 * c] : 0.0f;
#pragma unroll
            for (int q = 0; q < QUERIES; ++q) {
                const float weight = __shfl_sync(0xffffffffu, score[q], k);
#pragma unroll
                for (int c = 0; c < COLUMNS; ++c) context[q][c] = fmaf(weight, v[c], context[q][c]);
            }
        }
    }

    const size_t out_stride = static_cast<size_t>(heads) * head_dim;
#pragma unroll
    for (int q = 0; q < QUERIES; ++q) {
        const float all = warp_sum(sum[q]);
        if (first + q >= asked) continue;
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
            if (lane + 32 * c < head_dim)
                out[(query_row + q) * out_stride + column + lane + 32 * c] = narrow<T>(context[q][c] / all);
    }
}

#define ATTEND(T, name, COLUMNS, kind, QUERIES, FIRST)                                                                 \
    extern "C" __global__ void kind##_##name##_##COLUMNS(                                                              \
        const T *query, unsigned query_stride, const float *query_bias, const T *key, const T *value,                  \
        unsigned stride, T *out, const unsigned *starts, unsigned base, int heads, int head_dim) {                     \
        attend<T, COLUMNS, QUERIES, FIRST>(query, query_stride, query_bias, key, value, stride, out, starts, base,     \
                                           heads, head_dim);                                                           \
    }
#define WIDTHS(T, name, kind, QUERIES, FIRST)                                                                          \
    ATTEND(T, name, 1, kind, QUERIES, FIRST)                                                                           \
    ATTEND(T, name, 2, kind, QUERIES, FIRST)                                                                           \
    ATTEND(T, name, 3, kind, QUERIES, FIRST)                                                                           \
    ATTEND(T, name, 4, kind, QUERIES, FIRST)
#define KERNELS(T, name)                                                                                               \
    WIDTHS(T, name, attend, 8, false)                                                                                  \
    WIDTHS(T, name, attend_first, 1, true)

KERNELS(float, f32)
KERNELS(half, f16)
KERNELS(bf16, bf16)
