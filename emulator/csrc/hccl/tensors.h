// Pieces of memory as torch tensors.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "shared_memory.h"

namespace npu_emulator::hccl {

/// Torch's CPU kernels and nothing else: no autograd, no autocast, none of the calling thread's dispatch modes.
struct CpuDispatch {
    c10::impl::ForceDispatchKeyGuard keys;
    CpuDispatch();
};

/// A view of `count` elements. Types that torch does not have appear as bytes.
at::Tensor view(char* data, uint64_t count, HcclDataType dtype);

}  // namespace npu_emulator::hccl
