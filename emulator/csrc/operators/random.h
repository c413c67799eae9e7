// The numbers that random operators draw.
#pragma once
#include "operator.h"

namespace npu_emulator {

/// The generator of one call. torch_npu passes the seed that the user set and an offset that it advances with every call; equal
/// pairs give equal numbers. They are not the numbers that a device draws from the same pair (its Philox streams).
at::Generator generator_for(uint64_t seed, uint64_t offset);

}  // namespace npu_emulator
