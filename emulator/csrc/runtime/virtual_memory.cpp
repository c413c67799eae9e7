// Reserved ranges of addresses into which pieces of device memory are mapped: what torch_npu's expandable_segments:True is made of.
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <mutex>

#include "accounting.h"
#include "device_addresses.h"
#include "memory.h"
#include "runtime.h"

namespace npu_emulator {
namespace {

/// A piece of a card's memory, which lives in a file without a name until it is mapped somewhere.
struct Physical {
    int file;
    size_t bytes;
    int card;
    bool mapped_before = false;
};

struct State {
    std::mutex lock;
    std::map<void*, size_t> reserved;  // bytes, by address
    std::map<void*, size_t> mapped;
};
State& state = *new State;

int refuse(const char* name, const char* what) { return fail(ACL_ERROR_RT_PARAM_INVALID, std::string(name) + ": " + what); }

/// Takes the entry of an address out of the map. Returns its bytes, or 0.
size_t taken_out(std::map<void*, size_t>& entries, void* address) {
    std::lock_guard guard(state.lock);
    auto found = entries.find(address);
    if (found == entries.end()) return 0;
    size_t bytes = found->second;
    entries.erase(found);
    return bytes;
}

bool within_reserved(void* address, size_t bytes) {
    std::lock_guard guard(state.lock);
    auto next = state.reserved.upper_bound(address);
    if (next == state.reserved.begin()) return false;
    auto [begin, size] = *std::prev(next);
    return static_cast<char*>(address) + bytes <= static_cast<char*>(begin) + size;
}

}  // namespace
}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API aclError aclrtReserveMemAddress(void** address, size_t bytes, size_t, void*, uint64_t) {
    if (bytes == 0) return refuse("aclrtReserveMemAddress", "zero bytes");
    if (int code = enter_runtime("aclrtReserveMemAddress")) return code;
    *address = reserve_addresses(whole_pages(bytes));
    if (!*address) return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtReserveMemAddress: the host has no such range of addresses");
    std::lock_guard guard(state.lock);
    state.reserved[*address] = bytes;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtReleaseMemAddress(void* address) {
    size_t bytes = taken_out(state.reserved, address);
    if (!bytes) return refuse("aclrtReleaseMemAddress", "not the beginning of a reserved range");
    release_addresses(address, whole_pages(bytes));
    return ACL_SUCCESS;
}

CANN_API aclError aclrtMallocPhysical(aclrtDrvMemHandle* handle, size_t bytes, const aclrtPhysicalMemProp* properties, uint64_t) {
    int card = static_cast<int>(properties->location.id);
    if (properties->location.type != ACL_MEM_LOCATION_TYPE_DEVICE) return unsupported("aclrtMallocPhysical", "physical memory of the host");
    if (!valid_card(card)) return fail(ACL_ERROR_RT_INVALID_DEVICEID, "aclrtMallocPhysical: there is no device " + std::to_string(card));
    if (int code = enter_runtime("aclrtMallocPhysical")) return code;
    if (int code = take_from_card("aclrtMallocPhysical", card, bytes)) return code;
    int file = memfd_create("npu-emulator", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
        if (file >= 0) close(file);
        return_to_card(card, bytes);
        return fail(ACL_ERROR_RT_MEMORY_ALLOCATION,
                    "aclrtMallocPhysical: the host has no " + std::to_string(bytes) + " bytes for the emulated device");
    }
    *handle = new Physical{file, bytes, card};
    return ACL_SUCCESS;
}

CANN_API aclError aclrtFreePhysical(aclrtDrvMemHandle handle) {
    auto gate = pass("aclrtFreePhysical", "leak");
    if (gate.code) return gate.code;
    auto* physical = static_cast<Physical*>(handle);
    close(physical->file);
    if (!gate.find("leak")) return_to_card(physical->card, physical->bytes);
    delete physical;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtMapMem(void* address, size_t bytes, size_t offset, aclrtDrvMemHandle handle, uint64_t) {
    auto* physical = static_cast<Physical*>(handle);
    if (offset + bytes > physical->bytes) return refuse("aclrtMapMem", "more than the physical memory has");
    if (!within_reserved(address, bytes)) return refuse("aclrtMapMem", "not within a reserved range");
    if (int code = enter_runtime("aclrtMapMem")) return code;
    if (!put_memory(address, bytes, physical->file, static_cast<off_t>(offset))) {
        return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMapMem: the host cannot map the memory");
    }
    if (!physical->mapped_before) fill_with_poison(address, bytes);
    physical->mapped_before = true;
    add_block(address, {bytes, physical->card, true});
    std::lock_guard guard(state.lock);
    state.mapped[address] = bytes;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtUnmapMem(void* address) {
    size_t bytes = taken_out(state.mapped, address);
    if (!bytes) return refuse("aclrtUnmapMem", "nothing is mapped there");
    drop_block(address);
    take_memory(address, bytes);  // the addresses stay reserved
    return ACL_SUCCESS;
}
