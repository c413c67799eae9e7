// Arithmetic over lists of tensors (torch._foreach_*), each equal to the operator over one tensor. torch_npu also knows older
// forms, whose number is a tensor; it takes them only where a form of the same name with V2 is missing.
#include "operator.h"

#define FOREACH(NAME, KIND, PARAMETERS, EXPRESSION) \
    OPERATOR(aclnnForeach##NAME, KIND, PARAMETERS, for (size_t i = 0; i < out.size(); i++) out[i] = EXPRESSION)

// ---- functions of one number ---------------------------------------------------------------------------------------------

#define UNARY(NAME, KIND, FUNCTION) FOREACH(NAME, KIND, (Tensors self, Outputs out), at::FUNCTION(self[i]))

UNARY(Abs, Elementwise, abs)
UNARY(Neg, Elementwise, neg)
UNARY(Sign, Elementwise, sign)
UNARY(Sqrt, Elementwise, sqrt)
UNARY(Reciprocal, Approximate, reciprocal)
UNARY(Exp, Approximate, exp)
UNARY(Expm1, Approximate, expm1)
UNARY(Log, Approximate, log)
UNARY(Log10, Approximate, log10)
UNARY(Log1p, Approximate, log1p)
UNARY(Log2, Approximate, log2)
UNARY(Sigmoid, Approximate, sigmoid)
UNARY(Tanh, Approximate, tanh)
UNARY(Erf, Approximate, erf)
UNARY(Erfc, Approximate, erfc)
UNARY(Sin, Approximate, sin)
UNARY(Cos, Approximate, cos)
UNARY(Tan, Approximate, tan)
UNARY(Asin, Approximate, asin)
UNARY(Acos, Approximate, acos)
UNARY(Atan, Approximate, atan)
UNARY(Sinh, Approximate, sinh)
UNARY(Cosh, Approximate, cosh)

/// The modes with which torch_npu asks for round, floor, ceil, trunc and frac.
static Tensor rounded(const Tensor& self, int64_t mode) {
    switch (mode) {
        case 1:
            return at::round(self);
        case 2:
            return at::floor(self);
        case 3:
            return at::ceil(self);
        case 5:
            return at::trunc(self);
        case 7:
            return at::frac(self);
        default:
            TORCH_CHECK(false, "rounding mode ", mode, " is not emulated: torch_npu uses 1, 2, 3, 5 and 7");
    }
}
FOREACH(RoundOffNumberV2, Elementwise, (Tensors self, Scalar mode, Outputs out), rounded(self[i], mode.toLong()))

// ---- with a number, a number for each tensor, or a tensor for each tensor --------------------------------------------------------

#define WITH_NUMBER(NAME, KIND, FUNCTION)                                                                    \
    FOREACH(NAME##ScalarV2, KIND, (Tensors self, Scalar scalar, Outputs out), at::FUNCTION(self[i], scalar)) \
    FOREACH(NAME##ScalarList, KIND, (Tensors self, Scalars scalars, Outputs out), at::FUNCTION(self[i], scalars[i]))
#define WITH_TENSOR(NAME, KIND, FUNCTION) \
    FOREACH(NAME##List, KIND, (Tensors self, Tensors other, Outputs out), at::FUNCTION(self[i], other[i]))

WITH_NUMBER(Add, Elementwise, add)
WITH_NUMBER(Sub, Elementwise, sub)
WITH_NUMBER(Mul, Elementwise, mul)
WITH_NUMBER(Div, Elementwise, div)
WITH_NUMBER(Pow, Approximate, pow)
WITH_NUMBER(Maximum, Elementwise, clamp_min)
WITH_NUMBER(Minimum, Elementwise, clamp_max)
WITH_TENSOR(Mul, Elementwise, mul)
WITH_TENSOR(Div, Elementwise, div)
WITH_TENSOR(Pow, Approximate, pow)
WITH_TENSOR(Maximum, Elementwise, maximum)
WITH_TENSOR(Minimum, Elementwise, minimum)
FOREACH(AddListV2, Elementwise, (Tensors self, Tensors other, Scalar alpha, Outputs out), at::add(self[i], other[i], alpha))
FOREACH(SubListV2, Elementwise, (Tensors self, Tensors other, Scalar alpha, Outputs out), at::sub(self[i], other[i], alpha))
FOREACH(PowScalarAndTensor, Approximate, (Scalar self, Tensors exponent, Outputs out), at::pow(self, exponent[i]))

// ---- three operands, norms -----------------------------------------------------------------------------------------------------------

FOREACH(LerpScalar, Approximate, (Tensors self, Tensors end, Scalar weight, Outputs out), at::lerp(self[i], end[i], weight))
FOREACH(LerpList, Approximate, (Tensors self, Tensors end, Tensors weight, Outputs out), at::lerp(self[i], end[i], weight[i]))
FOREACH(AddcmulScalarV2, Approximate, (Tensors self, Tensors tensor1, Tensors tensor2, Scalar value, Outputs out),
        at::addcmul(self[i], tensor1[i], tensor2[i], value))
FOREACH(AddcdivScalarV2, Approximate, (Tensors self, Tensors tensor1, Tensors tensor2, Scalar value, Outputs out),
        at::addcdiv(self[i], tensor1[i], tensor2[i], value))
// A number for each tensor of the list, as one tensor on the device.
FOREACH(AddcmulScalarList, Approximate, (Tensors self, Tensors tensor1, Tensors tensor2, Tensor values, Outputs out),
        at::addcmul(self[i], tensor1[i], tensor2[i], values[i].item()))
FOREACH(AddcdivScalarList, Approximate, (Tensors self, Tensors tensor1, Tensors tensor2, Tensor values, Outputs out),
        at::addcdiv(self[i], tensor1[i], tensor2[i], values[i].item()))
FOREACH(Norm, Accumulating, (Tensors self, Scalar p, Outputs out), at::linalg_vector_norm(self[i], p))
