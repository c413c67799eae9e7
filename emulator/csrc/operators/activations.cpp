// Activation functions and their gradients (relu, sigmoid and tanh themselves are in unary.cpp).
#include <array>

#include "random.h"
#include "widening.h"

// ---- piecewise linear -----------------------------------------------------------------------------------------------------

OPERATOR(aclnnThreshold, Elementwise, (Tensor self, Scalar threshold, Scalar value, Output out),
         out = at::threshold(self, threshold, value))
OPERATOR(aclnnInplaceThreshold, Elementwise, (Output self, Scalar threshold, Scalar value), self = at::threshold(self, threshold, value))
OPERATOR(aclnnThresholdBackward, Elementwise, (Tensor grad, Tensor self, Scalar threshold, Output out),
         out = at::threshold_backward(grad, self, threshold))
OPERATOR(aclnnLeakyRelu, Elementwise, (Tensor self, Scalar slope, Output out), out = at::leaky_relu(self, slope))
OPERATOR(aclnnInplaceLeakyRelu, Elementwise, (Output self, Scalar slope), self = at::leaky_relu(self, slope))
OPERATOR(aclnnLeakyReluBackward, Elementwise, (Tensor grad, Tensor self, Scalar slope, bool is_result, Output out),
         out = at::leaky_relu_backward(grad, self, slope, is_result))
OPERATOR(aclnnHardtanh, Elementwise, (Tensor self, Scalar low, Scalar high, Output out), out = at::hardtanh(self, low, high))
OPERATOR(aclnnInplaceHardtanh, Elementwise, (Output self, Scalar low, Scalar high), self = at::hardtanh(self, low, high))
OPERATOR(aclnnHardtanhBackward, Elementwise, (Tensor grad, Tensor self, Scalar low, Scalar high, Output out),
         out = at::hardtanh_backward(grad, self, low, high))
OPERATOR(aclnnHardsigmoid, Elementwise, (Tensor self, Output out), out = at::hardsigmoid(self))
OPERATOR(aclnnInplaceHardsigmoid, Elementwise, (Output self), self = at::hardsigmoid(self))
OPERATOR(aclnnHardsigmoidBackward, Elementwise, (Tensor grad, Tensor self, Output out), out = at::hardsigmoid_backward(grad, self))
OPERATOR(aclnnHardswish, Elementwise, (Tensor self, Output out), out = at::hardswish(self))
OPERATOR(aclnnInplaceHardswish, Elementwise, (Output self), self = at::hardswish(self))
OPERATOR(aclnnHardswishBackward, Elementwise, (Tensor grad, Tensor self, Output out), out = at::hardswish_backward(grad, self))
OPERATOR(aclnnHardswishBackwardV2, Elementwise, (Tensor grad, Tensor self, Output out), out = at::hardswish_backward(grad, self))
OPERATOR(aclnnHardshrink, Elementwise, (Tensor self, Scalar lambd, Output out), out = at::hardshrink(self, lambd))
OPERATOR(aclnnHardshrinkBackward, Elementwise, (Tensor grad, Tensor self, Scalar lambd, Output out),
         out = at::hardshrink_backward(grad, self, lambd))
OPERATOR(aclnnSoftshrink, Elementwise, (Tensor self, Scalar lambd, Output out), out = at::softshrink(self, lambd))
OPERATOR(aclnnSoftshrinkBackward, Elementwise, (Tensor grad, Tensor self, Scalar lambd, Output out),
         out = at::softshrink_backward(grad, self, lambd))
OPERATOR(aclnnAddRelu, Elementwise, (Tensor self, Tensor other, Scalar alpha, Output out), out = at::relu(at::add(self, other, alpha)))
OPERATOR(aclnnInplaceAddRelu, Elementwise, (Output self, Tensor other, Scalar alpha), self = at::relu(at::add(self, other, alpha)))

OPERATOR(aclnnPrelu, Elementwise, (Tensor self, Tensor weight, Output out), out = at::_prelu_kernel(self, weight))

/// The weight arrives flat: one number, or one for each channel (dimension 1).
static Tensor along_channels(const Tensor& weight, const Tensor& input) {
    if (weight.numel() == 1) return weight.reshape({});
    std::vector<int64_t> shape(input.dim(), 1);
    shape[input.dim() > 1 ? 1 : 0] = weight.numel();
    return weight.reshape(shape);
}
OPERATOR(aclnnPreluBackward, Accumulating, (Tensor grad, Tensor self, Tensor weight, Output grad_self, Output grad_weight), {
    Tensor slope = along_channels(weight, self);
    grad_self = at::where(self.gt(0), grad, at::mul(slope, grad));
    Tensor each = at::where(self.gt(0), at::zeros({}, self.options().dtype(at::kFloat)), at::mul(widened(self), widened(grad)));
    grad_weight = each.sum_to_size(slope.sizes());
})

// ---- gelu --------------------------------------------------------------------------------------------------------------------

// aclnnGelu has no argument for the approximation: CANN documents it as the tanh form, and torch_npu's documentation of
// npu_gelu says that torch's own gelu ignores `approximate` on an NPU. With TORCH_NPU_USE_COMPATIBLE_IMPL=1 torch_npu calls
// the V2 operators, which honour it.
static const char* approximation(bool tanh) { return tanh ? "tanh" : "none"; }

OPERATOR(aclnnGelu, Approximate, (Tensor self, Output out), out = at::gelu(self, "tanh"))
OPERATOR(aclnnGeluBackward, Approximate, (Tensor grad, Tensor self, Output out), out = at::gelu_backward(grad, self, "tanh"))
OPERATOR(aclnnGeluV2, Approximate, (Tensor self, int64_t tanh, Output out), out = at::gelu(self, approximation(tanh)))
OPERATOR(aclnnGeluBackwardV2, Approximate, (Tensor grad, Tensor self, Text approximate, Output out),
         out = at::gelu_backward(grad, self, approximate))
OPERATOR(aclnnGeluMul, Approximate, (Tensor input, Text approximate, Output out), {
    auto halves = at::chunk(widened(input), 2, -1);
    out = at::mul(at::gelu(halves[0], approximate), halves[1]);
})

OPERATOR(aclnnGeGluV3, Approximate, (Tensor self, int64_t dim, int64_t tanh, bool activate_left, Output out, Output gelu), {
    auto halves = at::chunk(widened(self), 2, dim);
    Tensor activated = at::gelu(halves[activate_left ? 0 : 1], approximation(tanh));
    out = at::mul(activated, halves[activate_left ? 1 : 0]);
    gelu = activated;
})
OPERATOR(aclnnGeGluV3Backward, Approximate,
         (Tensor grad, Tensor self, Tensor gelu, int64_t dim, int64_t tanh, bool activate_left, Output grad_self), {
             auto halves = at::chunk(widened(self), 2, dim);
             int gate = activate_left ? 0 : 1;
             std::array<Tensor, 2> grads;
             grads[gate] = at::gelu_backward(at::mul(widened(grad), halves[1 - gate]), halves[gate], approximation(tanh));
             grads[1 - gate] = at::mul(widened(grad), widened(gelu));
             grad_self = at::cat({grads[0], grads[1]}, dim);
         })

constexpr double kFastGelu = 1.702;  // x * sigmoid(1.702 x), as CANN documents aclnnFastGelu
OPERATOR(aclnnFastGelu, Approximate, (Tensor self, Output out), {
    Tensor x = widened(self);
    out = at::mul(x, at::sigmoid(at::mul(x, kFastGelu)));
})
OPERATOR(aclnnFastGeluBackward, Approximate, (Tensor grad, Tensor self, Output out), {
    Tensor x = widened(self);
    Tensor s = at::sigmoid(at::mul(x, kFastGelu));
    out = at::mul(widened(grad), at::add(s, at::mul(at::mul(x, kFastGelu), at::mul(s, at::rsub(s, 1)))));
})

// ---- gated units ---------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnGlu, Approximate, (Tensor self, int64_t dim, Output out), out = at::glu(self, dim))
OPERATOR(aclnnGluBackward, Approximate, (Tensor grad, Tensor self, int64_t dim, Output out), out = at::glu_backward(grad, self, dim))
OPERATOR(aclnnSwiGlu, Approximate, (Tensor self, int64_t dim, Output out), {
    auto halves = at::chunk(widened(self), 2, dim);
    out = at::mul(at::silu(halves[0]), halves[1]);
})
OPERATOR(aclnnSwiGluGrad, Approximate, (Tensor grad, Tensor self, int64_t dim, Output out), {
    auto halves = at::chunk(widened(self), 2, dim);
    Tensor g = widened(grad);
    out = at::cat({at::silu_backward(at::mul(g, halves[1]), halves[0]), at::mul(g, at::silu(halves[0]))}, dim);
})
OPERATOR(aclnnClippedSwiglu, Approximate,
         (Tensor self, Tensor group_index, int64_t dim, double alpha, double limit, double bias, bool interleaved, Output out), {
             TORCH_CHECK(!group_index.defined(), "group_index (a mixture of experts' token counts) is not emulated");
             Tensor x = widened(self);
             int64_t half = x.size(dim) / 2;
             Tensor gate = interleaved ? x.slice(dim, 0, 2 * half, 2) : x.narrow(dim, 0, half);
             Tensor linear = interleaved ? x.slice(dim, 1, 2 * half, 2) : x.narrow(dim, half, half);
             gate = at::clamp_max(gate, limit);
             out = at::mul(at::mul(gate, at::sigmoid(at::mul(gate, alpha))), at::add(at::clamp(linear, -limit, limit), bias));
         })

// ---- the other smooth ones ----------------------------------------------------------------------------------------------------------

OPERATOR(aclnnSilu, Approximate, (Tensor self, Output out), out = at::silu(self))
OPERATOR(aclnnSiluBackward, Approximate, (Tensor grad, Tensor self, Output out), out = at::silu_backward(grad, self))
OPERATOR(aclnnSigmoidBackward, Elementwise, (Tensor grad, Tensor output, Output out), out = at::sigmoid_backward(grad, output))
OPERATOR(aclnnTanhBackward, Elementwise, (Tensor grad, Tensor output, Output out), out = at::tanh_backward(grad, output))
OPERATOR(aclnnElu, Approximate, (Tensor self, Scalar alpha, Scalar scale, Scalar input_scale, Output out),
         out = at::elu(self, alpha, scale, input_scale))
OPERATOR(aclnnInplaceElu, Approximate, (Output self, Scalar alpha, Scalar scale, Scalar input_scale),
         self = at::elu(self, alpha, scale, input_scale))
OPERATOR(aclnnEluBackward, Approximate,
         (Tensor grad, Scalar alpha, Scalar scale, Scalar input_scale, bool is_result, Tensor self_or_result, Output out),
         out = at::elu_backward(grad, alpha, scale, input_scale, is_result, self_or_result))
OPERATOR(aclnnCelu, Approximate, (Tensor self, Scalar alpha, Output out), out = at::celu(self, alpha))
OPERATOR(aclnnInplaceCelu, Approximate, (Output self, Scalar alpha), self = at::celu(self, alpha))
OPERATOR(aclnnMish, Approximate, (Tensor self, Output out), out = at::mish(self))
OPERATOR(aclnnInplaceMish, Approximate, (Output self), self = at::mish(self))
OPERATOR(aclnnMishBackward, Approximate, (Tensor grad, Tensor self, Output out), out = at::mish_backward(grad, self))
OPERATOR(aclnnSoftplus, Approximate, (Tensor self, Scalar beta, Scalar threshold, Output out), out = at::softplus(self, beta, threshold))
OPERATOR(aclnnSoftplusBackward, Approximate, (Tensor grad, Tensor self, Scalar beta, Scalar threshold, Output out),
         out = at::softplus_backward(grad, self, beta, threshold))
OPERATOR(aclnnLogSigmoid, Approximate, (Tensor self, Output out), out = at::log_sigmoid(self))
// The buffer is the CPU kernel's own: torch_npu passes an empty one.
OPERATOR(aclnnLogSigmoidForward, Approximate, (Tensor self, Output out, Output buffer), out = at::log_sigmoid(self))
OPERATOR(aclnnLogSigmoidBackward, Approximate, (Tensor grad, Tensor self, Tensor buffer, Output out),
         out = at::mul(widened(grad), at::sigmoid(at::neg(widened(self)))))

/// A negative eps means none, as torch_npu passes it.
static std::optional<double> clamping(double eps) { return eps < 0 ? std::nullopt : std::optional<double>(eps); }
OPERATOR(aclnnLogit, Approximate, (Tensor self, double eps, Output out), out = at::logit(self, clamping(eps)))
OPERATOR(aclnnLogitGrad, Approximate, (Tensor self, Tensor grad, double eps, Output out),
         out = at::logit_backward(grad, self, clamping(eps)))

// ---- random -----------------------------------------------------------------------------------------------------------------------------

/// In training the slope of each negative number is drawn from [lower, upper); `noise` keeps the slopes for the backward.
static Tensor rrelu(const Tensor& self, const Tensor& noise, const Scalar& lower, const Scalar& upper, bool training, int64_t seed,
                    int64_t offset) {
    if (!training) return at::leaky_relu(self, (lower.toDouble() + upper.toDouble()) / 2);
    Tensor slope = at::empty(self.sizes(), self.options()).uniform_(lower.toDouble(), upper.toDouble(), generator_for(seed, offset));
    noise.copy_(at::where(self.le(0), slope, at::ones({}, self.options())));
    return at::mul(self, noise);
}
OPERATOR(aclnnRReluWithNoise, Random,
         (Tensor self, Output noise, Scalar lower, Scalar upper, bool training, int64_t seed, int64_t offset, Output out),
         out = rrelu(self, noise, lower, upper, training, seed, offset))
OPERATOR(aclnnInplaceRReluWithNoise, Random,
         (Output self, Output noise, Scalar lower, Scalar upper, bool training, int64_t seed, int64_t offset),
         self = rrelu(self, noise, lower, upper, training, seed, offset))
