// What the kernels of neural network operators need of their inputs.
#pragma once
#include "operator.h"

namespace npu_emulator {

/// float16 and bfloat16 as float32, anything else as it is: device kernels compute half types in float32 and round once.
inline Tensor widened(const Tensor& input) {
    bool half = input.defined() && (input.scalar_type() == at::kHalf || input.scalar_type() == at::kBFloat16);
    return half ? input.to(at::kFloat) : input;
}

/// An argument that may be absent, as libtorch takes it.
inline std::optional<Tensor> if_given(const Tensor& input) { return input.defined() ? std::optional<Tensor>(input) : std::nullopt; }
inline std::optional<Tensor> widened_if_given(const Tensor& input) { return if_given(widened(input)); }

}  // namespace npu_emulator
