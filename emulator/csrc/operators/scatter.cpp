// Scatter along a dimension: elements written to, or reduced into, the places that an index names.
#include "widening.h"

/// The result of a scatter with one of CANN's codes of reductions.
static Tensor scattered(const Tensor& self, int64_t dim, const Tensor& index, const Tensor& source, int64_t reduce,
                        bool include_self = true) {
    static const char* const names[] = {"none", "sum", "prod", "amax", "amin", "mean"};
    TORCH_CHECK(reduce >= 0 && reduce <= 5, "reduction ", reduce, " is not one of 0 (none), 1 (add), 2 (mul), 3 (max), 4 (min), 5 (mean)");
    Tensor places = index.to(at::kLong);
    if (reduce == 0) return at::scatter(self, dim, places, source.to(self.scalar_type()));
    executes_as(Kind::Accumulating);
    Tensor wide = widened(self);
    return at::scatter_reduce(wide, dim, places, source.to(wide.scalar_type()), names[reduce], include_self);
}

/// A number as the source of a scatter.
static Tensor repeated(Scalar value, const Tensor& index, const Tensor& self) { return at::full(index.sizes(), value, self.options()); }

OPERATOR(aclnnScatter, Movement, (Tensor self, int64_t dim, Tensor index, Tensor src, int64_t reduce, Output out),
         out = scattered(self, dim, index, src, reduce))
OPERATOR(aclnnInplaceScatter, Movement, (Output self, int64_t dim, Tensor index, Tensor src, int64_t reduce),
         self = scattered(self, dim, index, src, reduce))
OPERATOR(aclnnScatterValue, Movement, (Tensor self, int64_t dim, Tensor index, Scalar value, int64_t reduce, Output out),
         out = scattered(self, dim, index, repeated(value, index, self), reduce))
OPERATOR(aclnnInplaceScatterValue, Movement, (Output self, int64_t dim, Tensor index, Scalar value, int64_t reduce),
         self = scattered(self, dim, index, repeated(value, index, self), reduce))
OPERATOR(aclnnScatterReduce, Movement, (Tensor self, int64_t dim, Tensor index, Tensor src, int64_t reduce, bool include_self, Output out),
         out = scattered(self, dim, index, src, reduce, include_self))
OPERATOR(aclnnInplaceScatterReduce, Movement, (Output self, int64_t dim, Tensor index, Tensor src, int64_t reduce, bool include_self),
         self = scattered(self, dim, index, src, reduce, include_self))
OPERATOR(aclnnScatterAdd, Accumulating, (Tensor self, int64_t dim, Tensor index, Tensor src, Output out),
         out = at::scatter_add(widened(self), dim, index.to(at::kLong), widened(src)))
