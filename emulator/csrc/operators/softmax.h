// The masked softmax, which is an aclnn operator and a graph operator.
#pragma once
#include "widening.h"

namespace npu_emulator {

/// softmax(scale * self) over the last dimension. CANN's kernel replaces masked scores by -10000, not by -inf: a row that is
/// masked throughout gives equal probabilities.
inline Tensor scaled_masked_softmax(const Tensor& self, const Tensor& mask, double scale, bool triangular) {
    TORCH_CHECK(!triangular, "fixed_triu_mask=True is not supported: pass the mask as a tensor");
    Tensor scores = at::mul(widened(self), scale);
    if (mask.defined()) scores = at::masked_fill(scores, mask.to(at::kBool), -10000.0);
    return at::softmax(scores, -1);
}

inline Tensor scaled_masked_softmax_backward(const Tensor& grad, const Tensor& output, const Tensor& mask, double scale, bool triangular) {
    TORCH_CHECK(!triangular, "fixed_triu_mask=True is not supported: pass the mask as a tensor");
    Tensor y = widened(output);
    Tensor grad_scores = at::mul(at::_softmax_backward_data(widened(grad), y, -1, y.scalar_type()), scale);
    return mask.defined() ? at::masked_fill(grad_scores, mask.to(at::kBool), 0) : grad_scores;
}

}  // namespace npu_emulator
