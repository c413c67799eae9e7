// Pooling: average, maximum, adaptive, and unpooling.
#include "widening.h"

/// torch_npu passes 0 for no divisor.
static std::optional<int64_t> divisor(int64_t override) { return override ? std::optional<int64_t>(override) : std::nullopt; }

// ---- average -----------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnAvgPool2d, Accumulating,
         (Tensor self, Ints kernel_size, Ints stride, Ints padding, bool ceil_mode, bool count_include_pad, int64_t divisor_override,
          int8_t cube_math_type, Output out),
         out = at::avg_pool2d(widened(self), kernel_size, stride, padding, ceil_mode, count_include_pad, divisor(divisor_override)))
OPERATOR(aclnnAvgPool2dBackward, Accumulating,
         (Tensor grad, Tensor self, Ints kernel_size, Ints stride, Ints padding, bool ceil_mode, bool count_include_pad,
          int64_t divisor_override, int8_t cube_math_type, Output out),
         out = at::avg_pool2d_backward(widened(grad), widened(self), kernel_size, stride, padding, ceil_mode, count_include_pad,
                                       divisor(divisor_override)))
OPERATOR(aclnnAvgPool3d, Accumulating,
         (Tensor self, Ints kernel_size, Ints stride, Ints padding, bool ceil_mode, bool count_include_pad, int64_t divisor_override,
          Output out),
         out = at::avg_pool3d(widened(self), kernel_size, stride, padding, ceil_mode, count_include_pad, divisor(divisor_override)))
OPERATOR(aclnnAvgPool3dBackward, Accumulating,
         (Tensor grad, Tensor self, Ints kernel_size, Ints stride, Ints padding, bool ceil_mode, bool count_include_pad,
          int64_t divisor_override, Output out),
         out = at::avg_pool3d_backward(widened(grad), widened(self), kernel_size, stride, padding, ceil_mode, count_include_pad,
                                       divisor(divisor_override)))
OPERATOR(aclnnAdaptiveAvgPool2d, Accumulating, (Tensor self, Ints output_size, Output out),
         out = at::adaptive_avg_pool2d(widened(self), output_size.ref()))
OPERATOR(aclnnAdaptiveAvgPool2dBackward, Accumulating, (Tensor grad, Tensor self, Output out),
         out = at::_adaptive_avg_pool2d_backward(widened(grad), widened(self)))
OPERATOR(aclnnAdaptiveAvgPool3d, Accumulating, (Tensor self, Ints output_size, Output out),
         out = at::_adaptive_avg_pool3d(widened(self), output_size.ref()))
OPERATOR(aclnnAdaptiveAvgPool3dBackward, Accumulating, (Tensor grad, Tensor self, Output out),
         out = at::_adaptive_avg_pool3d_backward(widened(grad), widened(self)))

// ---- maximum -------------------------------------------------------------------------------------------------------------------

static std::tuple<Tensor, Tensor> max_pool2d(const Tensor& self, const Ints& kernel_size, const Ints& stride, const Ints& padding,
                                             const Ints& dilation, bool ceil_mode) {
    return at::max_pool2d_with_indices(widened(self), kernel_size, stride, padding, dilation, ceil_mode);
}
static Tensor max_pool2d_backward(const Tensor& grad, const Tensor& self, const Ints& kernel_size, const Ints& stride, const Ints& padding,
                                  const Ints& dilation, bool ceil_mode, const Tensor& indices) {
    return at::max_pool2d_with_indices_backward(widened(grad), widened(self), kernel_size, stride, padding, dilation, ceil_mode,
                                                indices.to(at::kLong));
}

OPERATOR(aclnnMaxPool2dWithIndices, Elementwise,
         (Tensor self, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, Output out, Output indices), {
             auto [values, winners] = max_pool2d(self, kernel_size, stride, padding, dilation, ceil_mode);
             out = values;
             indices = winners;
         })
OPERATOR(aclnnMaxPool2dWithIndicesBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor indices, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, Output out),
         out = max_pool2d_backward(grad, self, kernel_size, stride, padding, dilation, ceil_mode, indices))
// The mask is the device's own layout of bits, opaque to torch_npu: the gradient finds the winners again.
OPERATOR(aclnnMaxPool2dWithMask, Elementwise,
         (Tensor self, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, Output out, Output mask), {
             out = std::get<0>(max_pool2d(self, kernel_size, stride, padding, dilation, ceil_mode));
             mask->zero_();
         })
OPERATOR(aclnnMaxPool2dWithMaskBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor mask, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, Output out), {
             auto [values, winners] = max_pool2d(self, kernel_size, stride, padding, dilation, ceil_mode);
             out = max_pool2d_backward(grad, self, kernel_size, stride, padding, dilation, ceil_mode, winners);
         })
OPERATOR(aclnnMaxPool3dWithArgmax, Elementwise,
         (Tensor self, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, Output out, Output indices), {
             auto [values, winners] = at::max_pool3d_with_indices(widened(self), kernel_size, stride, padding, dilation, ceil_mode);
             out = values;
             indices = winners;
         })
OPERATOR(aclnnMaxPool3dWithArgmaxBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor indices, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, Output out),
         out = at::max_pool3d_with_indices_backward(widened(grad), widened(self), kernel_size, stride, padding, dilation, ceil_mode,
                                                    indices.to(at::kLong)))

OPERATOR(aclnnAdaptiveMaxPool2d, Elementwise, (Tensor self, Ints output_size, Output out, Output indices), {
    auto [values, winners] = at::adaptive_max_pool2d(widened(self), output_size.ref());
    out = values;
    indices = winners;
})
OPERATOR(aclnnAdaptiveMaxPool2dBackward, Accumulating, (Tensor grad, Tensor self, Tensor indices, Output out),
         out = at::adaptive_max_pool2d_backward(widened(grad), widened(self), indices.to(at::kLong)))
OPERATOR(aclnnAdaptiveMaxPool3d, Elementwise, (Tensor self, Ints output_size, Output out, Output indices), {
    auto [values, winners] = at::adaptive_max_pool3d(widened(self), output_size.ref());
    out = values;
    indices = winners;
})
OPERATOR(aclnnAdaptiveMaxPool3dBackward, Accumulating, (Tensor grad, Tensor self, Tensor indices, Output out),
         out = at::adaptive_max_pool3d_backward(widened(grad), widened(self), indices.to(at::kLong)))

OPERATOR(aclnnMaxUnpool2d, Movement, (Tensor self, Tensor indices, Ints output_size, Output out),
         out = at::max_unpool2d(self, indices.to(at::kLong), output_size.ref()))
OPERATOR(aclnnMaxUnpool3d, Movement, (Tensor self, Tensor indices, Ints output_size, Ints stride, Ints padding, Output out),
         out = at::max_unpool3d(self, indices.to(at::kLong), output_size.ref(), stride, padding))
