// Calls on their way to a stream: through the gate, with their faults, and with an error code for whatever goes wrong.
#pragma once
#include <exception>
#include <memory>
#include <vector>

#include "../runtime/emulator.h"
#include "point_to_point.h"

namespace npu_emulator::hccl {

using Shared = std::shared_ptr<Communicator>;

/// The communicators of this process by handle. All throw Failure where there is none.
HcclComm enrol(Shared communicator);
Shared find(HcclComm handle);
void strike_off(HcclComm handle);

/// Sets the text of the error and returns the code of the exception now being handled.
HcclResult report_failure(const char* name);

/// Runs the body of a C function.
template <class Body>
HcclResult guarded(const char* name, Body body) {
    try {
        return body();
    } catch (...) { return report_failure(name); }
}

HcclResult launch(const Shared& communicator, void* stream, const Collective& collective);
HcclResult launch(Kind kind, const Shared& communicator, void* stream, const std::vector<Message>& messages);

}  // namespace npu_emulator::hccl
