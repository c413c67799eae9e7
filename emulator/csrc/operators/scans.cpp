// Scans along a dimension: running sums, products and extrema.
#include "operator.h"

static std::optional<DType> if_defined(DType dtype) { return dtype == DType::Undefined ? std::nullopt : std::optional<DType>(dtype); }

OPERATOR(aclnnCumsum, Accumulating, (Tensor self, int64_t dim, DType dtype, Output out), out = at::cumsum(self, dim, if_defined(dtype)))
OPERATOR(aclnnCumprod, Accumulating, (Tensor self, Scalar dim, DType dtype, Output out),
         out = at::cumprod(self, dim.toLong(), if_defined(dtype)))
OPERATOR(aclnnCummax, Elementwise, (Tensor self, int64_t dim, Output values, Output indices), {
    auto [extrema, positions] = at::cummax(self, dim);
    values = extrema;
    indices = positions;
})
OPERATOR(aclnnCummin, Elementwise, (Tensor self, int64_t dim, Output values, Output indices), {
    auto [extrema, positions] = at::cummin(self, dim);
    values = extrema;
    indices = positions;
})
