// Boundary max pooling (AFSD section 3.3) as one CUDA kernel: features [B,C,T] and regions [B,N,4] -> [B,C,N].
//
// What it computes is defined by boundary_max_pooling_loop in training/models/boundary_pooling.py. Regions are cast to
// cells by truncation and clamped to 0 .. T-1; a reversed one, and one of NaN, is its first cell. The first of equal
// maxima wins, and a NaN is skipped unless it is the region's first cell, as the loop's `>` does.
//
// Layout. T is the fastest axis of the input and N that of the output, so consecutive threads read consecutive cells of
// one channel and write consecutive regions of one channel: both streams are coalesced, each feature is read from global
// memory once and each output written once. A block holds a few channels ("rows") of one half, so all its rows share one
// set of regions.
//
// Range maxima come from a table in shared memory: level j holds, for every cell, the maximum over the 4^j cells from
// there on (fewer at the end). A region of w cells is the union of four entries of level floor(log4 w), so every thread
// does exactly four look-ups, however wide its region: no loop over the cells, hence no divergence between the threads of
// a warp whose regions differ. Radix 4 in place of the usual 2 doubles the look-ups (cheap, in shared memory) and halves
// both the table and the barriers between its levels.
//
// The file is also compiled for the host by the tests, which put threads, barriers and memory in place of CUDA's.

#ifndef SHARED_MEMORY
#define SHARED_MEMORY(Element, name) extern __shared__ Element name[]
#endif

struct Single {
    typedef float Stored;
    static __device__ float widen(Stored value) { return value; }
};

struct Brain {  // bfloat16: the upper half of a float32
    typedef unsigned short Stored;
    static __device__ float widen(Stored value) {
        union { unsigned int bits; float number; } wide;
        wide.bits = static_cast<unsigned int>(value) << 16;
        return wide.number;
    }
};

struct Half {
    typedef unsigned short Stored;
    static __device__ float widen(Stored value) {
#ifdef __CUDA_ARCH__
        float number;
        asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(value));
        return number;
#else
        union { unsigned short bits; _Float16 number; } half;
        half.bits = value;
        return static_cast<float>(half.number);
#endif
    }
};

// The larger of two, the first of equal ones; a NaN gives way to the other.
template <typename Type>
static __device__ typename Type::Stored larger(typename Type::Stored a, typename Type::Stored b) {
    const float first = Type::widen(a), second = Type::widen(b);
    return (second > first || first != first) ? b : a;
}

static __device__ int cell_of(float position, int length) {
    const float low = position > 0.0f ? position : 0.0f;  // NaN too becomes 0
    const float last = static_cast<float>(length - 1);
    return static_cast<int>(low < last ? low : last);
}

// floor(log4 width) for 1 <= width < 4^7, without a loop.
static __device__ int level_of(int width) {
    return (width >= 4) + (width >= 16) + (width >= 64) + (width >= 256) + (width >= 1024) + (width >= 4096);
}

template <typename Type>
static __device__ void pool(const typename Type::Stored* features, const float* regions, int channels, int length,
                            int count, int rows, typename Type::Stored* pooled) {
    typedef typename Type::Stored Stored;
    SHARED_MEMORY(Stored, table);  // [rows][levels][length]
    const int half = channels / 2, levels = level_of(length) + 1;
    const int first_row = blockIdx.x * rows;                       // within the half
    const int used = half - first_row < rows ? half - first_row : rows;
    const long long image = static_cast<long long>(blockIdx.z) * channels + blockIdx.y * half + first_row;

    for (int row = threadIdx.y; row < used; row += blockDim.y)
        for (int t = threadIdx.x; t < length; t += blockDim.x)
            table[row * levels * length + t] = features[(image + row) * length + t];

    for (int level = 1, step = 1; level < levels; ++level, step *= 4) {
        __syncthreads();
        for (int row = threadIdx.y; row < used; row += blockDim.y) {
            const Stored* before = table + (row * levels + level - 1) * length;
            for (int t = threadIdx.x; t < length; t += blockDim.x) {
                Stored best = before[t];
                for (int part = 1; part < 4; ++part) {
                    const int ahead = t + part * step;
                    best = larger<Type>(best, before[ahead < length ? ahead : length - 1]);
                }
                table[(row * levels + level) * length + t] = best;
            }
        }
    }
    __syncthreads();

    const float* bounds = regions + static_cast<long long>(blockIdx.z) * count * 4 + blockIdx.y * 2;
    for (int n = threadIdx.x; n < count; n += blockDim.x) {
        const int low = cell_of(bounds[n * 4], length), given = cell_of(bounds[n * 4 + 1], length);
        const int beyond = (given > low ? given : low) + 1;
        const int level = level_of(beyond - low), step = 1 << (2 * level), last = beyond - step;
        for (int row = threadIdx.y; row < used; row += blockDim.y) {
            const Stored* entries = table + (row * levels + level) * length;
            const Stored first = table[row * levels * length + low];
            Stored best = entries[low];
            for (int part = 1; part < 4; ++part) {
                const int at = low + part * step;
                best = larger<Type>(best, entries[at < last ? at : last]);
            }
            const float start = Type::widen(first);
            pooled[(image + row) * count + n] = start != start ? first : best;
        }
    }
}

#define KERNEL(name, Type)                                                                                           \
    extern "C" __global__ void name(const Type::Stored* features, const float* regions, int channels, int length,    \
                                    int count, int rows, Type::Stored* pooled) {                                      \
        pool<Type>(features, regions, channels, length, count, rows, pooled);                                        \
    }

#if !defined(ONLY_PRECISION) || ONLY_PRECISION == 32
KERNEL(boundary_max_pooling_fp32, Single)
#endif
#if !defined(ONLY_PRECISION) || ONLY_PRECISION == 16
KERNEL(boundary_max_pooling_fp16, Half)
#endif
#if !defined(ONLY_PRECISION) || ONLY_PRECISION == 8
KERNEL(boundary_max_pooling_bf16, Brain)
#endif
