// The pooling kernel on the host: CUDA threads are real threads, __syncthreads a real barrier, a block's shared memory a
// heap block of exactly the size that is asked for, filled with garbage. So an address sanitizer sees every read or
// write outside, and a thread sanitizer every missing barrier.
//
// Usage: host_kernel CASES RESULTS. A case is 10 int32 (type, B, C, T, N, rows, tiles, threads across, threads down, shared
// bytes), then features, then regions; its result is the output.

#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

struct Index { unsigned x, y, z; };
static thread_local Index threadIdx, blockIdx, blockDim;
static thread_local std::barrier<>* meeting;
static thread_local char* block_memory;

#define __device__
#define __global__
#define __syncthreads() meeting->arrive_and_wait()
#define SHARED_MEMORY(Element, name) Element* name = reinterpret_cast<Element*>(block_memory)

#include KERNEL_SOURCE

template <typename Stored, typename Kernel>
static void launch(const std::vector<int>& h, Kernel kernel, const void* features, const float* regions, void* pooled) {
    const int batch = h[1], tiles = h[6], across = h[7], down = h[8], shared = h[9];
    char* memory = nullptr;
    std::barrier<> together(across * down);
    std::vector<std::thread> threads;
    for (int y = 0; y < down; ++y)
        for (int x = 0; x < across; ++x)
            threads.emplace_back([&, x, y] {
                threadIdx = {unsigned(x), unsigned(y), 0};
                blockDim = {unsigned(across), unsigned(down), 1};
                meeting = &together;
                for (int block = 0; block < tiles * 2 * batch; ++block) {
                    blockIdx = {unsigned(block % tiles), unsigned(block / tiles % 2), unsigned(block / tiles / 2)};
                    if (x == 0 && y == 0) {
                        memory = static_cast<char*>(std::malloc(shared));
                        std::memset(memory, 0x7c, shared);
                    }
                    together.arrive_and_wait();
                    block_memory = memory;
                    kernel(static_cast<const Stored*>(features), regions, h[2], h[3], h[4], h[5],
                           static_cast<Stored*>(pooled));
                    together.arrive_and_wait();
                    if (x == 0 && y == 0) std::free(memory);
                }
            });
    for (std::thread& thread : threads) thread.join();
}

int main(int, char** arguments) {
    std::FILE* cases = std::fopen(arguments[1], "rb");
    std::FILE* results = std::fopen(arguments[2], "wb");
    std::vector<int> h(10);
    while (std::fread(h.data(), sizeof(int), 10, cases) == 10) {
        const size_t item = h[0] == 32 ? 4 : 2;
        const size_t inputs = size_t(h[1]) * h[2] * h[3] * item, outputs = size_t(h[1]) * h[2] * h[4] * item;
        char* features = static_cast<char*>(std::malloc(inputs));
        float* regions = static_cast<float*>(std::malloc(size_t(h[1]) * h[4] * 16));
        char* pooled = static_cast<char*>(std::malloc(outputs));
        if (std::fread(features, 1, inputs, cases) != inputs) return 3;
        if (std::fread(regions, 16, size_t(h[1]) * h[4], cases) != size_t(h[1]) * h[4]) return 3;
        std::memset(pooled, 0x5a, outputs);
        if (h[0] == 32) launch<float>(h, boundary_max_pooling_fp32, features, regions, pooled);
        if (h[0] == 16) launch<unsigned short>(h, boundary_max_pooling_fp16, features, regions, pooled);
        if (h[0] == 8) launch<unsigned short>(h, boundary_max_pooling_bf16, features, regions, pooled);
        std::fwrite(pooled, 1, outputs, results);
        std::free(features);
        std::free(regions);
        std::free(pooled);
    }
    std::fclose(cases);
    return std::fclose(results);
}
