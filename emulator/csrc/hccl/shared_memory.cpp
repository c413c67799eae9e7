#include "shared_memory.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>

namespace npu_emulator::hccl {
namespace {

constexpr char mark[16] = "npu-emulator 1";
constexpr size_t page_bytes = 64 << 10;  // the largest in use, on aarch64

size_t whole_pages(size_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

std::string process_text(pid_t process) { return "process " + std::to_string(process); }

[[noreturn]] void system_failure(const char* what) { throw Failure(HCCL_E_SYSCALL, std::string(what) + ": " + strerror(errno)); }

/// The descriptors by which others can still come, by nonce.
struct Open {
    std::mutex lock;
    std::map<uint64_t, int> descriptors;
};
Open& opened = *new Open;

int open_file(const Address& address) {
    if (memcmp(address.mark, mark, sizeof mark) != 0)
        throw Failure(HCCL_E_PARA, "the root info is not one that HcclGetRootInfo of the emulator has made");
    auto path = "/proc/" + std::to_string(address.process) + "/fd/" + std::to_string(address.descriptor);
    int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    std::string reason = strerror(errno);
    if (file >= 0) {
        uint64_t nonce = 0;
        bool read = pread(file, &nonce, sizeof nonce, offsetof(Header, nonce)) == sizeof nonce;
        if (read && nonce == address.nonce) return file;
        reason = "it leads to something else by now";
        close(file);
    }
    throw Failure(HCCL_E_REMOTE, "cannot reach " + process_text(address.process) + ", which made the root info, by " + path + ": " +
                                     reason + ". The ranks of an emulated communicator are processes of one user in one container");
}

char* map(int file, size_t bytes) {
    void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (base == MAP_FAILED) system_failure("cannot map the memory of a communicator");
    return static_cast<char*>(base);
}

/// Closes the descriptor where the constructor of a mapping throws.
struct File {
    int descriptor;
    ~File() { close(descriptor); }
};

}  // namespace

uint64_t start_time(pid_t process) {
    char text[1024] = {};
    FILE* file = fopen(("/proc/" + std::to_string(process) + "/stat").c_str(), "re");
    if (!file) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    // The name of the program, in parentheses, may contain anything. After it: the state, 18 numbers, the start time.
    const char* rest = length ? strrchr(text, ')') : nullptr;
    char state = 0;
    unsigned long long started = 0;
    const char* format = " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu";
    if (!rest || sscanf(rest + 1, format, &state, &started) != 2 || state == 'Z' || state == 'X') return 0;
    return started;
}

Address create_shared_memory() {
    Address address = {};
    memcpy(address.mark, mark, sizeof mark);
    if (getrandom(&address.nonce, sizeof address.nonce, 0) != sizeof address.nonce) system_failure("getrandom");
    address.process = getpid();
    address.descriptor = memfd_create("npu-emulator-hccl", MFD_CLOEXEC);
    if (address.descriptor < 0 || ftruncate(address.descriptor, whole_pages(sizeof(Header))) != 0)
        system_failure("cannot create the memory of a communicator");
    if (pwrite(address.descriptor, &address.nonce, sizeof address.nonce, offsetof(Header, nonce)) < 0)
        system_failure("cannot write the memory of a communicator");
    std::lock_guard guard(opened.lock);
    opened.descriptors[address.nonce] = address.descriptor;
    return address;
}

void release(const Address& address) {
    std::lock_guard guard(opened.lock);
    auto found = opened.descriptors.find(address.nonce);
    if (found == opened.descriptors.end()) return;
    close(found->second);
    opened.descriptors.erase(found);
}

SharedMemory::SharedMemory(const Address& address, uint32_t ranks) : ranks_(ranks) {
    File file{open_file(address)};
    size_t header_bytes = whole_pages(sizeof(Header)), slots_bytes = 2 * ranks * slot_bytes;
    bytes_ = header_bytes + slots_bytes + whole_pages(ranks * ranks * sizeof(Ring));
    // Every rank sets the same size, before any of them uses what lies behind the header.
    base_ = map(file.descriptor, header_bytes);
    uint32_t expected = 0;
    bool agreed = header().ranks.compare_exchange_strong(expected, ranks) || expected == ranks;
    munmap(base_, header_bytes);
    if (!agreed)
        throw Failure(HCCL_E_PARA, "the ranks do not agree on their number: another rank says " + std::to_string(expected) + ", this one " +
                                       std::to_string(ranks));
    if (ftruncate(file.descriptor, static_cast<off_t>(bytes_)) != 0) system_failure("cannot enlarge the memory of a communicator");
    base_ = map(file.descriptor, bytes_);
    slots_ = base_ + header_bytes;
    rings_ = reinterpret_cast<Ring*>(slots_ + slots_bytes);
}

SharedMemory::~SharedMemory() { munmap(base_, bytes_); }

void SharedMemory::ring_bell() const {
    auto& bell = header().bell;
    bell.fetch_add(1);
    syscall(SYS_futex, &bell, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

void SharedMemory::wait_for_bell(uint32_t bell) const {
    timespec timeout{0, 20'000'000};
    syscall(SYS_futex, &header().bell, FUTEX_WAIT, bell, &timeout, nullptr, 0);
}

}  // namespace npu_emulator::hccl
