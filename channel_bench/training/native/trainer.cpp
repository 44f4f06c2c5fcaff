// Trains one small network of either family on one CPU core, from initial weights to learning curves in one call.
//
// A tiny network spends a framework's time between the operations, not in them. Here the batch is the innermost
// dimension: sixteen images side by side in two vectors of eight floats, so a weight is one broadcast, every width is
// served without padding, and nothing depends on which other networks are trained. Blocks of sixteen images go through
// an operation one after the other and mostly stay in the cache.
//
// Vectors are eight floats on every machine, and sums are taken in the same order on every machine.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

namespace {

constexpr int kLanes = 16;  // images of a block
constexpr float kEpsilon = 1e-5f;  // of batch normalisation, as PyTorch's default
constexpr double kStatisticsMomentum = 0.1;

typedef float Vector __attribute__((vector_size(32)));

struct Images {  // one value of each of sixteen images
  Vector low, high;
};

Images operator+(const Images& a, const Images& b) { return {a.low + b.low, a.high + b.high}; }
Images operator*(const Images& a, const Images& b) { return {a.low * b.low, a.high * b.high}; }
Images operator*(float s, const Images& a) { return {s * a.low, s * a.high}; }
void operator+=(Images& a, const Images& b) { a = a + b; }
Images filled(float value) { return {Vector{} + value, Vector{} + value}; }
float& lane(Images& images, int i) { return reinterpret_cast<float*>(&images)[i]; }
float lane(const Images& images, int i) { return reinterpret_cast<const float*>(&images)[i]; }

double total(const Images& images) {
  double sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += lane(images, i);
  return sum;
}

float total(const Vector& v) {
  return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

// Sums of values and of products, in two chains because an addition waits for the one before it.
struct Moments {
  Images sum[2], product[2];
  Moments() {
    for (int i = 0; i < 2; ++i) sum[i] = product[i] = filled(0);
  }
  void add(int chain, const Images& value, const Images& other) {
    sum[chain] += value;
    product[chain] += value * other;
  }
  double total_sum() const { return total(sum[0] + sum[1]); }
  double total_product() const { return total(product[0] + product[1]); }
};

struct Buffer {  // zeroed, aligned
  explicit Buffer(size_t count) : data(static_cast<Images*>(std::aligned_alloc(64, bytes(count)))) {
    if (!data) throw std::bad_alloc();
    std::memset(static_cast<void*>(data.get()), 0, bytes(count));
  }
  static size_t bytes(size_t count) { return (std::max<size_t>(count, 1) * sizeof(Images) + 63) / 64 * 64; }
  struct Free {
    void operator()(Images* p) const { std::free(p); }
  };
  std::unique_ptr<Images, Free> data;
  Images* operator+(size_t offset) const { return data.get() + offset; }
};

// Convolution of one block: out[co] (+)= sum over ci, ky, kx of w[co][ci][ky][kx] * in[ci]. `in` points at the value that
// the first weight of the first pixel meets, and 3x3 finds a border of one pixel around the image. CO output channels
// and X neighbouring pixels are summed in registers. What would only multiply the border's zeros is left out, which is
// half of the work where an image has shrunk to 2x2: rows always, columns where X pixels are a whole row (FULL).
template <int K, int S, int CO, int X, bool FULL>
void conv_tiles(const Images* in, int plane, int row, const float* weights, int cin, Images* out, int size, bool add) {
  const int per_output = cin * K * K;
  for (int y = 0; y < size; ++y) {
    const int first_ky = K == 3 && y == 0 ? 1 : 0;
    const int end_ky = K == 3 && S == 1 && y == size - 1 ? 2 : K;
    for (int x0 = 0; x0 < (FULL ? 1 : size); x0 += X) {
      Vector low[CO][X], high[CO][X];
#pragma GCC unroll 8
      for (int co = 0; co < CO; ++co) {
#pragma GCC unroll 8
        for (int x = 0; x < X; ++x) {
          const Images& old = out[(co * size + y) * size + x0 + x];
          low[co][x] = add ? old.low : Vector{};
          high[co][x] = add ? old.high : Vector{};
        }
      }
      const Images* corner = in + y * S * row + x0 * S;
      for (int ci = 0; ci < cin; ++ci, corner += plane) {
        for (int ky = first_ky; ky < end_ky; ++ky) {
          const float* w = weights + (ci * K + ky) * K;
#pragma GCC unroll 8
          for (int kx = 0; kx < K; ++kx) {
#pragma GCC unroll 8
            for (int x = 0; x < X; ++x) {
              if (FULL && K == 3 && (x * S + kx == 0 || x * S + kx == X * S + 1)) continue;
              const Images& value = corner[ky * row + kx + x * S];
#pragma GCC unroll 8
              for (int co = 0; co < CO; ++co) {
                low[co][x] += w[co * per_output + kx] * value.low;
                high[co][x] += w[co * per_output + kx] * value.high;
              }
            }
          }
        }
      }
#pragma GCC unroll 8
      for (int co = 0; co < CO; ++co) {
#pragma GCC unroll 8
        for (int x = 0; x < X; ++x) out[(co * size + y) * size + x0 + x] = {low[co][x], high[co][x]};
      }
    }
  }
}

template <int K, int S>
void conv(const Images* in, int plane, int row, const float* w, int cin, int cout, Images* out, int size, bool add) {
  // As many sums as there are registers: twelve of the sixteen, two to a pixel and channel.
  for (int co = 0; co < cout;) {
    const int left = cout - co;
    const float* weights = w + co * cin * K * K;
    Images* to = out + co * size * size;
    if (K == 3 && size == 4) {
      conv_tiles<K, S, 1, 4, true>(in, plane, row, weights, cin, to, size, add);
      co += 1;
    } else if (K == 3 && size == 2) {
      if (left == 1) {
        conv_tiles<K, S, 1, 2, true>(in, plane, row, weights, cin, to, size, add);
        co += 1;
      } else if (left == 2 || left == 4) {
        conv_tiles<K, S, 2, 2, true>(in, plane, row, weights, cin, to, size, add);
        co += 2;
      } else {
        conv_tiles<K, S, 3, 2, true>(in, plane, row, weights, cin, to, size, add);
        co += 3;
      }
    } else if (left == 1) {
      if (size % 4 == 0) {
        conv_tiles<K, S, 1, 4, false>(in, plane, row, weights, cin, to, size, add);
      } else if (K == 3 && size == 6) {
        conv_tiles<K, S, 1, 6, true>(in, plane, row, weights, cin, to, size, add);
      } else if (K == 3 && size == 3) {
        conv_tiles<K, S, 1, 3, true>(in, plane, row, weights, cin, to, size, add);
      } else if (size % 3 == 0) {
        conv_tiles<K, S, 1, 3, false>(in, plane, row, weights, cin, to, size, add);
      } else {
        conv_tiles<K, S, 1, 1, false>(in, plane, row, weights, cin, to, size, add);
      }
      co += 1;
    } else if (left == 3 || left == 5 || left == 6) {
      if (size % 2 == 0) {
        conv_tiles<K, S, 3, 2, false>(in, plane, row, weights, cin, to, size, add);
      } else {
        conv_tiles<K, S, 3, 1, false>(in, plane, row, weights, cin, to, size, add);
      }
      co += 3;
    } else if (left == 2) {
      if (size % 2 == 0) {
        conv_tiles<K, S, 2, 2, false>(in, plane, row, weights, cin, to, size, add);
      } else {
        conv_tiles<K, S, 2, 1, false>(in, plane, row, weights, cin, to, size, add);
      }
      co += 2;
    } else {
      conv_tiles<K, S, 4, 1, false>(in, plane, row, weights, cin, to, size, add);
      co += 4;
    }
  }
}

// Gradient of 3x3 weights of one pair of channels over one block, added to nine sums.
template <int S>
void weight_gradient_3x3(const Images* grad, int grad_row, const Images* in, int row, int size, Vector* sums) {
  Vector acc[9];
#pragma GCC unroll 9
  for (int k = 0; k < 9; ++k) acc[k] = sums[k];
  for (int y = 0; y < size; ++y) {
    const Images* g = grad + y * S * grad_row;
    const Images* corner = in + y * S * row;
    for (int x = 0; x < size; ++x, g += S, corner += S) {
      const Images value = *g;
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) acc[k] += value.low * corner[k / 3 * row + k % 3].low;
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) acc[k] += value.high * corner[k / 3 * row + k % 3].high;
    }
  }
#pragma GCC unroll 9
  for (int k = 0; k < 9; ++k) sums[k] = acc[k];
}

// The same without stride for images of SIZE x SIZE, leaving out what meets the border.
template <int SIZE>
void weight_gradient_small(const Images* grad, int grad_row, const Images* in, int row, Vector* sums) {
  Vector acc[9];
#pragma GCC unroll 9
  for (int k = 0; k < 9; ++k) acc[k] = sums[k];
#pragma GCC unroll 4
  for (int y = 0; y < SIZE; ++y) {
#pragma GCC unroll 4
    for (int x = 0; x < SIZE; ++x) {
      const Images value = grad[y * grad_row + x];
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) {
        const int from_y = y + k / 3, from_x = x + k % 3;
        if (from_y < 1 || from_y > SIZE || from_x < 1 || from_x > SIZE) continue;
        acc[k] += value.low * in[from_y * row + from_x].low;
        acc[k] += value.high * in[from_y * row + from_x].high;
      }
    }
  }
#pragma GCC unroll 9
  for (int k = 0; k < 9; ++k) sums[k] = acc[k];
}

// Gradient of 1x1 weights of CO x CI pairs of channels over one block, added to one sum each.
template <int CO, int CI>
void weight_gradient_1x1(const Images* grad, const Images* in, int plane, int row, int size, Vector* sums, int cin) {
  Vector acc[CO][CI];
#pragma GCC unroll 4
  for (int co = 0; co < CO; ++co) {
#pragma GCC unroll 4
    for (int ci = 0; ci < CI; ++ci) acc[co][ci] = sums[co * cin + ci];
  }
  for (int y = 0; y < size; ++y, in += row) {
    for (int x = 0; x < size; ++x, ++grad) {
#pragma GCC unroll 4
      for (int co = 0; co < CO; ++co) {
        const Images value = grad[co * size * size];
#pragma GCC unroll 4
        for (int ci = 0; ci < CI; ++ci) {
          acc[co][ci] += value.low * in[ci * plane + x].low;
          acc[co][ci] += value.high * in[ci * plane + x].high;
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int co = 0; co < CO; ++co) {
#pragma GCC unroll 4
    for (int ci = 0; ci < CI; ++ci) sums[co * cin + ci] = acc[co][ci];
  }
}

}  // namespace

extern "C" {

// A convolution with its batch normalisation, perhaps a skip connection, perhaps a ReLU after both.
struct UnitSpec {
  int32_t input;      // number of the unit whose output it reads, -1 for the images
  int32_t skip;       // number of the unit whose output is added after normalisation, -1 for none
  int32_t kernel;     // 1 or 3
  int32_t stride;     // 1 or 2
  int32_t depthwise;  // 0 or 1
  int32_t cin, cout;
  int32_t relu;  // 0 or 1
};

struct TrainSpec {
  int32_t num_units, num_classes, image_channels, image_size;
  int32_t num_train, num_test, epochs, batch_size, crop_padding;
  float momentum, weight_decay;
};
}

namespace {

struct Unit {
  UnitSpec spec;
  int size, in_size;     // pixels along an edge, out and in
  int pad, row, plane;   // of the output, which has a border where a 3x3 convolution reads it
  int in_row, in_plane;  // of the input
  int in_first;          // where in the input a convolution begins
  int grad_row, grad_plane, grad_first;  // of the gradient before normalisation, as large as the input
  bool adds_gradient = false;   // to what the input's skip connection left, instead of setting it
  bool first_reader = true;     // of its input, so the last that its gradient comes from
  bool skipped = false;         // whether a skip connection reads the output
  bool pending = false;         // whether the output has still to be made from `before`
  size_t num_weights;
  float *weights, *gamma, *beta, *grad_weights, *grad_gamma, *grad_beta;
  std::vector<float> flipped;  // weights of the convolution that propagates gradients
  std::vector<float> mean, inverse_std, running_mean, running_var, scale, shift;
  std::vector<Vector> weight_sums;
  std::vector<double> grad_sum, grad_product;
  Buffer before, output, grad_output;  // before normalisation; after everything; gradient of the output
  Buffer grad_before;                  // of one block; with stride 2 spread over every other pixel

  Unit(const UnitSpec& s, int in, int in_pad, int out_pad, int blocks)
      : spec(s),
        size((in - 1) / s.stride + 1),
        in_size(in),
        pad(out_pad),
        row(size + 2 * out_pad),
        plane(row * row),
        in_row(in + 2 * in_pad),
        in_plane(in_row * in_row),
        in_first((in_pad - s.kernel / 2) * (in_row + 1)),
        grad_row(in + s.kernel - 1),
        grad_plane(grad_row * grad_row),
        grad_first(s.kernel / 2 * (grad_row + 1)),
        num_weights(size_t(s.cout) * (s.depthwise ? 1 : s.cin) * s.kernel * s.kernel),
        flipped(num_weights),
        mean(s.cout),
        inverse_std(s.cout),
        running_mean(s.cout, 0.0f),
        running_var(s.cout, 1.0f),
        scale(s.cout),
        shift(s.cout),
        weight_sums(num_weights),
        grad_sum(s.cout),
        grad_product(s.cout),
        before(size_t(blocks) * s.cout * size * size),
        output(size_t(blocks) * s.cout * plane),
        grad_output(size_t(blocks) * s.cout * size * size),
        grad_before(size_t(s.cout) * grad_plane) {}

  void clear_sums() {
    std::fill(grad_sum.begin(), grad_sum.end(), 0.0);
    std::fill(grad_product.begin(), grad_product.end(), 0.0);
  }
  int pixels() const { return size * size; }
  Images* before_of(int block) const { return before + size_t(block) * spec.cout * pixels(); }
  Images* output_of(int block) const { return output + size_t(block) * spec.cout * plane; }
  Images* grad_of(int block) const { return grad_output + size_t(block) * spec.cout * pixels(); }
};

class Network {
 public:
  Network(const TrainSpec& spec, const UnitSpec* units, float* parameters)
      : spec_(spec), blocks_(spec.batch_size / kLanes), parameters_(parameters) {
    for (int u = 0; u < spec.num_units; ++u) {
      int pad = 0;
      for (int v = u + 1; v < spec.num_units; ++v) pad |= units[v].input == u && units[v].kernel == 3;
      const Unit* source = units[u].input < 0 ? nullptr : &units_[units[u].input];
      units_.emplace_back(units[u], source ? source->size : spec.image_size, source ? source->pad : 1, pad, blocks_);
    }
    for (Unit& unit : units_) {
      if (unit.spec.skip >= 0) units_[unit.spec.skip].skipped = true;
    }
    for (int u = 0; u < spec.num_units; ++u) {
      const int input = units[u].input;
      units_[u].adds_gradient = input >= 0 && units_[input].skipped;
      for (int v = 0; v < u; ++v) units_[u].first_reader &= units[v].input != input;
    }
    for (const Unit& unit : units_) num_parameters_ += unit.num_weights + 2 * unit.spec.cout;
    features_ = units_.back().spec.cout;
    num_parameters_ += size_t(spec.num_classes) * (features_ + 1);
    gradient_.resize(num_parameters_);
    momentum_.resize(num_parameters_);
    float *p = parameters, *g = gradient_.data();
    auto take = [&](size_t count, float*& value, float*& grad) {
      value = p, grad = g;
      p += count, g += count;
    };
    for (Unit& unit : units_) {
      take(unit.num_weights, unit.weights, unit.grad_weights);
      take(unit.spec.cout, unit.gamma, unit.grad_gamma);
      take(unit.spec.cout, unit.beta, unit.grad_beta);
    }
    take(size_t(spec.num_classes) * features_, classifier_, grad_classifier_);
    take(spec.num_classes, bias_, grad_bias_);
    pooled_.resize(features_);
    logits_.resize(spec.num_classes);
  }

  struct Sums {
    double loss = 0;
    int64_t correct = 0;
  };

  // One step of SGD on `blocks` blocks of padded images.
  void step(const Images* images, int blocks, const int32_t* labels, float lr, Sums& sums) {
    for (Unit& unit : units_) forward(unit, images, blocks);
    std::fill(gradient_.begin(), gradient_.end(), 0.0f);
    classify(blocks, labels, sums);
    for (int u = spec_.num_units - 1; u >= 0; --u) backward(units_[u], images, blocks);
    update(lr);
  }

  // Loss and hits of num_images images with the running statistics; every block goes through the whole network.
  Sums evaluate(const Images* images, const int32_t* labels, int num_images) {
    for (Unit& unit : units_) {
      for (int c = 0; c < unit.spec.cout; ++c) {
        unit.scale[c] = unit.gamma[c] / std::sqrt(unit.running_var[c] + kEpsilon);
        unit.shift[c] = unit.beta[c] - unit.running_mean[c] * unit.scale[c];
      }
    }
    Sums sums;
    const size_t block_size = size_t(spec_.image_channels) * units_[0].in_plane;
    for (int start = 0; start < num_images; start += kLanes, images += block_size) {
      for (Unit& unit : units_) {
        convolve(unit, images, 0);
        normalise(unit, 0);
      }
      pool(0);
      const int valid = std::min(kLanes, num_images - start);
      softmax(labels + start, valid, sums);
    }
    return sums;
  }

  void copy_statistics(float* to) const {
    for (const Unit& unit : units_) {
      to = std::copy(unit.running_mean.begin(), unit.running_mean.end(), to);
      to = std::copy(unit.running_var.begin(), unit.running_var.end(), to);
    }
  }

  void set_statistics(const float* from) {
    for (Unit& unit : units_) {
      for (std::vector<float>* values : {&unit.running_mean, &unit.running_var}) {
        std::copy(from, from + unit.spec.cout, values->begin());
        from += unit.spec.cout;
      }
    }
  }

 private:
  const Images* input_of(const Unit& unit, const Images* images, int block) const {
    if (unit.spec.input < 0) return images + size_t(block) * spec_.image_channels * unit.in_plane;
    return units_[unit.spec.input].output_of(block);
  }

  void convolve(Unit& unit, const Images* images, int block) {
    const Images* in = input_of(unit, images, block) + unit.in_first;
    const UnitSpec& s = unit.spec;
    Images* out = unit.before_of(block);
    if (s.depthwise) {
      for (int c = 0; c < s.cout; ++c) {
        const Images* from = in + c * unit.in_plane;
        Images* to = out + c * unit.pixels();
        if (s.stride == 1) {
          conv<3, 1>(from, unit.in_plane, unit.in_row, unit.weights + 9 * c, 1, 1, to, unit.size, false);
        } else {
          conv<3, 2>(from, unit.in_plane, unit.in_row, unit.weights + 9 * c, 1, 1, to, unit.size, false);
        }
      }
    } else if (s.kernel == 1) {
      conv<1, 1>(in, unit.in_plane, unit.in_row, unit.weights, s.cin, s.cout, out, unit.size, false);
    } else if (s.stride == 1) {
      conv<3, 1>(in, unit.in_plane, unit.in_row, unit.weights, s.cin, s.cout, out, unit.size, false);
    } else {
      conv<3, 2>(in, unit.in_plane, unit.in_row, unit.weights, s.cin, s.cout, out, unit.size, false);
    }
  }

  // Up to the statistics; the output is made when it is first read, while the block is in the cache.
  void forward(Unit& unit, const Images* images, int blocks) {
    const int channels = unit.spec.cout, pixels = unit.pixels();
    Unit* source = unit.spec.input < 0 ? nullptr : &units_[unit.spec.input];
    const bool fresh = source && source->pending;
    moments_.assign(channels, Moments());
    for (int block = 0; block < blocks; ++block) {
      if (fresh) normalise(*source, block);
      convolve(unit, images, block);
      const Images* x = unit.before_of(block);
      for (int c = 0; c < channels; ++c) {
        Moments moments = moments_[c];
        int p = 0;
        for (; p + 2 <= pixels; p += 2, x += 2) {
          moments.add(0, x[0], x[0]);
          moments.add(1, x[1], x[1]);
        }
        for (; p < pixels; ++p, ++x) moments.add(0, *x, *x);
        moments_[c] = moments;
      }
    }
    if (fresh) source->pending = false;
    unit.pending = true;
    const double count = double(blocks) * kLanes * pixels;
    for (int c = 0; c < channels; ++c) {
      const double mean = moments_[c].total_sum() / count;
      const double var = std::max(0.0, moments_[c].total_product() / count - mean * mean);
      unit.mean[c] = float(mean);
      unit.inverse_std[c] = float(1 / std::sqrt(var + kEpsilon));
      unit.running_mean[c] += float(kStatisticsMomentum * (mean - unit.running_mean[c]));
      const double unbiased = count > 1 ? var * count / (count - 1) : var;
      unit.running_var[c] += float(kStatisticsMomentum * (unbiased - unit.running_var[c]));
      unit.scale[c] = unit.gamma[c] * unit.inverse_std[c];
      unit.shift[c] = unit.beta[c] - unit.mean[c] * unit.scale[c];
      // max(0.0, NaN) above would hide a divergence.
      if (!std::isfinite(mean)) unit.scale[c] = std::numeric_limits<float>::quiet_NaN();
    }
  }

  void normalise(Unit& unit, int block) {
    const Images* x = unit.before_of(block);
    Images* out = unit.output_of(block);
    const Unit* skip = unit.spec.skip < 0 ? nullptr : &units_[unit.spec.skip];
    const Vector zero{};
    for (int c = 0; c < unit.spec.cout; ++c) {
      const Images shift = filled(unit.shift[c]);
      const float scale = unit.scale[c];
      for (int y = 0; y < unit.size; ++y) {
        const int at = c * unit.plane + (y + unit.pad) * unit.row + unit.pad;
        const Images* line = nullptr;
        if (skip) line = skip->output_of(block) + c * skip->plane + (y + skip->pad) * skip->row + skip->pad;
        for (int i = 0; i < unit.size; ++i, ++x) {
          Images value = scale * *x + shift;
          if (skip) value += line[i];
          if (unit.spec.relu) {  // written so that NaN stays NaN
            value.low = value.low < zero ? zero : value.low;
            value.high = value.high < zero ? zero : value.high;
          }
          out[at + i] = value;
        }
      }
    }
  }

  void pool(int block) {
    const Unit& last = units_.back();
    const Images* out = last.output_of(block);
    for (int c = 0; c < features_; ++c) {
      Images sum = filled(0);
      for (int p = 0; p < last.pixels(); ++p) sum += out[c * last.plane + p];  // nothing reads it, so it has no border
      pooled_[c] = (1.0f / last.pixels()) * sum;
    }
    for (int k = 0; k < spec_.num_classes; ++k) {
      Images logit = filled(bias_[k]);
      for (int c = 0; c < features_; ++c) logit += classifier_[k * features_ + c] * pooled_[c];
      logits_[k] = logit;
    }
  }

  // Adds loss and hits of the first `valid` images of a block, and turns their logits into probabilities.
  void softmax(const int32_t* labels, int valid, Sums& sums) {
    for (int i = 0; i < valid; ++i) {
      int best = 0;
      for (int k = 1; k < spec_.num_classes; ++k) {
        if (lane(logits_[k], i) > lane(logits_[best], i)) best = k;
      }
      const float top = lane(logits_[best], i), own = lane(logits_[labels[i]], i);
      float sum = 0;
      for (int k = 0; k < spec_.num_classes; ++k) {
        float& value = lane(logits_[k], i);
        value = std::exp(value - top);
        sum += value;
      }
      for (int k = 0; k < spec_.num_classes; ++k) lane(logits_[k], i) /= sum;
      sums.loss += std::log(double(sum)) + top - own;
      sums.correct += best == labels[i];
    }
  }

  void classify(int blocks, const int32_t* labels, Sums& sums) {
    Unit& last = units_.back();
    const float share = 1.0f / (blocks * kLanes);
    last.clear_sums();
    for (int block = 0; block < blocks; ++block, labels += kLanes) {
      normalise(last, block);
      pool(block);
      softmax(labels, kLanes, sums);
      for (int i = 0; i < kLanes; ++i) lane(logits_[labels[i]], i) -= 1.0f;
      for (int k = 0; k < spec_.num_classes; ++k) {
        logits_[k] = share * logits_[k];
        grad_bias_[k] += float(total(logits_[k]));
        for (int c = 0; c < features_; ++c) {
          grad_classifier_[k * features_ + c] += float(total(logits_[k] * pooled_[c]));
        }
      }
      Images* grad = last.grad_of(block);
      for (int c = 0; c < features_; ++c) {
        Images sum = filled(0);
        for (int k = 0; k < spec_.num_classes; ++k) sum += classifier_[k * features_ + c] * logits_[k];
        sum = (1.0f / last.pixels()) * sum;
        for (int p = 0; p < last.pixels(); ++p) *grad++ = sum;
      }
      backward_activation(last, block);
    }
    last.pending = false;
  }

  // From the gradient before the activation, whose sums are known, to those of weights and input.
  void backward(Unit& unit, const Images* images, int blocks) {
    const UnitSpec& s = unit.spec;
    const double count = double(blocks) * kLanes * unit.pixels();
    // The gradient before normalisation is a * grad + b * x + c, per channel.
    std::vector<float> a(s.cout), b(s.cout), c(s.cout);
    for (int o = 0; o < s.cout; ++o) {
      const double grad = unit.grad_sum[o];
      const double grad_gamma = (unit.grad_product[o] - double(unit.mean[o]) * grad) * unit.inverse_std[o];
      unit.grad_beta[o] = float(grad);
      unit.grad_gamma[o] = float(grad_gamma);
      const double scale = double(unit.gamma[o]) * unit.inverse_std[o];
      const double slope = -scale * unit.inverse_std[o] * grad_gamma / count;
      a[o] = float(scale);
      b[o] = float(slope);
      c[o] = float(-scale * grad / count - slope * unit.mean[o]);
    }
    std::fill(unit.weight_sums.begin(), unit.weight_sums.end(), Vector{});
    Unit* source = s.input < 0 ? nullptr : &units_[s.input];
    if (source) {
      flip(unit);
      if (unit.first_reader) source->clear_sums();
    }
    // Sums of 3x3 weights are kept nine to a pair of channels, of 1x1 weights one.
    for (int block = 0; block < blocks; ++block) {
      const Images* x = unit.before_of(block);
      const Images* grad = unit.grad_of(block);
      for (int o = 0; o < s.cout; ++o) {
        const Images shift = filled(c[o]);
        for (int y = 0; y < unit.size; ++y) {
          Images* to = unit.grad_before + (o * unit.grad_plane + unit.grad_first + y * s.stride * unit.grad_row);
          for (int i = 0; i < unit.size; ++i, ++x, ++grad, to += s.stride) *to = a[o] * *grad + (b[o] * *x + shift);
        }
      }
      weight_gradient(unit, input_of(unit, images, block));
      if (source) {
        propagate(unit, *source, block);
        if (unit.first_reader) backward_activation(*source, block);
      }
    }
    for (size_t w = 0; w < unit.num_weights; ++w) unit.grad_weights[w] = total(unit.weight_sums[w]);
  }

  // Gradient of one value before its activation: written back, and to the skip connection where there is one.
  static Images masked(Images* grad, const Images* output, bool relu, Images*& to_skip) {
    const Vector zero{};
    Images value = *grad;
    if (relu) {
      value.low = output->low > zero ? value.low : zero;
      value.high = output->high > zero ? value.high : zero;
      *grad = value;
    }
    if (to_skip) *to_skip++ = value;
    return value;
  }

  // Gradient before the activation, in place; handed to the skip connection; its sums for the normalisation.
  void backward_activation(Unit& unit, int block) {
    const Images* x = unit.before_of(block);
    const Images* out = unit.output_of(block);
    Images* grad = unit.grad_of(block);
    Unit* skip = unit.spec.skip < 0 ? nullptr : &units_[unit.spec.skip];
    // A block's last unit is the first to reach the skip line's source on the way back, so it sets and does not add.
    Images* to_skip = skip ? skip->grad_of(block) : nullptr;
    for (int c = 0; c < unit.spec.cout; ++c) {
      Moments moments;
      for (int y = 0; y < unit.size; ++y) {
        const Images* o = out + c * unit.plane + (y + unit.pad) * unit.row + unit.pad;
        int i = 0;
        for (; i + 2 <= unit.size; i += 2) {
          moments.add(0, masked(grad++, o++, unit.spec.relu, to_skip), *x++);
          moments.add(1, masked(grad++, o++, unit.spec.relu, to_skip), *x++);
        }
        if (i < unit.size) moments.add(0, masked(grad++, o++, unit.spec.relu, to_skip), *x++);
      }
      unit.grad_sum[c] += moments.total_sum();
      unit.grad_product[c] += moments.total_product();
    }
  }

  void weight_gradient(Unit& unit, const Images* in) {
    const UnitSpec& s = unit.spec;
    const Images* grad = unit.grad_before + unit.grad_first;
    Vector* sums = unit.weight_sums.data();
    const int plane = unit.in_plane, row = unit.in_row, n = unit.size;
    in += unit.in_first;
    if (s.kernel == 3) {
      const int cin = s.depthwise ? 1 : s.cin;
      for (int co = 0; co < s.cout; ++co) {
        const Images* g = grad + co * unit.grad_plane;
        for (int ci = 0; ci < cin; ++ci, sums += 9) {
          const Images* from = in + (s.depthwise ? co : ci) * plane;
          if (s.stride == 1 && n == 2) {
            weight_gradient_small<2>(g, unit.grad_row, from, row, sums);
          } else if (s.stride == 1 && n == 3) {
            weight_gradient_small<3>(g, unit.grad_row, from, row, sums);
          } else if (s.stride == 1 && n == 4) {
            weight_gradient_small<4>(g, unit.grad_row, from, row, sums);
          } else if (s.stride == 1) {
            weight_gradient_3x3<1>(g, unit.grad_row, from, row, n, sums);
          } else {
            weight_gradient_3x3<2>(g, unit.grad_row, from, row, n, sums);
          }
        }
      }
      return;
    }
    int co = 0;
    for (; co + 4 <= s.cout; co += 4) gradient_rows<4>(unit, grad + co * n * n, in, sums + co * s.cin);
    for (; co + 2 <= s.cout; co += 2) gradient_rows<2>(unit, grad + co * n * n, in, sums + co * s.cin);
    for (; co < s.cout; ++co) gradient_rows<1>(unit, grad + co * n * n, in, sums + co * s.cin);
  }

  template <int CO>
  void gradient_rows(const Unit& unit, const Images* grad, const Images* in, Vector* sums) {
    const int cin = unit.spec.cin, plane = unit.in_plane, row = unit.in_row, n = unit.size;
    int ci = 0;
    for (; ci + 2 <= cin; ci += 2) {
      weight_gradient_1x1<CO, 2>(grad, in + ci * plane, plane, row, n, sums + ci, cin);
    }
    for (; ci < cin; ++ci) weight_gradient_1x1<CO, 1>(grad, in + ci * plane, plane, row, n, sums + ci, cin);
  }

  // Weights with input and output channels exchanged and the kernel turned around.
  void flip(Unit& unit) {
    const UnitSpec& s = unit.spec;
    const int area = s.kernel * s.kernel, cin = s.depthwise ? 1 : s.cin;
    for (int co = 0; co < s.cout; ++co) {
      for (int ci = 0; ci < cin; ++ci) {
        for (int k = 0; k < area; ++k) {
          const int to = s.depthwise ? co : ci * s.cout + co;
          unit.flipped[to * area + area - 1 - k] = unit.weights[(co * cin + ci) * area + k];
        }
      }
    }
  }

  void propagate(Unit& unit, Unit& source, int block) {
    const UnitSpec& s = unit.spec;
    const Images* from = unit.grad_before + 0;
    const int plane = unit.grad_plane, row = unit.grad_row, n = unit.in_size;
    const bool add = unit.adds_gradient;
    Images* to = source.grad_of(block);
    const float* w = unit.flipped.data();
    if (s.depthwise) {
      for (int c = 0; c < s.cout; ++c) {
        conv<3, 1>(from + c * plane, plane, row, w + 9 * c, 1, 1, to + c * n * n, n, add);
      }
    } else if (s.kernel == 1) {
      conv<1, 1>(from, plane, row, w, s.cout, s.cin, to, n, add);
    } else {
      conv<3, 1>(from, plane, row, w, s.cout, s.cin, to, n, add);
    }
  }

  void update(float lr) {
    for (size_t p = 0; p < num_parameters_; ++p) {
      const float grad = gradient_[p] + spec_.weight_decay * parameters_[p];
      momentum_[p] = spec_.momentum * momentum_[p] + grad;
      parameters_[p] -= lr * momentum_[p];
    }
  }

  TrainSpec spec_;
  int blocks_, features_;
  std::vector<Unit> units_;
  size_t num_parameters_ = 0;
  float* parameters_;
  std::vector<float> gradient_, momentum_;
  float *classifier_, *bias_, *grad_classifier_, *grad_bias_;
  std::vector<Moments> moments_;
  std::vector<Images> pooled_, logits_;
};

// Test images as blocks with a border of one pixel; uint8 (num_test, channels, size, size) through the table of pixels.
Buffer padded_tests(const TrainSpec& s, const uint8_t* images, const float* table) {
  const int size = s.image_size, row = size + 2, plane = row * row, channels = s.image_channels;
  const size_t block_size = size_t(channels) * plane;
  Buffer padded((s.num_test + kLanes - 1) / kLanes * block_size);
  for (int n = 0; n < s.num_test; ++n) {
    Images* to = padded + (n / kLanes) * block_size;
    for (int c = 0; c < channels; ++c) {
      for (int p = 0; p < size * size; ++p) {
        const float value = table[c * 256 + images[(size_t(n) * channels + c) * size * size + p]];
        lane(to[c * plane + (p / size + 1) * row + p % size + 1], n % kLanes) = value;
      }
    }
  }
  return padded;
}

}  // namespace

extern "C" {

// Returns 0, or 1 where memory ran out.
//
// units: (num_units); parameters: all parameters in the order of the PyTorch module, changed in place;
// train_images: uint8 (num_train, channels, size + 2 * crop_padding, the same), test_images: uint8 (num_test, channels,
// size, size); labels: int32; table: float (channels, 256), what each pixel value becomes; order, rows, columns,
// mirrored: int32 (epochs, num_train), which image comes at which position, where its crop begins, whether it is
// mirrored; rates: float (epochs, steps), learning rates; curves: double (4, epochs), training loss and accuracy, test
// loss and accuracy; statistics: float, running mean and variance of every unit in turn.
int32_t channel_bench_train(const TrainSpec* spec, const UnitSpec* units, float* parameters, const uint8_t* train_images,
                            const int32_t* train_labels, const uint8_t* test_images, const int32_t* test_labels,
                            const float* table, const int32_t* order, const int32_t* rows, const int32_t* columns,
                            const int32_t* mirrored, const float* rates, double* curves, float* statistics) try {
  const TrainSpec& s = *spec;
  Network network(s, units, parameters);
  const int size = s.image_size, row = size + 2, plane = row * row, channels = s.image_channels;
  const size_t block_size = size_t(channels) * plane;

  const Buffer test = padded_tests(s, test_images, table);

  Buffer batch(s.batch_size / kLanes * block_size);
  std::vector<int32_t> labels(s.batch_size);
  const int edge = size + 2 * s.crop_padding;
  const float* rate = rates;
  for (int epoch = 0; epoch < s.epochs; ++epoch) {
    Network::Sums sums;
    const size_t first = size_t(epoch) * s.num_train;
    for (int start = 0; start < s.num_train; start += s.batch_size) {
      const int count = std::min(s.batch_size, s.num_train - start);
      for (int block = 0; block < count / kLanes; ++block) {
        const uint8_t* from[kLanes];
        int step[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const size_t at = first + start + block * kLanes + i;
          labels[block * kLanes + i] = train_labels[order[at]];
          step[i] = mirrored[at] ? -1 : 1;
          from[i] = train_images + (size_t(order[at]) * channels * edge + rows[at]) * edge + columns[at] +
                    (mirrored[at] ? size - 1 : 0);
        }
        for (int c = 0; c < channels; ++c) {
          const float* values = table + c * 256;
          for (int y = 0; y < size; ++y) {
            Images* line = batch + (block * block_size + c * plane + (y + 1) * row + 1);
            const int skipped = (c * edge + y) * edge;
            for (int x = 0; x < size; ++x) {
              for (int i = 0; i < kLanes; ++i) lane(line[x], i) = values[from[i][skipped + x * step[i]]];
            }
          }
        }
      }
      network.step(batch + 0, count / kLanes, labels.data(), *rate++, sums);
    }
    const Network::Sums tested = network.evaluate(test + 0, test_labels, s.num_test);
    curves[epoch] = sums.loss / s.num_train;
    curves[s.epochs + epoch] = 100.0 * double(sums.correct) / s.num_train;
    curves[2 * s.epochs + epoch] = tested.loss / s.num_test;
    curves[3 * s.epochs + epoch] = 100.0 * double(tested.correct) / s.num_test;
  }
  network.copy_statistics(statistics);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// Evaluates a trained network as channel_bench_train does after each epoch. Returns 0, or 1 where memory ran out.
//
// parameters, statistics: as channel_bench_train left them; test_images, test_labels, table: as there; results: double
// (2), loss and accuracy.
int32_t channel_bench_evaluate(const TrainSpec* spec, const UnitSpec* units, float* parameters, const float* statistics,
                               const uint8_t* test_images, const int32_t* test_labels, const float* table,
                               double* results) try {
  Network network(*spec, units, parameters);
  network.set_statistics(statistics);
  const Buffer test = padded_tests(*spec, test_images, table);
  const Network::Sums tested = network.evaluate(test + 0, test_labels, spec->num_test);
  results[0] = tested.loss / spec->num_test;
  results[1] = 100.0 * double(tested.correct) / spec->num_test;
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}
}
