// Softmax, its logarithm, its masked forms, and their gradients.
#include "softmax.h"

OPERATOR(aclnnSoftmax, Accumulating, (Tensor self, int64_t dim, Output out), out = at::softmax(widened(self), dim))
OPERATOR(aclnnSoftmaxBackward, Accumulating, (Tensor grad, Tensor output, int64_t dim, Output out), {
    Tensor y = widened(output);
    out = at::_softmax_backward_data(widened(grad).to(y.scalar_type()), y, dim, y.scalar_type());
})
OPERATOR(aclnnLogSoftmax, Accumulating, (Tensor self, int64_t dim, Output out), out = at::log_softmax(widened(self), dim))
OPERATOR(aclnnLogSoftmaxBackward, Accumulating, (Tensor grad, Tensor output, int64_t dim, Output out), {
    Tensor y = widened(output);
    out = at::_log_softmax_backward_data(widened(grad).to(y.scalar_type()), y, dim, y.scalar_type());
})

OPERATOR(aclnnScaledMaskedSoftmax, Accumulating, (Tensor self, Tensor mask, double scale, bool triangular, Output out),
         out = scaled_masked_softmax(self, mask, scale, triangular))
OPERATOR(aclnnScaledMaskedSoftmaxBackward, Accumulating,
         (Tensor grad, Tensor output, Tensor mask, double scale, bool triangular, Output out),
         out = scaled_masked_softmax_backward(grad, output, mask, scale, triangular))
