// Logic, bits and shifts.
#include "operator.h"

OPERATOR(aclnnLogicalNot, Elementwise, (Tensor self, Output out), out = at::logical_not(self))
OPERATOR(aclnnLogicalAnd, Elementwise, (Tensor self, Tensor other, Output out), out = at::logical_and(self, other))
OPERATOR(aclnnLogicalOr, Elementwise, (Tensor self, Tensor other, Output out), out = at::logical_or(self, other))
OPERATOR(aclnnLogicalXor, Elementwise, (Tensor self, Tensor other, Output out), out = at::logical_xor(self, other))
OPERATOR(aclnnInplaceLogicalNot, Elementwise, (Output self), self = at::logical_not(self))
OPERATOR(aclnnInplaceLogicalAnd, Elementwise, (Output self, Tensor other), self = at::logical_and(self, other))
OPERATOR(aclnnInplaceLogicalOr, Elementwise, (Output self, Tensor other), self = at::logical_or(self, other))

#define BITWISE(NAME, FUNCTION)                                                                                                 \
    OPERATOR(aclnnBitwise##NAME##Tensor, Elementwise, (Tensor self, Tensor other, Output out), out = at::FUNCTION(self, other)) \
    OPERATOR(aclnnBitwise##NAME##Scalar, Elementwise, (Tensor self, Scalar other, Output out), out = at::FUNCTION(self, other))

BITWISE(And, bitwise_and)
BITWISE(Or, bitwise_or)
BITWISE(Xor, bitwise_xor)
OPERATOR(aclnnInplaceBitwiseAndTensor, Elementwise, (Output self, Tensor other), self = at::bitwise_and(*self, other))
OPERATOR(aclnnInplaceBitwiseAndScalar, Elementwise, (Output self, Scalar other), self = at::bitwise_and(*self, other))
OPERATOR(aclnnInplaceBitwiseXorTensor, Elementwise, (Output self, Tensor other), self = at::bitwise_xor(*self, other))
OPERATOR(aclnnInplaceBitwiseXorScalar, Elementwise, (Output self, Scalar other), self = at::bitwise_xor(*self, other))
OPERATOR(aclnnBitwiseNot, Elementwise, (Tensor self, Output out), out = at::bitwise_not(self))

// torch_npu passes a number to shift right by as a tensor.
OPERATOR(aclnnLeftShift, Elementwise, (Tensor self, Tensor shift_bits, Output out), out = at::bitwise_left_shift(self, shift_bits))
OPERATOR(aclnnLeftShifts, Elementwise, (Tensor self, Scalar shift_bits, Output out), out = at::bitwise_left_shift(self, shift_bits))
OPERATOR(aclnnRightShift, Elementwise, (Tensor self, Tensor shift_bits, Output out), out = at::bitwise_right_shift(self, shift_bits))
