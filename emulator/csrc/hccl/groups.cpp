#include "groups.h"

#include <utility>

namespace npu_emulator::hccl {
namespace {

struct Batch {
    Shared communicator;
    void* stream;
    std::vector<Message> messages;
};

thread_local int depth = 0;
thread_local std::vector<Batch> batches;

}  // namespace

void start_group() { depth++; }

HcclResult end_group() {
    if (depth == 0) throw Failure(HCCL_E_PARA, "there is no group to end");
    if (--depth > 0) return HCCL_SUCCESS;
    for (auto& batch : std::exchange(batches, {}))
        if (auto code = launch(Kind::BatchSendRecv, batch.communicator, batch.stream, batch.messages)) return code;
    return HCCL_SUCCESS;
}

bool in_group() { return depth > 0; }

void add_to_group(const Shared& communicator, void* stream, const Message& message) {
    check(*communicator, message);
    for (auto& batch : batches) {
        if (batch.communicator != communicator || batch.stream != stream) continue;
        batch.messages.push_back(message);
        return;
    }
    batches.push_back({communicator, stream, {message}});
}

}  // namespace npu_emulator::hccl
