// Concordant minus discordant pairs of rankings with one truth, items in copies; for harness/concordance.py.
//
// Items come in ascending order of the truth. What was inserted before an item is truly worse, so that an inserted copy
// of lower score rank is concordant with it and one of higher score rank discordant. How many copies were inserted up to
// every score rank is kept in three levels of sums, over 32 ranks, 32 times 32 ranks, and all: inserting adds to one
// short row of each level, which takes a few vector operations, and asking is three look-ups.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

constexpr int32_t kRow = 32;

class Sums {
 public:
  explicit Sums(int32_t num_ranks)
      : low_((num_ranks / kRow + 1) * kRow, 0),
        middle_((num_ranks / (kRow * kRow) + 1) * kRow, 0),
        high_((num_ranks / (kRow * kRow) / 8 + 1) * 8, 0) {}

  // Copies of this rank or lower, and of lower ones.
  int64_t up_to(int32_t rank) const { return lower_rows(rank) + low_[rank]; }
  int64_t below(int32_t rank) const { return lower_rows(rank) + (rank % kRow ? low_[rank - 1] : 0); }

  void insert(int32_t rank, int32_t copies) {
    // Fixed lengths and no branches, so that the loops become vector operations.
    int32_t* const low = low_.data() + rank / kRow * kRow;
    for (int32_t i = 0; i < kRow; ++i) low[i] += i >= rank % kRow ? copies : 0;
    const int32_t row = rank / kRow;
    int32_t* const middle = middle_.data() + row / kRow * kRow;
    for (int32_t i = 0; i < kRow; ++i) middle[i] += i > row % kRow ? copies : 0;
    const int32_t group = row / kRow, num_groups = static_cast<int32_t>(high_.size());
    int32_t* const high = high_.data();
    for (int32_t i = 0; i < num_groups; ++i) high[i] += i > group ? copies : 0;
  }

 private:
  int64_t lower_rows(int32_t rank) const {
    return static_cast<int64_t>(high_[rank / (kRow * kRow)]) + middle_[rank / kRow];
  }

  std::vector<int32_t> low_, middle_, high_;
};

}  // namespace

// n items that have copies, by ascending truth: items (n) are their columns in `ranks`, truth (n) their true ranks,
// copies (n) >= 1 with a sum below 2^31. ranks (num_methods, num_items): dense score ranks, below num_ranks
// (num_methods). found (num_methods): concordant minus discordant pairs of copies.
extern "C" void channel_bench_concordance(int64_t n, const int32_t* items, const int32_t* truth, const int32_t* copies,
                                          int64_t num_methods, int64_t num_items, const int32_t* ranks,
                                          const int32_t* num_ranks, int64_t* found) {
  for (int64_t method = 0; method < num_methods; ++method) {
    const int32_t* const own = ranks + method * num_items;
    Sums sums(num_ranks[method]);
    int64_t inserted = 0, total = 0;
    for (int64_t start = 0, end = 0; start < n; start = end) {
      for (; end < n && truth[end] == truth[start]; ++end) {
        const int32_t rank = own[items[end]];
        total += copies[end] * (sums.below(rank) + sums.up_to(rank) - inserted);
      }
      for (int64_t place = start; place < end; ++place) {
        sums.insert(own[items[place]], copies[place]);
        inserted += copies[place];
      }
    }
    found[method] = total;
  }
}
