// Functions of one number, out of place and in place.
#include "operator.h"

#define OUT_OF_PLACE(NAME, KIND, FUNCTION) OPERATOR(aclnn##NAME, KIND, (Tensor self, Output out), out = at::FUNCTION(self))
#define UNARY(NAME, KIND, FUNCTION)    \
    OUT_OF_PLACE(NAME, KIND, FUNCTION) \
    OPERATOR(aclnnInplace##NAME, KIND, (Output self), self = at::FUNCTION(*self))

// ---- exact or correctly rounded -------------------------------------------------------------------------------------------

OUT_OF_PLACE(Abs, Elementwise, abs)
OUT_OF_PLACE(Neg, Elementwise, neg)
OUT_OF_PLACE(Sign, Elementwise, sgn)
OUT_OF_PLACE(Signbit, Elementwise, signbit)
UNARY(Ceil, Elementwise, ceil)
UNARY(Floor, Elementwise, floor)
UNARY(Frac, Elementwise, frac)
OUT_OF_PLACE(Round, Elementwise, round)
OUT_OF_PLACE(Trunc, Elementwise, trunc)
UNARY(Relu, Elementwise, relu)
UNARY(Sqrt, Elementwise, sqrt)
OUT_OF_PLACE(IsFinite, Elementwise, isfinite)
OUT_OF_PLACE(IsNegInf, Elementwise, isneginf)
OUT_OF_PLACE(IsPosInf, Elementwise, isposinf)

OPERATOR(aclnnRoundDecimals, Elementwise, (Tensor self, int64_t decimals, Output out), out = at::round(self, decimals))
OPERATOR(aclnnInplaceRoundDecimals, Elementwise, (Output self, int64_t decimals), self = at::round(*self, decimals))
OPERATOR(aclnnNanToNum, Elementwise, (Tensor self, float nan, float posinf, float neginf, Output out),
         out = at::nan_to_num(self, nan, posinf, neginf))
OPERATOR(aclnnInplaceNanToNum, Elementwise, (Output self, float nan, float posinf, float neginf),
         self = at::nan_to_num(*self, nan, posinf, neginf))

// ---- approximated by hardware -----------------------------------------------------------------------------------------------

UNARY(Reciprocal, Approximate, reciprocal)
UNARY(Rsqrt, Approximate, rsqrt)
UNARY(Exp, Approximate, exp)
UNARY(Exp2, Approximate, exp2)
UNARY(Expm1, Approximate, expm1)
UNARY(Log, Approximate, log)
UNARY(Log10, Approximate, log10)
UNARY(Log1p, Approximate, log1p)
UNARY(Log2, Approximate, log2)
UNARY(Sigmoid, Approximate, sigmoid)
UNARY(Tanh, Approximate, tanh)
UNARY(Erf, Approximate, erf)
UNARY(Erfc, Approximate, erfc)
UNARY(Erfinv, Approximate, erfinv)
UNARY(Sin, Approximate, sin)
UNARY(Sinc, Approximate, sinc)
UNARY(Cos, Approximate, cos)
UNARY(Tan, Approximate, tan)
UNARY(Asin, Approximate, asin)
UNARY(Acos, Approximate, acos)
UNARY(Atan, Approximate, atan)
UNARY(Sinh, Approximate, sinh)
UNARY(Cosh, Approximate, cosh)
UNARY(Asinh, Approximate, asinh)
UNARY(Acosh, Approximate, acosh)
UNARY(Atanh, Approximate, atanh)
OUT_OF_PLACE(AngleV2, Approximate, angle)
