#include "device_addresses.h"

#include <sys/mman.h>

#include <cstdint>
#include <map>
#include <mutex>

namespace npu_emulator {
namespace {

constexpr size_t gap = 4096;  // behind each block
// What is asked of the host, in turn: an address space may be small (39 bits on some aarch64 kernels) or limited (ulimit -v).
constexpr size_t sizes[] = {size_t{16} << 40, size_t{4} << 40, size_t{1} << 40, size_t{128} << 30, size_t{16} << 30};

struct Range {
    uintptr_t begin = 0;
    size_t bytes = 0;  // of device addresses; the memory behind them takes as many again
    std::mutex lock;
    uintptr_t next = 0;                  // where the search for free addresses goes on
    std::map<uintptr_t, size_t> free{};  // bytes, by address

    Range() {
        for (size_t size : sizes) {
            void* address = mmap(nullptr, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (address == MAP_FAILED) continue;
            begin = next = reinterpret_cast<uintptr_t>(address);
            bytes = size;
            free[begin] = bytes;
            return;
        }
    }

    bool holds(uintptr_t address) const { return address - begin < bytes; }
};

Range& range() {
    static auto& made = *new Range;
    return made;
}

void* take(Range& all, std::map<uintptr_t, size_t>::iterator found, size_t bytes) {
    auto [begin, size] = *found;
    all.free.erase(found);
    if (size > bytes) all.free[begin + bytes] = size - bytes;
    all.next = begin + bytes;
    return reinterpret_cast<void*>(begin);
}

}  // namespace

void* reserve_addresses(size_t bytes) {
    auto& all = range();
    std::lock_guard guard(all.lock);
    for (auto start : {all.free.lower_bound(all.next), all.free.begin()}) {
        for (auto found = start; found != all.free.end(); found++) {
            if (found->second >= bytes + gap) return take(all, found, bytes + gap);
        }
    }
    return nullptr;
}

void release_addresses(void* address, size_t bytes) {
    auto& all = range();
    std::lock_guard guard(all.lock);
    auto [here, inserted] = all.free.emplace(reinterpret_cast<uintptr_t>(address), bytes + gap);
    auto after = std::next(here);
    if (after != all.free.end() && here->first + here->second == after->first) {
        here->second += after->second;
        all.free.erase(after);
    }
    if (here != all.free.begin()) {
        auto before = std::prev(here);
        if (before->first + before->second == here->first) {
            before->second += here->second;
            all.free.erase(here);
        }
    }
}

bool put_memory(void* address, size_t bytes, int file, long offset) {
    int kind = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    return mmap(on_host(address), bytes, PROT_READ | PROT_WRITE, kind | MAP_FIXED, file, offset) != MAP_FAILED;
}

void take_memory(void* address, size_t bytes) {
    mmap(on_host(address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

void* on_host(const void* address) {
    auto place = reinterpret_cast<uintptr_t>(address);
    auto& all = range();
    return reinterpret_cast<void*>(all.holds(place) ? place + all.bytes : place);
}

}  // namespace npu_emulator
