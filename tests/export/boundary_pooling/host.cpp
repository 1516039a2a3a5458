// The CUDA kernel built for the host: every CUDA thread of a block is a thread, __syncthreads is a barrier.
// Usage: host CASE OUTPUT. CASE: int32 batch, channels, cells, count, rows, tables, threads, shared bytes; features;
// regions float32. Shared memory behind what the launch asks for is poisoned where AddressSanitizer is built in.
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

struct alignas(16) uint4 { unsigned int x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct Index { unsigned int x, y, z; };
static thread_local Index threadIdx;
static Index blockIdx, blockDim;
static pthread_barrier_t barrier;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__
#define __syncthreads() pthread_barrier_wait(&barrier)
#define __clz(value) __builtin_clz(static_cast<unsigned int>(value))

#include "kernel.cu"

uint4 boundary_shared[48 * 1024 / sizeof(uint4)];

#if defined(BOUNDARY_FP32)
typedef unsigned int Word;
#define KERNEL boundary_max_pooling_fp32
#elif defined(BOUNDARY_FP16)
typedef unsigned short Word;
#define KERNEL boundary_max_pooling_fp16
#else
typedef unsigned short Word;
#define KERNEL boundary_max_pooling_bf16
#endif

template <typename Item>
static std::vector<Item> read(std::FILE* file, size_t count) {
    std::vector<Item> items(count);
    if (std::fread(items.data(), sizeof(Item), count, file) != count) std::exit(3);
    return items;
}

int main(int, char** arguments) {
    std::FILE* file = std::fopen(arguments[1], "rb");
    const std::vector<int> sizes = read<int>(file, 8);
    const int batch = sizes[0], channels = sizes[1], cells = sizes[2], count = sizes[3], rows = sizes[4];
    const int tables = sizes[5], threads = sizes[6];
    const size_t shared = sizes[7];
    const std::vector<Word> features = read<Word>(file, size_t(batch) * channels * cells);
    const std::vector<float4> regions = read<float4>(file, size_t(batch) * count);
    std::vector<Word> pooled(size_t(batch) * channels * count, Word(0x1234));
    std::fclose(file);
    if (shared > sizeof boundary_shared || channels % rows) return 4;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(reinterpret_cast<char*>(boundary_shared) + shared, sizeof boundary_shared - shared);
#endif
    blockDim = {unsigned(threads), 1, 1};
    for (unsigned y = 0; y < unsigned(batch); ++y)
        for (unsigned x = 0; x < unsigned(channels / rows); ++x) {
            blockIdx = {x, y, 0};
            std::memset(static_cast<void*>(boundary_shared), 0xff, shared);  // a NaN in every cell not yet written
            pthread_barrier_init(&barrier, nullptr, threads);
            std::vector<std::thread> block;
            for (int t = 0; t < threads; ++t)
                block.emplace_back([&, t] {
                    threadIdx = {unsigned(t), 0, 0};
                    KERNEL(features.data(), regions.data(), channels, cells, count, rows, tables, pooled.data());
                });
            for (std::thread& thread : block) thread.join();
            pthread_barrier_destroy(&barrier);
        }
    std::FILE* output = std::fopen(arguments[2], "wb");
    std::fwrite(pooled.data(), sizeof(Word), pooled.size(), output);
    return std::fclose(output);
}
