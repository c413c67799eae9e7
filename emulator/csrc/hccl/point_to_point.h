// Messages from one rank to another. As with HCCL, a send ends when its receive has taken it: "HcclSend and HcclRecv are invoked
// synchronously and must be used in pairs" (CANN's reference of HcclSend); the messages of one batch do not wait for each other.
#pragma once
#include <vector>

#include "collectives.h"

namespace npu_emulator::hccl {

struct Message {
    bool sends;
    Block block;
    HcclDataType dtype;
    uint32_t peer;
    bool withheld = false;  // by a fault of the sender
    bool blank = false;     // by a fault: zeros arrive
};

/// Throws Failure where the message has no peer in the communicator or no type.
void check(const Communicator& communicator, const Message& message);

/// Sends and receives all of them together with the other ranks. Throws Failure where the two ends do not agree.
void exchange(Communicator& communicator, const std::vector<Message>& messages);

}  // namespace npu_emulator::hccl
