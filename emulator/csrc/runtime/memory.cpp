// Memory: of each card, and of the host.
#include "memory.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "accounting.h"
#include "device_addresses.h"
#include "runtime.h"

namespace npu_emulator {
namespace {

// Fresh memory of a card is not zero: every float in it is NaN, every integer -1. Of a larger block only the beginning is filled, so that a
// program that reserves tens of GiB does not use them up on the host.
constexpr size_t poisoned_bytes = size_t{64} << 20;
constexpr int poison = 0xFF;
constexpr size_t page = 4096;

struct Memory {
    std::mutex lock;
    std::map<uintptr_t, Block> blocks;  // by address
};
Memory& memory = *new Memory;

std::string hex(const void* pointer) {
    char text[32];
    snprintf(text, sizeof text, "%p", pointer);
    return text;
}

int no_such_block(const char* name, const void* pointer, const char* kind) {
    return fail(ACL_ERROR_RT_PARAM_INVALID,
                std::string(name) + ": " + hex(pointer) + " is no " + kind + " memory that is in use (freed twice, or never allocated)");
}

int allocate(const char* name, void** pointer, size_t bytes) {
    *pointer = nullptr;
    if (bytes == 0) return fail(ACL_ERROR_RT_PARAM_INVALID, std::string(name) + ": zero bytes");
    if (int code = enter_runtime(name)) return code;
    int card = current_card();
    size_t size = whole_pages(bytes);
    if (int code = take_from_card(name, card, size)) return code;
    void* address = reserve_addresses(size);
    if (!address || !put_memory(address, size)) {
        if (address) release_addresses(address, size);
        return_to_card(card, size);
        return fail(ACL_ERROR_RT_MEMORY_ALLOCATION,
                    std::string(name) + ": the host has no " + std::to_string(bytes) + " bytes for the emulated device");
    }
    fill_with_poison(address, size);
    add_block(address, {size, card});
    *pointer = address;
    return ACL_SUCCESS;
}

/// Takes the block that begins at the address out of the registry, if it belongs to a card (or to the host) as said.
std::optional<Block> remove(void* pointer, bool of_host) {
    std::lock_guard guard(memory.lock);
    auto found = memory.blocks.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == memory.blocks.end() || found->second.mapped || (found->second.card < 0) != of_host) return std::nullopt;
    auto block = found->second;
    memory.blocks.erase(found);
    return block;
}

}  // namespace

size_t whole_pages(size_t bytes) { return (bytes + page - 1) / page * page; }

void fill_with_poison(void* address, size_t bytes) { memset(on_host(address), poison, std::min(bytes, poisoned_bytes)); }

void add_block(void* address, Block block) {
    std::lock_guard guard(memory.lock);
    memory.blocks[reinterpret_cast<uintptr_t>(address)] = block;
}

void drop_block(void* address) {
    std::lock_guard guard(memory.lock);
    memory.blocks.erase(reinterpret_cast<uintptr_t>(address));
}

std::optional<Place> locate(const void* pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    std::lock_guard guard(memory.lock);
    auto next = memory.blocks.upper_bound(address);
    if (next == memory.blocks.begin()) return std::nullopt;
    auto [begin, block] = *std::prev(next);
    uintptr_t end = begin + block.bytes;
    if (address >= end) return std::nullopt;
    // Mapped pieces of one segment lie side by side and count as one.
    for (; block.mapped && next != memory.blocks.end() && next->first == end && next->second.mapped; next++) end += next->second.bytes;
    return Place{block.card, end - address};
}

}  // namespace npu_emulator

using namespace npu_emulator;

CANN_API aclError aclrtMalloc(void** pointer, size_t bytes, aclrtMemMallocPolicy) { return allocate("aclrtMalloc", pointer, bytes); }
CANN_API aclError aclrtMallocAlign32(void** pointer, size_t bytes, aclrtMemMallocPolicy) { return allocate("aclrtMalloc", pointer, bytes); }

CANN_API aclError aclrtFree(void* pointer) {
    auto gate = pass("aclrtFree", "leak");
    if (gate.code) return gate.code;
    auto block = remove(pointer, false);
    if (!block) return no_such_block("aclrtFree", pointer, "device");
    take_memory(pointer, block->bytes);
    release_addresses(pointer, block->bytes);
    if (!gate.find("leak")) return_to_card(block->card, block->bytes);
    return ACL_SUCCESS;
}

CANN_API aclError aclrtMallocHost(void** pointer, size_t bytes) {
    *pointer = nullptr;
    if (bytes == 0) return fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtMallocHost: zero bytes");
    if (int code = enter_runtime("aclrtMallocHost")) return code;
    size_t size = whole_pages(bytes);
    void* address = aligned_alloc(page, size);
    if (!address) return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "aclrtMallocHost: the host has no " + std::to_string(bytes) + " bytes");
    add_block(address, {size, host});
    *pointer = address;
    return ACL_SUCCESS;
}

CANN_API aclError aclrtFreeHost(void* pointer) {
    auto gate = pass("aclrtFreeHost", "leak");
    if (gate.code) return gate.code;
    if (!remove(pointer, true)) return no_such_block("aclrtFreeHost", pointer, "host");
    if (!gate.find("leak")) free(pointer);
    return ACL_SUCCESS;
}

CANN_API aclError aclrtGetMemInfo(aclrtMemAttr, size_t* free_bytes, size_t* total_bytes) {
    auto gate = pass("aclrtGetMemInfo", "scale bias zero");
    if (gate.code) return gate.code;
    size_t total = settings().memory_bytes;
    double available = gate.changed(static_cast<double>(total - std::min(total, used_memory(current_card()))));
    *total_bytes = total;
    *free_bytes = static_cast<size_t>(std::clamp(available, 0.0, static_cast<double>(total)));
    return ACL_SUCCESS;
}
