// Copies and fills of memory.
#include <algorithm>
#include <cstring>
#include <map>

#include "device_addresses.h"
#include "memory.h"
#include "runtime.h"

namespace npu_emulator {
namespace {

int refuse(const char* name, const std::string& what) { return fail(ACL_ERROR_RT_PARAM_INVALID, std::string(name) + ": " + what); }

/// Whether `bytes` from the pointer on are device memory (or host memory) as said, and within one block.
int check(const char* name, const char* role, const void* pointer, size_t bytes, std::optional<bool> on_device) {
    if (!pointer) return refuse(name, std::string("the ") + role + " is a null pointer");
    auto place = locate(pointer);
    bool device = place && place->card != host;
    if (on_device && *on_device != device) {
        return refuse(name, std::string("the ") + role + " is to be " + (*on_device ? "device" : "host") + " memory, but is " +
                                (device ? "device" : "host") + " memory (or was freed)");
    }
    if (place && place->bytes < bytes) {
        return refuse(
            name, std::to_string(bytes) + " bytes reach beyond the " + role + ", of which " + std::to_string(place->bytes) + " are left");
    }
    return ACL_SUCCESS;
}

int check_copy(const char* name, void* to, size_t room, const void* from, size_t bytes, aclrtMemcpyKind kind) {
    if (bytes > room) return refuse(name, std::to_string(bytes) + " bytes do not fit into a destination of " + std::to_string(room));
    std::optional<bool> to_device, from_device;
    switch (kind) {
        case ACL_MEMCPY_HOST_TO_HOST:
            to_device = from_device = false;
            break;
        case ACL_MEMCPY_HOST_TO_DEVICE:
        case ACL_MEMCPY_HOST_TO_BUF_TO_DEVICE:
            to_device = true, from_device = false;
            break;
        case ACL_MEMCPY_DEVICE_TO_HOST:
            to_device = false, from_device = true;
            break;
        case ACL_MEMCPY_DEVICE_TO_DEVICE:
        case ACL_MEMCPY_INNER_DEVICE_TO_DEVICE:
        case ACL_MEMCPY_INTER_DEVICE_TO_DEVICE:
            to_device = from_device = true;
            break;
        case ACL_MEMCPY_DEFAULT:
            break;
        default:
            return refuse(name, "unknown kind of copy " + std::to_string(kind));
    }
    if (int code = check(name, "destination", to, bytes, to_device)) return code;
    return check(name, "source", from, bytes, from_device);
}

/// What the previous copy carried, for the faults that deliver it again.
struct Previous {
    std::mutex lock;
    std::map<std::string, std::vector<char>> bytes;  // by name of the call
};

void deliver_previous(const char* name, void* to, const void* from, size_t bytes) {
    static auto& previous = *new Previous;
    std::lock_guard guard(previous.lock);
    auto& last = previous.bytes[name];
    std::vector<char> now(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    memcpy(to, last.data(), std::min(last.size(), bytes));
    last = std::move(now);
}

Call call_of(const char* name, void* stream, size_t bytes) {
    Call call{name};
    call.stream = stream;
    call.dtype = "bytes";
    call.numel = static_cast<int64_t>(bytes);
    call.actions = "null tail stale";
    return call;
}

/// How many bytes are still to be written after the faults that fired.
size_t written(const Passed& gate, size_t bytes) {
    if (gate.find("null")) return 0;
    auto* tail = gate.find("tail");
    return tail ? bytes - std::min(bytes, static_cast<size_t>(tail->number)) : bytes;
}

int copy(const char* name, void* stream, void* to, const void* from, size_t bytes) {
    auto gate = pass(call_of(name, stream, bytes));
    if (gate.code) return gate.code;
    size_t count = written(gate, bytes);
    if (gate.find("stale"))
        deliver_previous(name, on_host(to), on_host(from), count);
    else
        memmove(on_host(to), on_host(from), count);
    return ACL_SUCCESS;
}

int fill(const char* name, void* stream, void* to, int value, size_t bytes) {
    Call call = call_of(name, stream, bytes);
    call.actions = "null tail";
    auto gate = pass(call);
    if (gate.code) return gate.code;
    memset(on_host(to), value, written(gate, bytes));
    return ACL_SUCCESS;
}

int check_fill(const char* name, void* to, size_t room, size_t bytes) {
    if (bytes > room) return refuse(name, std::to_string(bytes) + " bytes do not fit into a destination of " + std::to_string(room));
    return check(name, "destination", to, bytes, true);
}

}  // namespace
}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API aclError aclrtMemcpy(void* to, size_t room, const void* from, size_t bytes, aclrtMemcpyKind kind) {
    if (bytes == 0) return ACL_SUCCESS;
    if (int code = check_copy("aclrtMemcpy", to, room, from, bytes, kind)) return code;
    return copy("aclrtMemcpy", nullptr, to, from, bytes);
}

CANN_API aclError aclrtMemcpyAsync(void* to, size_t room, const void* from, size_t bytes, aclrtMemcpyKind kind, aclrtStream stream) {
    if (bytes == 0) return ACL_SUCCESS;
    if (int code = check_copy("aclrtMemcpyAsync", to, room, from, bytes, kind)) return code;
    return submit(stream, [=] { return copy("aclrtMemcpyAsync", stream, to, from, bytes); });
}

CANN_API aclError aclrtMemset(void* to, size_t room, int32_t value, size_t bytes) {
    if (bytes == 0) return ACL_SUCCESS;
    if (int code = check_fill("aclrtMemset", to, room, bytes)) return code;
    return fill("aclrtMemset", nullptr, to, value, bytes);
}

CANN_API aclError aclrtMemsetAsync(void* to, size_t room, int32_t value, size_t bytes, aclrtStream stream) {
    if (bytes == 0) return ACL_SUCCESS;
    if (int code = check_fill("aclrtMemsetAsync", to, room, bytes)) return code;
    return submit(stream, [=] { return fill("aclrtMemsetAsync", stream, to, value, bytes); });
}
