// Dropout masks as the device keeps them.
#pragma once
#include "operator.h"

namespace npu_emulator {

/// A mask of one bit for each element, in memory order, the lowest bit of each byte first; 1 keeps the element. torch_npu pads
/// the buffer to a multiple of 128 bits. Returns a flat bool tensor of the first `numel` elements.
Tensor unpack_keep_mask(const Tensor& mask, int64_t numel);

/// The other way round: uint8 of `bytes` elements, padded with zeros. `keep` is bool, of any shape with at most 8 * bytes elements.
Tensor pack_keep_mask(const Tensor& keep, int64_t bytes);

}  // namespace npu_emulator
