// Attention on tensor cores, for f16 and bf16 and heads of 32, 64 or 128, over query, key and value as one product
// leaves them: no copy splits heads, and no score reaches memory.
//
// A block has one head of one row and 64 of its queries, 16 a warp, whose softmax is online over 64 keys at a time:
// FlashAttention-2 (Dao, 2023) for rows that lie packed. The products are `mma.sync` from PTX, whose fragments hold, with
// g = lane / 4 and t = lane % 4: of A (16 x 16, row-major) rows g and g + 8, columns 2t, 2t + 1 and the same plus 8; of
// B (16 x 8) rows 2t, 2t + 1 and the same plus 8, column g; of the sum (16 x 8) rows g and g + 8, columns 2t, 2t + 1.
// Scores are powers of two: log2(e) is in the query's weights, beside the softmax's scale.

#include "numbers.cuh"

#if __CUDA_ARCH__ >= 800

constexpr int QUERIES = 64, KEYS = 64, WARPS = QUERIES / 16;

__device__ __forceinline__ unsigned packed(float low, float high, half) {
    const half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const unsigned *>(&both);
}

__device__ __forceinline__ unsigned packed(float low, float high, bf16) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned *>(&both);
}

// sum += a * b
__device__ __forceinline__ void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, half) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, bf16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices out of shared memory; lane l names row l % 8 of matrix l / 8.
__device__ __forceinline__ void fetch(unsigned (&r)[4], const void *row) {
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

__device__ __forceinline__ void fetch_transposed(unsigned (&r)[4], const void *row) {
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// `qkv` is `[tokens, 3, heads, HEAD]`, `out` is `[tokens, heads, HEAD]`, `query_bias` is `[heads, HEAD]`; row r has the
// tokens from `starts[r] - base`.
template <typename T, int HEAD>
__device__ __forceinline__ void attend(const T *qkv, const float *query_bias, T *out, const unsigned *starts,
                                       unsigned base, int heads) {
    // Eight more than a head: rows then begin 16 bytes apart modulo 128, and `ldmatrix` meets every bank once.
    constexpr int PITCH = HEAD + 8, PIECES = HEAD / 8;
    __shared__ alignas(16) T keys[KEYS * PITCH];
    __shared__ alignas(16) T values[KEYS * PITCH];

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const unsigned row = blockIdx.x / heads;
    const int head = blockIdx.x % heads;
    const unsigned start = starts[row] - base, length = starts[row + 1] - starts[row];
    if (blockIdx.y * QUERIES >= length) return;
    const size_t hidden = static_cast<size_t>(heads) * HEAD, stride = 3 * hidden;
    qkv += static_cast<size_t>(start) * stride + head * HEAD;
    out += static_cast<size_t>(start) * hidden + head * HEAD;
    query_bias += head * HEAD;

    const unsigned top = blockIdx.y * QUERIES + warp * 16 + g, bottom = top + 8;
    unsigned query[HEAD / 16][4];
#pragma unroll
    for (int k = 0; k < HEAD / 16; ++k)
#pragma unroll
        for (int part = 0; part < 4; ++part) {
            const unsigned token = part % 2 ? bottom : top;
            const int column = 16 * k + 2 * t + (part < 2 ? 0 : 8);
            float low = 0.0f, high = 0.0f;
            if (token < length) {
                const auto pair = load<T, 2>(qkv + token * stride + column);
                const auto shift = load<float, 2>(query_bias + column);
                low = widen(pair.values[0]) + shift.values[0];
                high = widen(pair.values[1]) + shift.values[1];
            }
            query[k][part] = packed(low, high, T());
        }

    float context[HEAD / 8][4] = {};
    float most[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
    for (unsigned from = 0; from < length; from += KEYS) {
        const unsigned here = min(length - from, static_cast<unsigned>(KEYS));
        __syncthreads();
#pragma unroll
        for (int at = threadIdx.x; at < KEYS * PIECES; at += WARPS * 32) {
            const unsigned k = at / PIECES, column = at % PIECES * 8;
            Pack<T, 8> key = {}, value = {};
            if (k < here) {
                const T *token = qkv + static_cast<size_t>(from + k) * stride + column;
                key = load<T, 8>(token + hidden);
                value = load<T, 8>(token + 2 * hidden);
            }
            store(keys + k * PITCH + column, key);
            store(values + k * PITCH + column, value);
        }
        __syncthreads();

        float score[KEYS / 8][4] = {};
#pragma unroll
        for (int k = 0; k < HEAD / 16; ++k)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n += 2) {
                unsigned b[4];
                fetch(b, keys + (n * 8 + lane / 16 * 8 + lane % 8) * PITCH + k * 16 + lane / 8 % 2 * 8);
                multiply(score[n], query[k], b[0], b[1], T());
                multiply(score[n + 1], query[k], b[2], b[3], T());
            }
        if (here < KEYS)
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (n * 8 + 2 * t + i % 2 >= here) score[n][i] = -INFINITY;

#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float more = most[half];
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) more = fmaxf(more, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
            more = fmaxf(more, __shfl_xor_sync(0xffffffffu, more, 1));
            more = fmaxf(more, __shfl_xor_sync(0xffffffffu, more, 2));
            const float shrink = exp2f(most[half] - more);
            most[half] = more;
            sum[half] *= shrink;
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; ++i) {
                    score[n][i] = exp2f(score[n][i] - more);
                    sum[half] += score[n][i];
                }
#pragma unroll
            for (int n = 0; n < HEAD / 8; ++n) {
                context[n][2 * half] *= shrink;
                context[n][2 * half + 1] *= shrink;
            }
        }

#pragma unroll
        for (int k = 0; k < KEYS / 16; ++k) {
            const unsigned weights[4] = {
                packed(score[2 * k][0], score[2 * k][1], T()), packed(score[2 * k][2], score[2 * k][3], T()),
                packed(score[2 * k + 1][0], score[2 * k + 1][1], T()),
                packed(score[2 * k + 1][2], score[2 * k + 1][3], T())};
#pragma unroll
            for (int n = 0; n < HEAD / 8; n += 2) {
                unsigned b[4];
                fetch_transposed(b, values + (k * 16 + lane / 8 % 2 * 8 + lane % 8) * PITCH + n * 8 + lane / 16 * 8);
                multiply(context[n], weights, b[0], b[1], T());
                multiply(context[n + 1], weights, b[2], b[3], T());
            }
        }
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
        sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
        sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
        const unsigned token = half ? bottom : top;
        if (token >= length) continue;
        const float scale = 1.0f / sum[half];
#pragma unroll
        for (int n = 0; n < HEAD / 8; ++n) {
            Pack<T, 2> pair;
            pair.values[0] = narrow<T>(context[n][2 * half] * scale);
            pair.values[1] = narrow<T>(context[n][2 * half + 1] * scale);
            store(out + token * hidden + n * 8 + 2 * t, pair);
        }
    }
}

#define ATTEND(T, name, HEAD)                                                                                          \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) tensor_attend_##name##_##HEAD(                            \
        const T *qkv, const float *query_bias, T *out, const unsigned *starts, unsigned base, int heads) {             \
        attend<T, HEAD>(qkv, query_bias, out, starts, base, heads);                                                    \
    }
#define KERNELS(T, name)                                                                                               \
    ATTEND(T, name, 32)                                                                                                \
    ATTEND(T, name, 64)                                                                                                \
    ATTEND(T, name, 128)

KERNELS(half, f16)
KERNELS(bf16, bf16)

#endif
