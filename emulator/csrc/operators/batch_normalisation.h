// The statistics of SyncBatchNorm, which are aclnn operators and graph operators.
#pragma once
#include "widening.h"

namespace npu_emulator {

/// Dimension 1 is the channel; the statistics run over all the others.
inline std::vector<int64_t> all_but_channels(const Tensor& input) {
    std::vector<int64_t> dims{0};
    for (int64_t i = 2; i < input.dim(); i++) dims.push_back(i);
    return dims;
}

inline Tensor sum_per_channel(const Tensor& input) { return at::sum(input, all_but_channels(input)); }

/// Statistics of all ranks together: of each channel, and how many elements they are of.
struct Statistics {
    Tensor mean;
    Tensor variance;
    Tensor count;

    Tensor invstd(double eps) const { return at::rsqrt(at::add(variance, eps)); }
    Tensor moved_mean(const Tensor& running, double momentum) const { return at::lerp(widened(running), mean, momentum); }
    /// The running variance is unbiased: divided by count - 1.
    Tensor moved_variance(const Tensor& running, double momentum) const {
        return at::lerp(widened(running), at::mul(variance, at::div(count, at::sub(count, 1))), momentum);
    }
};

/// Of the sum and the sum of squares of each rank's elements, as rows. The count arrives as int32, one for each rank or channel.
inline Statistics statistics_of_sums(const Tensor& sum, const Tensor& square_sum, const Tensor& count) {
    Tensor total = at::sum(count.to(at::kFloat));
    Tensor mean = at::div(at::sum(widened(sum), 0), total);
    return {mean, at::sub(at::div(at::sum(widened(square_sum), 0), total), at::square(mean)), total};
}

}  // namespace npu_emulator
