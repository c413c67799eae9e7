// The memory that the ranks of one communicator share.
//
// It is a memfd: a file without a name. The root info, which the ranks exchange through torch's store, carries the process and
// the descriptor of the rank that created it, and the others open /proc/PID/fd/N. So nothing can be left behind in /dev/shm, at
// whatever moment a rank dies, and the size of /dev/shm (64 MiB in a container by default) is no limit. Pages that nobody
// touches take no memory.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "third_party/hccl/inc/hccl/hccl.h"

namespace npu_emulator::hccl {

constexpr uint32_t most_ranks = 64;
constexpr size_t slot_bytes = 1 << 20;   // what a rank passes to the others in one step of a collective
constexpr size_t ring_bytes = 64 << 10;  // what is under way from one rank to another, of a send

/// What ends a call, as the code and the text that torch_npu gets.
struct Failure : std::runtime_error {
    HcclResult code;
    Failure(HcclResult code, const std::string& what) : std::runtime_error(what), code(code) {}
};

enum class Kind : uint32_t {
    None,
    AllReduce,
    Reduce,
    Broadcast,
    AllGather,
    AllGatherV,
    ReduceScatter,
    ReduceScatterV,
    Scatter,
    AlltoAll,
    AlltoAllV,
    Barrier,
    Send,
    Recv,
    BatchSendRecv,
};

/// What a rank says about its collective, for the others to compare with theirs.
struct Announcement {
    Kind kind = Kind::None;
    HcclDataType dtype = HCCL_DATA_TYPE_INT8;
    HcclReduceOp reduction = HCCL_REDUCE_SUM;
    uint32_t root = 0;
    uint64_t count = 0;              // elements, as in the call
    uint64_t steps = 0;              // in which this rank has something to pass on
    uint64_t to[most_ranks] = {};    // elements for each rank, where they may differ
    uint64_t from[most_ranks] = {};  // elements from each rank, where they may differ
};

/// One rank's place.
struct alignas(64) Seat {
    std::atomic<bool> taken, left;
    std::atomic<pid_t> process;
    std::atomic<uint64_t> born;      // start time of the process: its number may be another's later
    std::atomic<uint64_t> arrivals;  // meetings that this rank has come to
    std::atomic<uint64_t> calls;
    std::atomic<Kind> doing;
    // Of this rank's latest two collectives: when it announces one, others may still be reading the one before.
    Announcement announcements[2];
};

/// How far one end of a ring is. Messages are counted from 1.
struct alignas(64) End {
    std::atomic<uint64_t> posted;  // messages that this end has begun
    std::atomic<uint64_t> done;    // messages that it has finished
    std::atomic<uint64_t> bytes;   // written or read since the beginning
    uint64_t count;                // of the message posted last
    HcclDataType dtype;
    bool withheld;  // by a fault of the sender: the receiver's buffer is to keep what it had
};

/// Messages from one rank to another.
struct Ring {
    End sender, receiver;
    char data[ring_bytes];
};

/// How the ranks of a part of this communicator find each other.
struct Meeting {
    enum State : uint32_t { Free, Writing, Open };
    std::atomic<uint32_t> state;
    uint64_t id;
    uint32_t leader;  // the rank that opens it
    struct Address {
        char mark[16];
        pid_t process;
        int descriptor;
        uint64_t nonce;  // of the file's content: its number may be another's later
    } address;
};
using Address = Meeting::Address;

struct Header {
    uint64_t nonce;
    std::atomic<uint32_t> ranks;   // 0 until the first rank has come
    std::atomic<uint32_t> bell;    // changes whenever a rank has done something that others may wait for
    std::atomic<uint32_t> broken;  // 0, 1 while the reason is being written, 2
    HcclResult code;
    char reason[1024];
    Meeting meetings[most_ranks];
    Seat seats[most_ranks];
};

/// Creates the memory of a communicator to be. It lasts until release() or as long as a rank has it mapped.
Address create_shared_memory();

/// Nobody can join by this address any more: every rank has, or none will. In other processes than the creator's it does nothing.
void release(const Address& address);

/// A rank's mapping.
class SharedMemory {
  public:
    /// Throws Failure where the creator is gone, or has another number of ranks in mind.
    SharedMemory(const Address& address, uint32_t ranks);
    ~SharedMemory();
    SharedMemory(const SharedMemory&) = delete;

    Header& header() const { return *reinterpret_cast<Header*>(base_); }
    /// Of the two halves of a rank's slot, one is being read while the other is filled for the next step.
    char* slot(uint32_t rank, uint64_t half) const { return slots_ + (2 * rank + half % 2) * slot_bytes; }
    Ring& ring(uint32_t from, uint32_t to) const { return rings_[from * ranks_ + to]; }

    void ring_bell() const;
    /// Waits until the bell has rung since it read `bell`, or for about 20 ms.
    void wait_for_bell(uint32_t bell) const;

  private:
    uint32_t ranks_;
    size_t bytes_;
    char* base_;
    char* slots_;
    Ring* rings_;
};

/// When a process started, in the clock of /proc; 0 where it has ended (a zombie has).
uint64_t start_time(pid_t process);

}  // namespace npu_emulator::hccl
