// What this process called and which faults fired, and the file that tells it (NPU_EMULATOR_LOG).
#pragma once
#include "emulator.h"

namespace npu_emulator {

/// Counts the call and returns the faults that fire on it.
Faults count_and_match(const Call& call);

/// Appends the counts of the calls to the log. Once: at the end of the process, or before a fault ends or hangs it.
void write_log();

}  // namespace npu_emulator
