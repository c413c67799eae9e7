// Layer, RMS and group normalisation with their gradients and fused forms (batch normalisation: batch_normalisation.cpp).
#include "widening.h"

// Statistics (mean, rstd) are float32 whatever the input's type, and half types are rounded once, at the end.

// ---- layer normalisation -------------------------------------------------------------------------------------------------

static void layer_norm(const Tensor& self, at::IntArrayRef shape, const Tensor& weight, const Tensor& bias, double eps, const Output& out,
                       const Output& mean, const Output& rstd) {
    auto [y, m, r] = at::native_layer_norm(widened(self), shape, widened_if_given(weight), widened_if_given(bias), eps);
    out = y;
    mean = m;
    rstd = r;
}
OPERATOR(aclnnLayerNorm, Accumulating,
         (Tensor self, Ints shape, Tensor weight, Tensor bias, double eps, Output out, Output mean, Output rstd),
         layer_norm(self, shape, weight, bias, eps, out, mean, rstd))
OPERATOR(aclnnFastLayerNorm, Accumulating,
         (Tensor self, Ints shape, Tensor weight, Tensor bias, double eps, Output out, Output mean, Output rstd),
         layer_norm(self, shape, weight, bias, eps, out, mean, rstd))
OPERATOR(aclnnLayerNormBackward, Accumulating,
         (Tensor grad, Tensor self, Ints shape, Tensor mean, Tensor rstd, Tensor weight, Tensor bias, Bools mask, Output grad_self,
          Output grad_weight, Output grad_bias),
         {
             auto [gx, gw, gb] =
                 at::native_layer_norm_backward(widened(grad), widened(self), shape.ref(), mean, rstd, widened_if_given(weight),
                                                widened_if_given(bias), {mask[0], mask[1], mask[2]});
             grad_self = gx;
             grad_weight = gw;
             grad_bias = gb;
         })

// native_layer_norm_backward asks of the bias only whether it is there: gamma stands in for it where the operator has none.
OPERATOR(aclnnAddLayerNorm, Accumulating,
         (Tensor x1, Tensor x2, Tensor gamma, Tensor beta, Tensor bias, double eps, bool with_sum, Output out, Output mean, Output rstd,
          Output sum),
         {
             Tensor x = at::add(widened(x1), widened(x2));
             if (bias.defined()) x = at::add(x, widened(bias));
             layer_norm(x, gamma.sizes(), gamma, beta, eps, out, mean, rstd);
             if (with_sum) sum = x;
         })
OPERATOR(aclnnAddLayerNormGrad, Accumulating,
         (Tensor grad, Tensor x1, Tensor x2, Tensor rstd, Tensor mean, Tensor gamma, Tensor grad_sum, Output grad_x, Output grad_gamma,
          Output grad_beta),
         {
             Tensor x = at::add(widened(x1), widened(x2));
             auto [gx, gg, gb] = at::native_layer_norm_backward(widened(grad), x, gamma.sizes(), mean, rstd, widened_if_given(gamma),
                                                                widened_if_given(gamma), {true, true, true});
             grad_x = grad_sum.defined() ? at::add(gx, widened(grad_sum)) : gx;
             grad_gamma = gg;
             grad_beta = gb;
         })

OPERATOR(aclnnDeepNorm, Accumulating,
         (Tensor self, Tensor gx, Tensor beta, Tensor gamma, double alpha, double eps, Output mean, Output rstd, Output out),
         layer_norm(at::add(widened(gx), widened(self), alpha), gamma.sizes(), gamma, beta, eps, out, mean, rstd))
OPERATOR(aclnnDeepNormGrad, Accumulating,
         (Tensor grad, Tensor self, Tensor gx, Tensor gamma, Tensor mean, Tensor rstd, double alpha, Output grad_self, Output grad_gx,
          Output grad_beta, Output grad_gamma),
         {
             Tensor x = at::add(widened(gx), widened(self), alpha);
             auto [g, gg, gb] = at::native_layer_norm_backward(widened(grad), x, gamma.sizes(), mean, rstd, widened_if_given(gamma),
                                                               widened_if_given(gamma), {true, true, true});
             grad_self = at::mul(g, alpha);
             grad_gx = g;
             grad_gamma = gg;
             grad_beta = gb;
         })

// ---- RMS normalisation ------------------------------------------------------------------------------------------------------

/// The dimensions that gamma spans: the last ones.
static std::vector<int64_t> normalised_dims(const Tensor& gamma) {
    std::vector<int64_t> dims;
    for (int64_t i = 1; i <= gamma.dim(); i++) dims.push_back(-i);
    return dims;
}

/// 1 / sqrt(mean(x^2) + eps), in float32.
static Tensor reciprocal_rms(const Tensor& x, const Tensor& gamma, double eps) {
    return at::rsqrt(at::add(at::mean(at::mul(x, x), normalised_dims(gamma), /*keepdim=*/true), eps));
}

static Tensor rms_norm(const Tensor& self, const Tensor& gamma, double eps, const Output& rstd) {
    Tensor x = widened(self);
    Tensor r = reciprocal_rms(x, gamma, eps);
    rstd = r;
    return at::mul(at::mul(x, r), widened(gamma));
}

OPERATOR(aclnnRmsNorm, Accumulating, (Tensor self, Tensor gamma, double eps, Output out, Output rstd),
         out = rms_norm(self, gamma, eps, rstd))
OPERATOR(aclnnGemmaRmsNorm, Accumulating, (Tensor self, Tensor gamma, double eps, Output out, Output rstd),
         out = rms_norm(self, at::add(widened(gamma), 1), eps, rstd))
OPERATOR(aclnnRmsNormGrad, Accumulating, (Tensor grad, Tensor self, Tensor rstd, Tensor gamma, Output grad_self, Output grad_gamma), {
    Tensor x = widened(self);
    Tensor g = widened(grad);
    std::vector<int64_t> statistics = x.sizes().vec();
    for (int64_t dim : normalised_dims(gamma)) statistics[x.dim() + dim] = 1;
    Tensor r = widened(rstd).reshape(statistics);
    Tensor normalised = at::mul(x, r);
    Tensor weighted = at::mul(g, widened(gamma));
    Tensor along = at::mean(at::mul(weighted, normalised), normalised_dims(gamma), true);
    grad_self = at::mul(r, at::sub(weighted, at::mul(normalised, along)));
    grad_gamma = at::mul(g, normalised).sum_to_size(gamma.sizes());
})

OPERATOR(aclnnAddRmsNorm, Accumulating, (Tensor x1, Tensor x2, Tensor gamma, double eps, Output out, Output rstd, Output sum), {
    sum = at::add(widened(x1), widened(x2));
    out = rms_norm(at::add(widened(x1), widened(x2)), gamma, eps, rstd);
})
OPERATOR(aclnnAddRmsNormCast, Accumulating,
         (Tensor x1, Tensor x2, Tensor gamma, double eps, Output out_float, Output out, Output rstd, Output sum), {
             sum = at::add(widened(x1), widened(x2));
             Tensor normalised = rms_norm(at::add(widened(x1), widened(x2)), gamma, eps, rstd);
             out_float = normalised;
             out = normalised;
         })
// The normalised value replaces x1, the sum replaces x2.
OPERATOR(aclnnInplaceAddRmsNorm, Accumulating, (Output x1, Output x2, Tensor gamma, double eps, Output rstd), {
    Tensor x = at::add(widened(x1), widened(x2));
    x2 = x;
    x1 = rms_norm(x, gamma, eps, rstd);
})

// ---- group normalisation --------------------------------------------------------------------------------------------------------

static Tensor group_norm(const Tensor& self, const Tensor& weight, const Tensor& bias, int64_t groups, double eps, const Output& mean,
                         const Output& rstd) {
    Tensor x = widened(self).contiguous();
    int64_t n = x.size(0);
    int64_t channels = x.size(1);
    int64_t positions = n * channels == 0 ? 0 : x.numel() / (n * channels);
    auto [y, m, r] = at::native_group_norm(x, widened_if_given(weight), widened_if_given(bias), n, channels, positions, groups, eps);
    mean = m;
    rstd = r;
    return y;
}
OPERATOR(aclnnGroupNorm, Accumulating,
         (Tensor self, Tensor gamma, Tensor beta, int64_t n, int64_t channels, int64_t positions, int64_t groups, double eps, Output out,
          Output mean, Output rstd),
         out = group_norm(self, gamma, beta, groups, eps, mean, rstd))
OPERATOR(aclnnGroupNormBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor mean, Tensor rstd, Tensor gamma, int64_t n, int64_t channels, int64_t positions, int64_t groups,
          Bools mask, Output grad_self, Output grad_gamma, Output grad_beta),
         {
             auto [gx, gg, gb] = at::native_group_norm_backward(
                 widened(grad).contiguous(), widened(self).contiguous(), widened(mean).contiguous(), widened(rstd).contiguous(),
                 widened_if_given(gamma), n, channels, positions, groups, {mask[0], mask[1], mask[2]});
             grad_self = gx;
             grad_gamma = gg;
             grad_beta = gb;
         })

OPERATOR(aclnnGroupNormSilu, Accumulating,
         (Tensor self, Tensor gamma, Tensor beta, int64_t groups, double eps, Output out, Output mean, Output rstd),
         out = at::silu(group_norm(self, gamma, beta, groups, eps, mean, rstd)))

// swish(y) = y * sigmoid(scale * y)
OPERATOR(aclnnGroupNormSwish, Accumulating,
         (Tensor self, Tensor gamma, Tensor beta, int64_t groups, Text format, double eps, bool swish, double scale, Output out,
          Output mean, Output rstd),
         {
             Tensor y = group_norm(self, gamma, beta, groups, eps, mean, rstd);
             out = swish ? at::mul(y, at::sigmoid(at::mul(y, scale))) : y;
         })
OPERATOR(aclnnGroupNormSwishGrad, Accumulating,
         (Tensor grad, Tensor mean, Tensor rstd, Tensor self, Tensor gamma, Tensor beta, int64_t groups, Text format, double scale,
          bool gamma_needed, bool beta_needed, Output grad_self, Output grad_gamma, Output grad_beta),
         {
             Tensor x = widened(self).contiguous();
             int64_t n = x.size(0);
             int64_t channels = x.size(1);
             Tensor m = widened(mean).contiguous();
             Tensor r = widened(rstd).contiguous();
             Tensor grouped = x.view({n, groups, -1});
             Tensor normalised = at::mul(at::sub(grouped, m.view({n, groups, 1})), r.view({n, groups, 1})).view({n, channels, -1});
             Tensor y =
                 at::add(at::mul(normalised, widened(gamma).view({1, channels, 1})), widened(beta).view({1, channels, 1})).view(x.sizes());
             Tensor s = at::sigmoid(at::mul(y, scale));
             Tensor grad_y = at::mul(at::mul(widened(grad), s), at::add(at::mul(at::mul(y, scale), at::rsub(s, 1)), 1)).contiguous();
             auto [gx, gg, gb] = at::native_group_norm_backward(grad_y, x, m, r, widened_if_given(gamma), n, channels,
                                                                x.numel() / (n * channels), groups, {true, gamma_needed, beta_needed});
             grad_self = gx;
             grad_gamma = gg;
             grad_beta = gb;
         })
