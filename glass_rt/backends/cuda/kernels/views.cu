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

// The filter of one output pixel along one axis: its first source pixel, one past its last, centre and 1 / support.
// In double, as glass_rt/image/resize.py: the bounds must not depend on the precision. (ATen and Pillow agree on them.)
__device__ inline void taps(int length, int size, int index, int* first, int* stop, double* centre, double* inverse) {
  const double scale = static_cast<double>(length) / size;
  const double support = scale > 1.0 ? scale : 1.0;
  *centre = scale * (index + 0.5);
  *inverse = 1.0 / support;
  *first = max(static_cast<int>(*centre - support + 0.5), 0);
  *stop = min(static_cast<int>(*centre + support + 0.5), length);
}

__device__ inline float weight(int position, double centre, double inverse) {
  const double distance = fabs((position - centre + 0.5) * inverse);
  return distance < 1.0 ? static_cast<float>(1.0 - distance) : 0.0f;
}

// First pass, over rows: image (height, width, 3) -> rows float32 (size, width, 3). Grid (ceil(width*3/block), size).
extern "C" __global__ void reduce_rows(const uint8_t* __restrict__ image, int height, int width, int size,
                                       float* __restrict__ rows) {
  const int cell = blockIdx.x * blockDim.x + threadIdx.x;
  if (cell >= width * 3) return;
  int first, stop;
  double centre, inverse;
  taps(height, size, blockIdx.y, &first, &stop, &centre, &inverse);
  float sum = 0.0f, total = 0.0f;
  for (int row = first; row < stop; ++row) {
    const float share = weight(row, centre, inverse);
    sum += share * image[static_cast<int64_t>(row) * width * 3 + cell];
    total += share;
  }
  rows[static_cast<int64_t>(blockIdx.y) * width * 3 + cell] = sum / total;
}

// Second pass, over columns: rows (size, width, 3) -> view float32 (size, size, 3). Grid (ceil(size*3/block), size).
extern "C" __global__ void reduce_columns(const float* __restrict__ rows, int width, int size,
                                          float* __restrict__ view) {
  const int cell = blockIdx.x * blockDim.x + threadIdx.x;
  if (cell >= size * 3) return;
  int first, stop;
  double centre, inverse;
  taps(width, size, cell / 3, &first, &stop, &centre, &inverse);
  const float* row = rows + static_cast<int64_t>(blockIdx.y) * width * 3;
  float sum = 0.0f, total = 0.0f;
  for (int column = first; column < stop; ++column) {
    const float share = weight(column, centre, inverse);
    sum += share * row[column * 3 + cell % 3];
    total += share;
  }
  view[static_cast<int64_t>(blockIdx.y) * size * 3 + cell] = sum / total;
}
