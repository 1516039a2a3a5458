// Boundary max pooling (AFSD section 3.3): features [B,C,T] and regions [B,N,4] float32 → pooled [B,C,N].
//
// Semantics are those of the loop in training/afsd/boundary_pooling.py: cells by truncation, clamped to [0,T-1], both
// ends included, a reversed region reads its first cell, a NaN bound reads cell 0, and of equal values the first wins.
// A NaN feature is the result only where it is the region's first cell; elsewhere it never is the larger one.
//
// Layout. A block takes `rows` neighbouring channels of one half, which lie together in memory: its input is one run of
// rows·T elements and its output one run of rows·N, so both are coalesced however short T and N are. The tile is about
// 4 KiB, one 16-byte load for each of 256 threads. In shared memory it grows into doubling tables (table k holds the
// maximum of 2^k cells from each cell on), and an output is two look-ups, whatever its region's width: threads of a
// warp do not wait for the widest region. The tables are built over the flat tile: entries that reach into the next row
// are filled, but no region asks for them, so no pass needs to know where a row ends. Regions are read once per block.
// Rows that are too long for all tables get fewer of them, and wide regions take more steps of the widest one.
// docs/plugin.md gives the traffic; export/boundary_pooling/launch.py computes it, `rows` and `tables`.
//
// Values are compared as sign and magnitude, an exact order of any IEEE format: no conversion, no CUDA header.

extern __shared__ uint4 boundary_shared[];  // [blockDim.x] regions' cells, then `tables` tables of rows·T elements

// Order of the number in `bits`: -0 equals +0, and NaN is below everything.
template <typename Word, int infinity>
__device__ __forceinline__ int order(Word bits) {
    const Word sign = static_cast<Word>(Word(1) << (8 * sizeof(Word) - 1));
    const int magnitude = static_cast<int>(bits & static_cast<Word>(sign - 1));
    if (magnitude > infinity) return -infinity - 1;
    return bits & sign ? -magnitude : magnitude;
}

// The larger of two; the first of equals.
template <typename Word, int infinity>
__device__ __forceinline__ Word larger(Word first, Word second) {
    return order<Word, infinity>(second) > order<Word, infinity>(first) ? second : first;
}

__device__ __forceinline__ unsigned int cell_of(float bound, int cells) {
    const float last = static_cast<float>(cells - 1);
    if (!(bound > 0.0f)) return 0;  // NaN too
    return bound < last ? static_cast<unsigned int>(bound) : static_cast<unsigned int>(cells - 1);
}

// First and last cell of this thread's region, 16 bits each, into shared memory; `end` picks the end's pair.
__device__ __forceinline__ void read_region(const float4* regions, int count, int base, bool end, int cells,
                                            unsigned int* spans) {
    const int n = base + static_cast<int>(threadIdx.x);
    if (n >= count) return;
    const float4 region = regions[static_cast<long long>(blockIdx.y) * count + n];
    const unsigned int low = cell_of(end ? region.z : region.x, cells);
    const unsigned int high = cell_of(end ? region.w : region.y, cells);
    spans[threadIdx.x] = low << 16 | (high > low ? high : low);
}

// The tile from global to shared memory: 16 bytes a thread where its size and place allow.
template <typename Word>
__device__ __forceinline__ void stage(const Word* features, Word* table, int tile) {
    const int per_load = sizeof(uint4) / sizeof(Word);
    if (tile % per_load == 0 && reinterpret_cast<unsigned long long>(features) % sizeof(uint4) == 0) {
        const uint4* from = reinterpret_cast<const uint4*>(features);
        uint4* to = reinterpret_cast<uint4*>(table);
        for (int i = threadIdx.x; i < tile / per_load; i += blockDim.x) to[i] = from[i];
    } else {
        for (int i = threadIdx.x; i < tile; i += blockDim.x) table[i] = features[i];
    }
}

template <typename Word, int infinity>
__device__ __forceinline__ void build_tables(Word* table, int tile, int tables) {
    for (int k = 1; k < tables; ++k) {
        const int reach = 1 << (k - 1);
        const Word* below = table + (k - 1) * tile;
        Word* above = table + k * tile;
        for (int i = threadIdx.x; i + 2 * reach <= tile; i += blockDim.x)
            above[i] = larger<Word, infinity>(below[i], below[i + reach]);
        __syncthreads();
    }
}

// Maximum over the cells of `span` in the row that begins at `row` of the tile.
template <typename Word, int infinity>
__device__ __forceinline__ Word answer(const Word* table, int tile, int tables, int row, unsigned int span) {
    const int low = row + static_cast<int>(span >> 16), beyond = row + static_cast<int>(span & 0xffffu) + 1;
    const Word first = table[low];
    if (order<Word, infinity>(first) < -infinity) return first;  // a NaN in the first cell stays
    int k = 31 - __clz(beyond - low);
    if (k >= tables) k = tables - 1;
    const int step = 1 << k;
    const Word* widest = table + k * tile;
    Word best = widest[low];
    for (int t = low + step; t + step < beyond; t += step) best = larger<Word, infinity>(best, widest[t]);
    return larger<Word, infinity>(best, widest[beyond - step]);
}

template <typename Word, int infinity>
__device__ __forceinline__ void pool(const Word* features, const float4* regions, int channels, int cells, int count,
                                     int rows, int tables, Word* pooled) {
    unsigned int* spans = reinterpret_cast<unsigned int*>(boundary_shared);
    Word* table = reinterpret_cast<Word*>(spans + blockDim.x);
    const int threads = static_cast<int>(blockDim.x), tile = rows * cells;
    const int channel = static_cast<int>(blockIdx.x) * rows;
    const long long row = static_cast<long long>(blockIdx.y) * channels + channel;
    const bool end = channel >= channels / 2;
    stage(features + row * cells, table, tile);
    read_region(regions, count, 0, end, cells, spans);
    __syncthreads();
    build_tables<Word, infinity>(table, tile, tables);
    for (int base = 0; base < count; base += threads) {
        if (base) {  // only with more regions than threads
            __syncthreads();
            read_region(regions, count, base, end, cells, spans);
            __syncthreads();
        }
        const int chunk = count - base < threads ? count - base : threads;
        for (int i = threadIdx.x; i < rows * chunk; i += threads) {
            const int r = i / chunk, n = i - r * chunk;
            pooled[(row + r) * count + base + n] =
                answer<Word, infinity>(table, tile, tables, r * cells, spans[n]);
        }
    }
}

// One entry per type: TensorRT passes inputs, then the scalars of the plugin, then outputs.
#define BOUNDARY_MAX_POOLING(type, Word, infinity)                                                                    \
    extern "C" __global__ void __launch_bounds__(256) boundary_max_pooling_##type(                                    \
        const Word* features, const float4* regions, int channels, int cells, int count, int rows, int tables,        \
        Word* pooled) {                                                                                               \
        pool<Word, infinity>(features, regions, channels, cells, count, rows, tables, pooled);                        \
    }

#ifdef BOUNDARY_FP32
BOUNDARY_MAX_POOLING(fp32, unsigned int, 0x7f800000)
#endif
#ifdef BOUNDARY_FP16
BOUNDARY_MAX_POOLING(fp16, unsigned short, 0x7c00)
#endif
#ifdef BOUNDARY_BF16
BOUNDARY_MAX_POOLING(bf16, unsigned short, 0x7f80)
#endif
