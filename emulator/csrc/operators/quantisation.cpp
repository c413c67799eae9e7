// Products with quantised weights.
#include "widening.h"

namespace {

// int4 values packed by eights into int32, the first in the lowest bits: along the rows of a transposed matrix, else along its columns.
Tensor unpacked(const Tensor& packed) {
    bool transposed = packed.stride(-2) == 1 && packed.stride(-1) >= packed.size(-2);
    Tensor rows = transposed ? packed.transpose(-1, -2) : packed;
    Tensor shifts = at::arange(0, 32, 4, at::kInt);
    Tensor values = at::bitwise_and(at::bitwise_right_shift(rows.unsqueeze(-1), shifts), 15).flatten(-2);
    values = at::where(values > 7, values - 16, values);
    return transposed ? values.transpose(-1, -2) : values;
}

// x @ ((weight + offset) * scale) + bias, with one scale for the matrix, for each column, or for each group of rows of a column. The cube
// unit gets the weight in x's type.
Tensor product(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& offset, const Tensor& bias, int64_t group) {
    TORCH_CHECK(scale.scalar_type() == x.scalar_type(), "antiquant_scale must have the type of x, ", x.scalar_type(), ", not ",
                scale.scalar_type());
    Tensor values = (weight.scalar_type() == at::kInt ? unpacked(weight) : weight).to(at::kFloat);
    auto spread = [&](const Tensor& each) {
        Tensor wide = widened(each);
        return group > 0 ? wide.repeat_interleave(group, 0).narrow(0, 0, values.size(-2)) : wide;
    };
    if (offset.defined()) values = values + spread(offset);
    Tensor dequantised = (values * spread(scale)).to(x.scalar_type());
    Tensor sums = at::matmul(widened(x), widened(dequantised));
    return bias.defined() ? sums + bias : sums;
}

}  // namespace

OPERATOR(aclnnWeightQuantBatchMatmulV2, Matmul,
         (Tensor x, Tensor weight, Tensor antiquant_scale, Tensor antiquant_offset, Tensor quant_scale, Tensor quant_offset, Tensor bias,
          int antiquant_group_size, Output y),
         {
             TORCH_CHECK(!quant_scale.defined(), "quantisation of the product is not emulated");
             y = product(x, weight, antiquant_scale, antiquant_offset, bias, antiquant_group_size);
         })
OPERATOR(aclnnWeightQuantBatchMatmulV3, Matmul,
         (Tensor x, Tensor weight, Tensor antiquant_scale, Tensor antiquant_offset, Tensor quant_scale, Tensor quant_offset, Tensor bias,
          int antiquant_group_size, int64_t inner_precise, Output y),
         {
             TORCH_CHECK(!quant_scale.defined(), "quantisation of the product is not emulated");
             y = product(x, weight, antiquant_scale, antiquant_offset, bias, antiquant_group_size);
         })
