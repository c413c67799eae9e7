// The C interface of HCCL: what torch_npu looks up in libhccl.so. Without the functions that are not here, torch_npu takes another
// way or says which one it misses.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "../runtime/device_addresses.h"
#include "groups.h"

using namespace npu_emulator;
using namespace npu_emulator::hccl;

namespace {

/// A collective on a stream. `describe` gets the communicator and returns what this rank does in it.
template <class Describe>
HcclResult collective(const char* name, HcclComm handle, void* stream, Describe describe) {
    return guarded(name, [&] {
        auto communicator = find(handle);
        return launch(communicator, stream, describe(*communicator));
    });
}

/// An injected failure of a call that creates or destroys a communicator, as an exception.
void enter_setup(const char* name) {
    if (int code = enter_runtime(name)) throw Failure(static_cast<HcclResult>(code), "failure injected by a fault");
}

// The headers of torch_npu before 2.10 have a configuration without it.
template <class Config>
double timeout_of(const Config* config) {
    if constexpr (requires { config->hcclExecTimeOut; })
        if (config && config->hcclExecTimeOut > 0) return config->hcclExecTimeOut;
    return settings().hccl_timeout_seconds;
}

std::string name_in(const HcclCommConfig* config, uint64_t otherwise) {
    if (!config || !config->hcclCommName[0]) return "hccl_" + std::to_string(otherwise);
    return std::string(config->hcclCommName, strnlen(config->hcclCommName, COMM_NAME_MAX_LENGTH - 1));
}

HcclResult join(const char* name, uint32_t ranks, const HcclRootInfo* info, uint32_t rank, const HcclCommConfig* config, HcclComm* handle) {
    return guarded(name, [&] {
        if (!info || !handle) throw Failure(HCCL_E_PTR, "a null pointer instead of the root info, or of the place for the communicator");
        if (ranks == 0 || ranks > most_ranks || rank >= ranks)
            throw Failure(HCCL_E_PARA, "rank " + std::to_string(rank) + " of " + std::to_string(ranks) +
                                           " is not possible; the emulator has 1 to " + std::to_string(most_ranks) + " ranks");
        enter_setup(name);
        struct RootInfo {
            Address address;
            ~RootInfo() { release(address); }
        } root;
        memcpy(&root.address, info->internal, sizeof root.address);
        *handle = enrol(std::make_shared<Communicator>(root.address, ranks, rank, name_in(config, root.address.nonce), timeout_of(config)));
        return HCCL_SUCCESS;
    });
}

HcclResult send_or_receive(Kind kind, void* data, uint64_t count, HcclDataType dtype, uint32_t peer, HcclComm handle, void* stream) {
    return guarded(name_of(kind), [&] {
        auto communicator = find(handle);
        Message message{kind == Kind::Send, {static_cast<char*>(on_host(data)), count}, dtype, peer};
        if (!in_group()) return launch(kind, communicator, stream, {message});
        add_to_group(communicator, stream, message);
        return HCCL_SUCCESS;
    });
}

}  // namespace

// ---- communicators -------------------------------------------------------------------------------------------------------------

CANN_API HcclResult HcclGetRootInfo(HcclRootInfo* info) {
    return guarded("HcclGetRootInfo", [&] {
        enter_setup("HcclGetRootInfo");
        auto address = create_shared_memory();
        memset(info->internal, 0, sizeof info->internal);
        memcpy(info->internal, &address, sizeof address);
        return HCCL_SUCCESS;
    });
}

CANN_API HcclResult HcclCommInitRootInfo(uint32_t ranks, const HcclRootInfo* info, uint32_t rank, HcclComm* handle) {
    return join("HcclCommInitRootInfo", ranks, info, rank, nullptr, handle);
}

CANN_API HcclResult HcclCommInitRootInfoConfig(uint32_t ranks, const HcclRootInfo* info, uint32_t rank, const HcclCommConfig* config,
                                               HcclComm* handle) {
    return join("HcclCommInitRootInfoConfig", ranks, info, rank, config, handle);
}

CANN_API HcclResult HcclCreateSubCommConfig(HcclComm* whole, uint32_t ranks, uint32_t* rank_ids, uint64_t id, uint32_t rank,
                                            HcclCommConfig* config, HcclComm* handle) {
    constexpr uint64_t not_a_member = 0xFFFFFFFF;
    return guarded("HcclCreateSubCommConfig", [&] {
        auto communicator = find(*whole);
        if (!rank_ids && id == not_a_member) {
            *handle = nullptr;
            return HCCL_SUCCESS;
        }
        std::vector<uint32_t> members(rank_ids, rank_ids ? rank_ids + ranks : rank_ids);
        auto unknown = [&](uint32_t member) { return member >= communicator->size(); };
        bool known = std::none_of(members.begin(), members.end(), unknown);
        if (!known || rank >= members.size() || members[rank] != communicator->rank())
            throw Failure(HCCL_E_PARA, "rank " + std::to_string(communicator->rank()) + " of communicator " + communicator->name() +
                                           " is not rank " + std::to_string(rank) + " of the " + std::to_string(ranks) + " ranks given");
        enter_setup("HcclCreateSubCommConfig");
        *handle = enrol(communicator->part(id, members, rank, name_in(config, id), timeout_of(config)));
        return HCCL_SUCCESS;
    });
}

CANN_API HcclResult HcclCommDestroy(HcclComm handle) {
    return guarded("HcclCommDestroy", [&] {
        enter_setup("HcclCommDestroy");
        strike_off(handle);
        return HCCL_SUCCESS;
    });
}

CANN_API HcclResult HcclGetCommName(HcclComm handle, char* name) {
    return guarded("HcclGetCommName", [&] {
        snprintf(name, COMM_NAME_MAX_LENGTH, "%s", find(handle)->name().c_str());
        return HCCL_SUCCESS;
    });
}

// Of torch_npu before 2.10, for torch.nn.DataParallel's collectives between the cards of one process.
CANN_API HcclResult HcclCommInitAll(uint32_t, int32_t*, HcclComm*) {
    return guarded("HcclCommInitAll", []() -> HcclResult {
        throw Failure(HCCL_E_NOT_SUPPORT, "communicators of one process with several cards are not emulated");
    });
}

// Of the features that torch_npu asks for: buffer size, determinism, the communicator's name.
CANN_API uint32_t HcclGetCommConfigCapability() { return HCCL_COMM_CONFIG_COMM_NAME + 1; }

// It reports broken connections between servers ("ERROR CQE"), of which there are none. Other failures are the call's or the stream's.
CANN_API HcclResult HcclGetCommAsyncError(HcclComm, HcclResult* error) {
    *error = HCCL_SUCCESS;
    return HCCL_SUCCESS;
}

// Determinism, the one thing that torch_npu configures, is always given: ranks are combined in one order.
CANN_API HcclResult HcclSetConfig(HcclConfig, HcclConfigValue) { return HCCL_SUCCESS; }

// ---- collectives ---------------------------------------------------------------------------------------------------------------

CANN_API HcclResult HcclAllReduce(void* send, void* receive, uint64_t count, HcclDataType dtype, HcclReduceOp reduction, HcclComm handle,
                                  aclrtStream stream) {
    return collective("HcclAllReduce", handle, stream, [&](auto& c) { return all_reduce(c, send, receive, count, dtype, reduction); });
}

CANN_API HcclResult HcclReduce(void* send, void* receive, uint64_t count, HcclDataType dtype, HcclReduceOp reduction, uint32_t root,
                               HcclComm handle, aclrtStream stream) {
    return collective("HcclReduce", handle, stream, [&](auto& c) { return reduce(c, send, receive, count, dtype, reduction, root); });
}

CANN_API HcclResult HcclBroadcast(void* data, uint64_t count, HcclDataType dtype, uint32_t root, HcclComm handle, aclrtStream stream) {
    return collective("HcclBroadcast", handle, stream, [&](auto& c) { return broadcast(c, data, count, dtype, root); });
}

CANN_API HcclResult HcclAllGather(void* send, void* receive, uint64_t count, HcclDataType dtype, HcclComm handle, aclrtStream stream) {
    return collective("HcclAllGather", handle, stream, [&](auto& c) { return all_gather(c, send, receive, count, dtype); });
}

CANN_API HcclResult HcclAllGatherV(void* send, uint64_t count, void* receive, const void* counts, const void* displacements,
                                   HcclDataType dtype, HcclComm handle, aclrtStream stream) {
    return collective("HcclAllGatherV", handle, stream,
                      [&](auto& c) { return all_gather_v(c, send, count, receive, Layout(c, counts, displacements), dtype); });
}

CANN_API HcclResult HcclReduceScatter(void* send, void* receive, uint64_t count, HcclDataType dtype, HcclReduceOp reduction,
                                      HcclComm handle, aclrtStream stream) {
    return collective("HcclReduceScatter", handle, stream,
                      [&](auto& c) { return reduce_scatter(c, send, receive, count, dtype, reduction); });
}

CANN_API HcclResult HcclReduceScatterV(void* send, const void* counts, const void* displacements, void* receive, uint64_t count,
                                       HcclDataType dtype, HcclReduceOp reduction, HcclComm handle, aclrtStream stream) {
    return collective("HcclReduceScatterV", handle, stream, [&](auto& c) {
        return reduce_scatter_v(c, send, Layout(c, counts, displacements), receive, count, dtype, reduction);
    });
}

CANN_API HcclResult HcclScatter(void* send, void* receive, uint64_t count, HcclDataType dtype, uint32_t root, HcclComm handle,
                                aclrtStream stream) {
    return collective("HcclScatter", handle, stream, [&](auto& c) { return scatter(c, send, receive, count, dtype, root); });
}

CANN_API HcclResult HcclAlltoAll(const void* send, uint64_t send_count, HcclDataType send_dtype, const void* receive, uint64_t count,
                                 HcclDataType dtype, HcclComm handle, aclrtStream stream) {
    return collective("HcclAlltoAll", handle, stream, [&](auto& c) {
        if (send_count != count || send_dtype != dtype)
            throw Failure(HCCL_E_PARA, "what is sent and what is received differ in size or type");
        return all_to_all(c, send, const_cast<void*>(receive), count, dtype);
    });
}

CANN_API HcclResult HcclAlltoAllV(const void* send, const void* send_counts, const void* send_displacements, HcclDataType send_dtype,
                                  const void* receive, const void* counts, const void* displacements, HcclDataType dtype, HcclComm handle,
                                  aclrtStream stream) {
    return collective("HcclAlltoAllV", handle, stream, [&](auto& c) {
        if (send_dtype != dtype) throw Failure(HCCL_E_PARA, "what is sent and what is received differ in type");
        return all_to_all_v(c, send, Layout(c, send_counts, send_displacements), const_cast<void*>(receive),
                            Layout(c, counts, displacements), dtype);
    });
}

CANN_API HcclResult HcclBarrier(HcclComm handle, aclrtStream stream) {
    return collective("HcclBarrier", handle, stream, [](auto&) { return barrier(); });
}

// ---- messages ------------------------------------------------------------------------------------------------------------------

CANN_API HcclResult HcclSend(void* data, uint64_t count, HcclDataType dtype, uint32_t peer, HcclComm handle, aclrtStream stream) {
    return send_or_receive(Kind::Send, data, count, dtype, peer, handle, stream);
}

CANN_API HcclResult HcclRecv(void* data, uint64_t count, HcclDataType dtype, uint32_t peer, HcclComm handle, aclrtStream stream) {
    return send_or_receive(Kind::Recv, data, count, dtype, peer, handle, stream);
}

CANN_API HcclResult HcclBatchSendRecv(HcclSendRecvItem* items, uint32_t count, HcclComm handle, aclrtStream stream) {
    return guarded("HcclBatchSendRecv", [&] {
        std::vector<Message> messages;
        for (auto* item = items; item != items + count; item++)
            messages.push_back(
                {item->sendRecvType == HCCL_SEND, {static_cast<char*>(on_host(item->buf)), item->count}, item->dataType, item->remoteRank});
        return launch(Kind::BatchSendRecv, find(handle), stream, messages);
    });
}
