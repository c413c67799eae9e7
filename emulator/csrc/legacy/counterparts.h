// From the name of a graph operator to that of the aclnn function that torch_npu prefers.
#pragma once
#include <string>

namespace npu_emulator {

/// The aclnn functions that libopapi.so lacks and whose absence makes torch_npu run this graph operator, separated by commas;
/// empty where it lacks none, or where torch_npu knows none.
std::string missing_counterparts_of(const char* graph_operator);

}  // namespace npu_emulator
