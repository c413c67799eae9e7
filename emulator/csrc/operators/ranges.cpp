// Ranges and other tensors that follow a rule: arange, linspace, logspace, the identity matrix, one-hot vectors.
#include "widening.h"

/// start, start + step, ... as many as the output takes: torch_npu has computed the length. An integer range starts and steps by
/// integers, whatever the numbers were given as.
static Tensor progression(const Output& out, const Scalar& start, const Scalar& step) {
    bool integral = at::isIntegralType(out->scalar_type(), true) || (start.isIntegral(true) && step.isIntegral(true));
    if (integral) return at::arange(out->numel(), at::kLong).mul_(step.toLong()).add_(start.toLong());
    return at::arange(out->numel(), at::kDouble).mul_(step).add_(start);
}

/// The dtype in which points between two ends are computed: half types are rounded once, at the end.
static DType computed(const Output& out) {
    DType dtype = out->scalar_type();
    return dtype == at::kHalf || dtype == at::kBFloat16 ? at::kFloat : dtype;
}

OPERATOR(aclnnArange, Movement, (Scalar start, Scalar end, Scalar step, Output out), out = progression(out, start, step))
OPERATOR(aclnnRange, Movement, (Scalar start, Scalar end, Scalar step, Output out), out = progression(out, start, step))
OPERATOR(aclnnLinspace, Elementwise, (Scalar start, Scalar end, int64_t steps, Output out),
         out = at::linspace(start, end, steps, computed(out)))
OPERATOR(aclnnLogSpace, Approximate, (Scalar start, Scalar end, int64_t steps, double base, Output out),
         out = at::logspace(start, end, steps, base, computed(out)))
OPERATOR(aclnnEye, Movement, (int64_t n, int64_t m, Output out), out = at::eye(n, m, out->options()))

// A number outside [0, num_classes) gives a row of off_value.
OPERATOR(aclnnOneHot, Movement, (Tensor self, int64_t num_classes, Tensor on_value, Tensor off_value, int64_t axis, Output out), {
    int64_t dim = at::maybe_wrap_dim(axis, out->dim());
    std::vector<int64_t> shape(out->dim(), 1);
    shape[dim] = num_classes;
    Tensor classes = at::arange(num_classes, at::kLong).reshape(shape);
    out = at::where(self.unsqueeze(dim) == classes, on_value.reshape({}), off_value.reshape({}));
})
