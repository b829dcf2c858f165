// Both views of one image that lies on the device: crops, and the antialiased global view.
//
// The same numbers as glass_rt/image: crops are copied and padded with zeros at the bottom and right; the global view
// is the separable triangle filter whose support grows with the scale (PyTorch's interpolate(mode="bilinear",
// antialias=True)), summed in float32. Off by default; run on an H100 (benchmarks/results/gpu_hour).
//
// Compiled by nvcc of CUDA 13 (Makefile, target `kernels`), and on a GPU that refuses that by NVRTC (see nvrtc.py).
#ifdef __CUDACC_RTC__  // which has no headers
using uint8_t = unsigned char;
using int64_t = long long;
#else
#include <cstdint>
#endif

// image: uint8 (height, width, 3). boxes: int32 (crops, 4) of left, top, valid width, valid height.
// out: uint8 (crops, size, size, 3). One thread per byte of output: grid (ceil(size * size * 3 / block), crops).
extern "C" __global__ void gather_crops(const uint8_t* __restrict__ image, int width, const int* __restrict__ boxes,
                                        int size, uint8_t* __restrict__ out) {
  const int byte = blockIdx.x * blockDim.x + threadIdx.x;
  if (byte >= size * size * 3) return;
  const int* box = boxes + 4 * blockIdx.y;
  const int row = byte / (size * 3);
  const int column = (byte / 3) % size;
  const bool inside = row < box[3] && column < box[2];
  const int64_t source = (static_cast<int64_t>(box[1] + row) * width + box[0] + column) * 3 + byte % 3;
  out[static_cast<int64_t>(blockIdx.y) * size * size * 3 + byte] = inside ? image[source] : 0;
}

// taps, of one axis: int32 (size, 3), for each output pixel its first source pixel, the number of those that it takes,
// and where their weights begin in what follows: float32, and the weights of an output pixel sum to 1. The host computes
// them in double, as glass_rt/image/resize.py does, which would take desktop cards up to 64 times as long.
struct Taps {
  int first, count;
  const float* __restrict__ weights;
};

__device__ inline Taps taps_of(const int* taps, int size, int index) {
  const int* tap = taps + 3 * index;
  return {tap[0], tap[1], reinterpret_cast<const float*>(taps + 3 * size) + tap[2]};
}

// First pass, over rows: image (height, width, 3) -> rows float32 (size, width, 3). Grid (ceil(width*3/block), size).
extern "C" __global__ void reduce_rows(const uint8_t* __restrict__ image, int width, int size,
                                       const int* __restrict__ taps, float* __restrict__ rows) {
  const int cell = blockIdx.x * blockDim.x + threadIdx.x;
  if (cell >= width * 3) return;
  const Taps of = taps_of(taps, size, blockIdx.y);
  const uint8_t* column = image + static_cast<int64_t>(of.first) * width * 3 + cell;
  float sum = 0.0f;
  for (int row = 0; row < of.count; ++row) sum += of.weights[row] * column[static_cast<int64_t>(row) * width * 3];
  rows[static_cast<int64_t>(blockIdx.y) * width * 3 + cell] = sum;
}

// Second pass, over columns: rows (size, width, 3) -> view float32 (size, size, 3). Grid (ceil(size*3/block), size).
extern "C" __global__ void reduce_columns(const float* __restrict__ rows, int width, int size,
                                          const int* __restrict__ taps, float* __restrict__ view) {
  const int cell = blockIdx.x * blockDim.x + threadIdx.x;
  if (cell >= size * 3) return;
  const Taps of = taps_of(taps, size, cell / 3);
  const float* row = rows + (static_cast<int64_t>(blockIdx.y) * width + of.first) * 3 + cell % 3;
  float sum = 0.0f;
  for (int column = 0; column < of.count; ++column) sum += of.weights[column] * row[column * 3];
  view[static_cast<int64_t>(blockIdx.y) * size * 3 + cell] = sum;
}
