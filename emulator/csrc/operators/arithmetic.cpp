// Addition, subtraction, multiplication, division, remainders, powers, extrema and interpolation, with their in-place forms.
#include <ATen/ScalarOps.h>

#include "widening.h"

// ---- addition, subtraction --------------------------------------------------------------------------------------------

OPERATOR(aclnnAdd, Elementwise, (Tensor self, Tensor other, Scalar alpha, Output out), out = at::add(self, other, alpha))
OPERATOR(aclnnAdds, Elementwise, (Tensor self, Scalar other, Scalar alpha, Output out), out = at::add(self, other, alpha))
OPERATOR(aclnnAddV3, Elementwise, (Scalar self, Tensor other, Scalar alpha, Output out),
         out = at::add(at::native::wrapped_scalar_tensor(self), other, alpha))
OPERATOR(aclnnInplaceAdd, Elementwise, (Output self, Tensor other, Scalar alpha), self = at::add(self, other, alpha))
OPERATOR(aclnnInplaceAdds, Elementwise, (Output self, Scalar other, Scalar alpha), self = at::add(self, other, alpha))
OPERATOR(aclnnSub, Elementwise, (Tensor self, Tensor other, Scalar alpha, Output out), out = at::sub(self, other, alpha))
OPERATOR(aclnnSubs, Elementwise, (Tensor self, Scalar other, Scalar alpha, Output out), out = at::sub(self, other, alpha))
OPERATOR(aclnnInplaceSub, Elementwise, (Output self, Tensor other, Scalar alpha), self = at::sub(self, other, alpha))
OPERATOR(aclnnInplaceSubs, Elementwise, (Output self, Scalar other, Scalar alpha), self = at::sub(self, other, alpha))
OPERATOR(aclnnRsub, Elementwise, (Tensor self, Tensor other, Scalar alpha, Output out), out = at::rsub(self, other, alpha))
OPERATOR(aclnnRsubs, Elementwise, (Tensor self, Scalar other, Scalar alpha, Output out), out = at::rsub(self, other, alpha))

// ---- an operand that is a tensor or a number (the name's ending), out of place or in place --------------------------------

#define BINARY(TENSOR, SCALAR, KIND, FUNCTION)                                                              \
    OPERATOR(aclnn##TENSOR, KIND, (Tensor self, Tensor other, Output out), out = at::FUNCTION(self, other)) \
    OPERATOR(aclnn##SCALAR, KIND, (Tensor self, Scalar other, Output out), out = at::FUNCTION(self, other)) \
    OPERATOR(aclnnInplace##TENSOR, KIND, (Output self, Tensor other), self = at::FUNCTION(*self, other))    \
    OPERATOR(aclnnInplace##SCALAR, KIND, (Output self, Scalar other), self = at::FUNCTION(*self, other))

BINARY(Mul, Muls, Elementwise, mul)
BINARY(Div, Divs, Elementwise, div)
BINARY(FloorDivide, FloorDivides, Elementwise, floor_divide)
BINARY(RemainderTensorTensor, RemainderTensorScalar, Elementwise, remainder)
BINARY(FmodTensor, FmodScalar, Elementwise, fmod)
BINARY(PowTensorTensor, PowTensorScalar, Approximate, pow)

OPERATOR(aclnnRemainderScalarTensor, Elementwise, (Scalar self, Tensor other, Output out), out = at::remainder(self, other))
OPERATOR(aclnnPowScalarTensor, Approximate, (Scalar self, Tensor exponent, Output out), out = at::pow(self, exponent))

/// The code with which torch_npu passes div's rounding_mode.
static std::optional<c10::string_view> rounding(int mode) {
    switch (mode) {
        case 1:
            return "trunc";
        case 2:
            return "floor";
        default:
            return std::nullopt;
    }
}
OPERATOR(aclnnDivMod, Elementwise, (Tensor self, Tensor other, int mode, Output out), out = at::div(self, other, rounding(mode)))
OPERATOR(aclnnDivMods, Elementwise, (Tensor self, Scalar other, int mode, Output out), out = at::div(self, other, rounding(mode)))
OPERATOR(aclnnInplaceDivMod, Elementwise, (Output self, Tensor other, int mode), self = at::div(*self, other, rounding(mode)))
OPERATOR(aclnnInplaceDivMods, Elementwise, (Output self, Scalar other, int mode), self = at::div(*self, other, rounding(mode)))

// ---- extrema ----------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnMaximum, Elementwise, (Tensor self, Tensor other, Output out), out = at::maximum(self, other))
OPERATOR(aclnnMinimum, Elementwise, (Tensor self, Tensor other, Output out), out = at::minimum(self, other))
OPERATOR(aclnnClamp, Elementwise, (Tensor self, OptionalScalar min, OptionalScalar max, Output out), out = at::clamp(self, min, max))
OPERATOR(aclnnClampTensor, Elementwise, (Tensor self, Tensor min, Tensor max, Output out),
         out = at::clamp(self, if_given(min), if_given(max)))
OPERATOR(aclnnClampMax, Elementwise, (Tensor self, Scalar max, Output out), out = at::clamp_max(self, max))
OPERATOR(aclnnClampMin, Elementwise, (Tensor self, Scalar min, Output out), out = at::clamp_min(self, min))
OPERATOR(aclnnClampMaxTensor, Elementwise, (Tensor self, Tensor max, Output out), out = at::clamp_max(self, max))
OPERATOR(aclnnClampMinTensor, Elementwise, (Tensor self, Tensor min, Output out), out = at::clamp_min(self, min))
OPERATOR(aclnnInplaceClampMax, Elementwise, (Output self, Scalar max), self = at::clamp_max(*self, max))
OPERATOR(aclnnInplaceClampMaxTensor, Elementwise, (Output self, Tensor max), self = at::clamp_max(*self, max))
OPERATOR(aclnnInplaceClampMinTensor, Elementwise, (Output self, Tensor min), self = at::clamp_min(*self, min))

// ---- several operands: intermediate roundings are the device's own ------------------------------------------------------------

OPERATOR(aclnnAddcmul, Approximate, (Tensor self, Tensor tensor1, Tensor tensor2, Scalar value, Output out),
         out = at::addcmul(self, tensor1, tensor2, value))
OPERATOR(aclnnAddcdiv, Approximate, (Tensor self, Tensor tensor1, Tensor tensor2, Scalar value, Output out),
         out = at::addcdiv(self, tensor1, tensor2, value))
OPERATOR(aclnnInplaceAddcmul, Approximate, (Output self, Tensor tensor1, Tensor tensor2, Scalar value),
         self = at::addcmul(self, tensor1, tensor2, value))
OPERATOR(aclnnInplaceAddcdiv, Approximate, (Output self, Tensor tensor1, Tensor tensor2, Scalar value),
         self = at::addcdiv(self, tensor1, tensor2, value))
OPERATOR(aclnnLerp, Approximate, (Tensor self, Tensor end, Tensor weight, Output out), out = at::lerp(self, end, weight))
OPERATOR(aclnnLerps, Approximate, (Tensor self, Tensor end, Scalar weight, Output out), out = at::lerp(self, end, weight))
OPERATOR(aclnnInplaceLerp, Approximate, (Output self, Tensor end, Tensor weight), self = at::lerp(self, end, weight))
OPERATOR(aclnnInplaceLerps, Approximate, (Output self, Tensor end, Scalar weight), self = at::lerp(self, end, weight))

// CANN documents a float here, torch_npu passes a double.
OPERATOR(aclnnMaskedScale, Elementwise, (Tensor self, Tensor mask, double scale, Output out),
         out = at::mul(at::mul(widened(self), mask.to(widened(self).scalar_type())), scale))

// ---- functions of two numbers ----------------------------------------------------------------------------------------------------

OPERATOR(aclnnAtan2, Approximate, (Tensor self, Tensor other, Output out), out = at::atan2(self, other))
OPERATOR(aclnnInplaceAtan2, Approximate, (Output self, Tensor other), self = at::atan2(self, other))
OPERATOR(aclnnGcd, Elementwise, (Tensor self, Tensor other, Output out), out = at::gcd(self, other))
OPERATOR(aclnnLogAddExp, Approximate, (Tensor self, Tensor other, Output out), out = at::logaddexp(self, other))
OPERATOR(aclnnLogAddExp2, Approximate, (Tensor self, Tensor other, Output out), out = at::logaddexp2(self, other))
OPERATOR(aclnnXLogYTensor, Approximate, (Tensor self, Tensor other, Output out), out = at::xlogy(self, other))
OPERATOR(aclnnXLogYScalarOther, Approximate, (Tensor self, Scalar other, Output out), out = at::xlogy(self, other))
OPERATOR(aclnnXLogYScalarSelf, Approximate, (Scalar self, Tensor other, Output out), out = at::xlogy(self, other))
OPERATOR(aclnnInplaceXLogYScalarOther, Approximate, (Output self, Scalar other), self = at::xlogy(*self, other))
OPERATOR(aclnnComplex, Movement, (Tensor real, Tensor imag, Output out), out = at::complex(real, imag))
OPERATOR(aclnnPolar, Approximate, (Tensor abs, Tensor angle, Output out), out = at::polar(abs, angle))
