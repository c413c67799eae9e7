// Batch normalisation, and the pieces that SyncBatchNorm is made of.
#include "batch_normalisation.h"

/// One float32 number for each channel, shaped to broadcast against the input.
static Tensor per_channel(const Tensor& values, const Tensor& input) {
    std::vector<int64_t> shape(input.dim(), 1);
    shape[1] = input.size(1);
    return widened(values).reshape(shape);
}

// ---- batch normalisation ---------------------------------------------------------------------------------------------------

OPERATOR(aclnnBatchNorm, Accumulating,
         (Tensor self, Tensor weight, Tensor bias, Output running_mean, Output running_var, bool training, double momentum, double eps,
          Output out, Output save_mean, Output save_invstd),
         {
             // Half running statistics are updated in float32 and written back.
             Tensor average = widened(running_mean);
             Tensor variance = widened(running_var);
             auto [y, mean, invstd] = at::native_batch_norm(widened(self), widened_if_given(weight), widened_if_given(bias),
                                                            if_given(average), if_given(variance), training, momentum, eps);
             out = y;
             if (training) {
                 save_mean = mean;
                 save_invstd = invstd;
                 running_mean = average;
                 running_var = variance;
             } else {
                 save_mean = average;
                 save_invstd = at::rsqrt(at::add(variance, eps));
             }
         })

OPERATOR(aclnnBatchNormBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor weight, Tensor running_mean, Tensor running_var, Tensor save_mean, Tensor save_invstd,
          bool training, double eps, Bools mask, Output grad_self, Output grad_weight, Output grad_bias),
         {
             auto [gx, gw, gb] = at::native_batch_norm_backward(
                 widened(grad), widened(self), widened_if_given(weight), widened_if_given(running_mean), widened_if_given(running_var),
                 widened_if_given(save_mean), widened_if_given(save_invstd), training, eps, {mask[0], mask[1], mask[2]});
             grad_self = gx;
             grad_weight = gw;
             grad_bias = gb;
         })

// ---- synchronised batch normalisation -------------------------------------------------------------------------------------------

OPERATOR(aclnnBatchNormStats, Accumulating, (Tensor self, double eps, Output mean, Output invstd), {
    auto [variance, average] = at::var_mean(widened(self), all_but_channels(self), Scalar(0));
    mean = average;
    invstd = at::rsqrt(at::add(variance, eps));
})
OPERATOR(aclnnBatchNormReduce, Accumulating, (Tensor self, Output sum, Output square_sum), {
    sum = sum_per_channel(widened(self));
    square_sum = sum_per_channel(at::square(widened(self)));
})
OPERATOR(aclnnBatchNormElemt, Accumulating, (Tensor self, Tensor weight, Tensor bias, Tensor mean, Tensor invstd, double eps, Output out), {
    Tensor y = at::mul(at::sub(widened(self), per_channel(mean, self)), per_channel(invstd, self));
    if (weight.defined()) y = at::mul(y, per_channel(weight, self));
    if (bias.defined()) y = at::add(y, per_channel(bias, self));
    out = y;
})
OPERATOR(aclnnBatchNormReduceBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor mean, Tensor invstd, Tensor weight, bool self_needed, bool weight_needed, bool bias_needed,
          Output sum_dy, Output sum_dy_xmu, Output grad_weight, Output grad_bias),
         {
             Tensor dy = sum_per_channel(widened(grad));
             Tensor dy_xmu = sum_per_channel(at::mul(widened(grad), at::sub(widened(self), per_channel(mean, self))));
             if (self_needed) {
                 sum_dy = dy;
                 sum_dy_xmu = dy_xmu;
             }
             if (weight_needed) grad_weight = at::mul(dy_xmu, widened(invstd));
             if (bias_needed) grad_bias = dy;
         })
OPERATOR(aclnnBatchNormElemtBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor mean, Tensor invstd, Tensor weight, Tensor sum_dy, Tensor sum_dy_xmu, Tensor count, Output out),
         {
             Tensor total = at::sum(count.to(at::kFloat));
             Tensor scale = per_channel(invstd, self);
             Tensor centred = at::sub(widened(self), per_channel(mean, self));
             Tensor projection = at::mul(at::square(scale), at::div(per_channel(sum_dy_xmu, self), total));
             Tensor dx =
                 at::mul(at::sub(at::sub(widened(grad), at::div(per_channel(sum_dy, self), total)), at::mul(centred, projection)), scale);
             out = weight.defined() ? at::mul(dx, per_channel(weight, self)) : dx;
         })

static void update_running(const Output& running_mean, const Output& running_var, const Statistics& all, double momentum) {
    if (running_mean->defined()) running_mean = all.moved_mean(running_mean, momentum);
    if (running_var->defined()) running_var = all.moved_variance(running_var, momentum);
}

OPERATOR(aclnnSyncBatchNormGatherStats, Accumulating,
         (Tensor sum, Tensor square_sum, Tensor count, Output running_mean, Output running_var, float momentum, float eps, Output mean,
          Output invstd),
         {
             Statistics all = statistics_of_sums(sum, square_sum, count);
             mean = all.mean;
             invstd = all.invstd(eps);
             update_running(running_mean, running_var, all, momentum);
         })

/// Each rank gives the mean and 1 / sqrt(variance + eps) of its elements, as rows.
OPERATOR(aclnnBatchNormGatherStatsWithCounts, Accumulating,
         (Tensor self, Tensor mean, Tensor invstd, Output running_mean, Output running_var, double momentum, double eps, Tensor counts,
          Output mean_all, Output invstd_all),
         {
             Tensor count = counts.to(at::kFloat).reshape({-1, 1});
             Tensor total = at::sum(count);
             Tensor means = widened(mean);
             Tensor average = at::div(at::sum(at::mul(means, count), 0), total);
             Tensor variances = at::sub(at::reciprocal(at::square(widened(invstd))), eps);
             Tensor spread = at::add(variances, at::square(at::sub(means, average)));
             Statistics all{average, at::div(at::sum(at::mul(spread, count), 0), total), total};
             mean_all = all.mean;
             invstd_all = all.invstd(eps);
             update_running(running_mean, running_var, all, momentum);
         })
