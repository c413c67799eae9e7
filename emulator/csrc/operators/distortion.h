// What precision noise and injected faults do to the numbers of an output.
#pragma once
#include "operator.h"

namespace npu_emulator {

/// "fp32", "fp16", "bf16", "int64", ...: how faults and traces name a dtype.
std::string dtype_name(at::ScalarType dtype);

/// float32 with its mantissa rounded to 10 bits, which is what the cube unit multiplies with HF32 enabled; else the input itself.
Tensor round_to_hf32(const Tensor& input);

/// Perturbs a floating-point output within what the operator's kind of computation may legitimately differ by.
void add_noise(Tensor& output, const OperatorInfo& info);

/// Keeps the result of output number `index` of an operator; returns that of the previous call, undefined for the first one.
Tensor exchange_result(const char* name, size_t index, const Tensor& now);

/// Applies the fault's numeric actions to an output of an operator. `before` is what its memory held before the call, `previous` the
/// result of the previous call; either is undefined where no fault needs it. Returns whether anything changed.
bool distort(Tensor& output, const Fault& fault, const char* name, const Tensor& before, const Tensor& previous);

}  // namespace npu_emulator
