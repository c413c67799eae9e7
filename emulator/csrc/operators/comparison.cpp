// Comparisons: elementwise, with a tensor or a number, and of whole tensors.
#include "operator.h"

#define COMPARISON(NAME, FUNCTION)                                                                                       \
    OPERATOR(aclnn##NAME##Tensor, Elementwise, (Tensor self, Tensor other, Output out), out = at::FUNCTION(self, other)) \
    OPERATOR(aclnn##NAME##Scalar, Elementwise, (Tensor self, Scalar other, Output out), out = at::FUNCTION(self, other)) \
    OPERATOR(aclnnInplace##NAME##Tensor, Elementwise, (Output self, Tensor other), self = at::FUNCTION(*self, other))    \
    OPERATOR(aclnnInplace##NAME##Scalar, Elementwise, (Output self, Scalar other), self = at::FUNCTION(*self, other))

COMPARISON(Eq, eq)
COMPARISON(Ne, ne)
COMPARISON(Ge, ge)
COMPARISON(Gt, gt)
COMPARISON(Le, le)
COMPARISON(Lt, lt)
// A second name of aclnnLtScalar, which torch_npu uses where the left operand is the number.
OPERATOR(aclnnLessScalar, Elementwise, (Tensor self, Scalar other, Output out), out = at::lt(self, other))

OPERATOR(aclnnEqual, Elementwise, (Tensor self, Tensor other, Output out),
         out = at::scalar_tensor(self.sizes() == other.sizes() && at::equal(self, other), at::kBool))
OPERATOR(aclnnIsClose, Elementwise, (Tensor self, Tensor other, double rtol, double atol, bool equal_nan, Output out),
         out = at::isclose(self, other, rtol, atol, equal_nan))
