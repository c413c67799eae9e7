#include "accounting.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "runtime.h"

namespace npu_emulator {
namespace {

constexpr size_t most_cards = 32;

struct Entry {
    pid_t process = 0;
    uint64_t start = 0;  // of the process, in clock ticks since boot: a number may be given to another process later
    std::array<uint64_t, most_cards> used{};
};

/// Field 22 of /proc/PID/stat (proc(5)), counted behind the name, which may contain anything; 0 where there is no such process.
uint64_t start_of(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/stat");
    std::string text{std::istreambuf_iterator<char>(file), {}};
    auto name_ends = text.rfind(')');
    if (name_ends == std::string::npos) return 0;
    std::istringstream fields(text.substr(name_ends + 1));
    std::string field;
    for (int number = 3; number <= 22 && fields >> field; number++) {
        if (number == 22) return strtoull(field.c_str(), nullptr, 10);
    }
    return 0;
}

class Ledger {
  public:
    Ledger() {
        const char* path = getenv(ledger_variable);
        if (path && *path) file_ = open(path, O_RDWR | O_CLOEXEC);
        struct stat facts{};
        if (file_ >= 0 && fstat(file_, &facts) == 0 && facts.st_size > 0) {
            size_t bytes = static_cast<size_t>(facts.st_size);
            void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
            if (address != MAP_FAILED) {
                entries_ = static_cast<Entry*>(address);
                count_ = bytes / sizeof(Entry);
                return;
            }
        }
        if (file_ >= 0) close(file_);
        file_ = -1;
        entries_ = new Entry;
        count_ = 1;
    }

    /// Calls the function with this process's entry, while no other process and no other thread changes any.
    template <class Function>
    auto locked(Function function) {
        std::lock_guard guard(mutex_);
        if (file_ >= 0) {
            while (flock(file_, LOCK_EX) != 0 && errno == EINTR) {}
        }
        auto result = function(own());
        if (file_ >= 0) flock(file_, LOCK_UN);
        return result;
    }

    /// Bytes that all processes use of a card. Frees the entries of those that ended.
    uint64_t used(int physical) {
        uint64_t sum = 0;
        for (size_t i = 0; i < count_; i++) {
            Entry& entry = entries_[i];
            if (entry.process && entry.process != getpid() && start_of(entry.process) != entry.start) entry = Entry{};
            if (entry.process) sum += entry.used[static_cast<size_t>(physical)];
        }
        return sum;
    }

  private:
    Entry& own() {
        pid_t process = getpid();
        if (own_ && own_->process == process) return *own_;
        for (size_t i = 0; i < count_; i++) {
            Entry& entry = entries_[i];
            bool is_free = entry.process == 0 || entry.process == process || (file_ >= 0 && start_of(entry.process) != entry.start);
            if (!is_free) continue;
            entry = Entry{process, start_of(process), {}};
            own_ = &entry;
            return entry;
        }
        own_ = new Entry{process, 0, {}};  // more processes than there is room for: this one is not counted by the others
        return *own_;
    }

    int file_ = -1;
    Entry* entries_ = nullptr;
    size_t count_ = 0;
    Entry* own_ = nullptr;
    std::mutex mutex_;
};

Ledger& ledger() {
    static auto& opened = *new Ledger;
    return opened;
}

}  // namespace

size_t used_memory(int card) {
    int physical = physical_card(card);
    return ledger().locked([=](Entry&) { return ledger().used(physical); });
}

int take_from_card(const char* name, int card, size_t bytes) {
    int physical = physical_card(card);
    uint64_t total = settings().memory_bytes, used = 0, others = 0;
    bool fits = ledger().locked([&](Entry& own) {
        used = ledger().used(physical);
        auto& mine = own.used[static_cast<size_t>(physical)];
        others = used - mine;
        if (used > total || bytes > total - used) return false;
        mine += bytes;
        return true;
    });
    if (fits) return ACL_SUCCESS;
    std::string by_others = others ? " (" + std::to_string(others) + " of it by other processes)" : "";
    return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, std::string(name) + ": out of memory on device " + std::to_string(card) + ": " +
                                                    std::to_string(bytes) + " bytes asked for, " + std::to_string(used) + " of " +
                                                    std::to_string(total) + " in use" + by_others);
}

void return_to_card(int card, size_t bytes) {
    auto physical = static_cast<size_t>(physical_card(card));
    ledger().locked([=](Entry& own) { return own.used[physical] -= std::min<uint64_t>(bytes, own.used[physical]); });
}

}  // namespace npu_emulator
