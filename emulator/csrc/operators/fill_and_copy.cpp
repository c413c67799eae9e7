// Fills, copies, casts, and choosing by a mask.
#include "operator.h"

/// A copy to another dtype computes; a copy to the same one moves bits, -inf of an attention mask included.
static void copy_or_cast(const Tensor& source, const Output& out) {
    if (source.scalar_type() != out->scalar_type()) executes_as(Kind::Elementwise);
    out = source.numel() == out->numel() ? source : source.expand(out->sizes());
}
OPERATOR(aclnnInplaceCopy, Movement, (Output self, Tensor source), copy_or_cast(source, self))
OPERATOR(aclnnForeachCopy, Movement, (Tensors source, Outputs out), for (size_t i = 0; i < out.size(); i++) copy_or_cast(source[i], out[i]))
OPERATOR(aclnnCast, Elementwise, (Tensor self, DType dtype, Output out), out = self.to(dtype))

OPERATOR(aclnnInplaceOne, Movement, (Output self), self->fill_(1))
OPERATOR(aclnnInplaceZero, Movement, (Output self), self->zero_())
OPERATOR(aclnnForeachZeroInplace, Movement, (Outputs self), for (auto& tensor : self.tensors) tensor.zero_())
OPERATOR(aclnnInplaceFillScalar, Movement, (Output self, Scalar value), self->fill_(value))
OPERATOR(aclnnInplaceFillTensor, Movement, (Output self, Tensor value), self->fill_(value.reshape({})))
OPERATOR(aclnnInplaceFillDiagonal, Movement, (Output self, Scalar value, bool wrap), self->fill_diagonal_(value, wrap))

OPERATOR(aclnnSWhere, Movement, (Tensor condition, Tensor self, Tensor other, Output out),
         out = at::where(condition.to(at::kBool), self, other))
OPERATOR(aclnnInplaceMaskedFillScalar, Movement, (Output self, Tensor mask, Scalar value), self->masked_fill_(mask.to(at::kBool), value))
OPERATOR(aclnnInplaceMaskedFillTensor, Movement, (Output self, Tensor mask, Tensor value),
         self->masked_fill_(mask.to(at::kBool), value.reshape({})))
OPERATOR(aclnnInplaceMaskedScatter, Movement, (Output self, Tensor mask, Tensor source), self->masked_scatter_(mask.to(at::kBool), source))
