// Sends and receives between HcclGroupStart and HcclGroupEnd of a thread, which are carried out as one batch. Collectives in a
// group are not put off: all ranks issue them in one order anyway.
#pragma once
#include "launch.h"

namespace npu_emulator::hccl {

void start_group();

/// At the end of the outermost group its messages go to their streams. Throws Failure where there is no group to end.
HcclResult end_group();

bool in_group();
void add_to_group(const Shared& communicator, void* stream, const Message& message);

}  // namespace npu_emulator::hccl
