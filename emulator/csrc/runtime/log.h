// What this process called and which faults fired, and the file that tells it (NPU_EMULATOR_LOG).
#pragma once
#include "emulator.h"

namespace npu_emulator {

/// Counts the call and returns the faults that fire on it.
Faults count_and_match(const Call& call);

/// Whether this process, or the one that it was forked from, has called anything but for the number of cards, which the libraries of
/// the training stack ask for when they are imported.
bool committed_to_settings();

/// Appends the counts of the calls to the log. Once: at the end of the process, or before a fault ends or hangs it.
void write_log();

}  // namespace npu_emulator
