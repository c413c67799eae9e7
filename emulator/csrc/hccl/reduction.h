// Data types of collectives, and the arithmetic of reductions.
//
// Ranks are combined one after the other, each result rounded to the data type: HCCL lets the copy engine add to what is in
// memory ("inline reduce"), so a partial sum of fp16 is fp16. With every rank combining in the same order, all get the same bits.
#pragma once
#include <string>
#include <vector>

#include "shared_memory.h"

namespace npu_emulator::hccl {

size_t bytes_of(HcclDataType dtype);         // throws Failure for a type that HCCL does not have
std::string dtype_name(HcclDataType dtype);  // "fp32", "int64", ... as faults and traces name it
const char* reduction_name(HcclReduceOp reduction);

/// Throws Failure where HCCL has no such reduction on the chip.
void check_reduction(HcclDataType dtype, HcclReduceOp reduction);

/// Combines `count` elements of each of the inputs, in their order, into `result`; zeros where there is no input.
void reduce(char* result, const std::vector<const char*>& inputs, uint64_t count, HcclDataType dtype, HcclReduceOp reduction);

}  // namespace npu_emulator::hccl
