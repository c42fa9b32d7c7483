// What the kernels read and write: f32, f16 and bf16 in memory, f32 in registers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(half x) { return __half2float(x); }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ half narrow<half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }

// N neighbours that travel in one access; N * sizeof(T) is 8 or 16 bytes, and so is the address's alignment.
template <typename T, int N> struct alignas(N * sizeof(T)) Pack {
    T values[N];
};

template <typename T, int N> __device__ __forceinline__ Pack<T, N> load(const T *from) {
    return *reinterpret_cast<const Pack<T, N> *>(from);
}

template <typename T, int N> __device__ __forceinline__ void store(T *to, Pack<T, N> pack) {
    *reinterpret_cast<Pack<T, N> *>(to) = pack;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
