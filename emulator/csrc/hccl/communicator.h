// One rank of a communicator: how it joins, meets the others, and what it says when they do not come.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "shared_memory.h"

namespace npu_emulator::hccl {

/// The C name of a call: "HcclAllReduce".
const char* name_of(Kind kind);

class Communicator {
  public:
    /// Takes the rank's seat and waits until all ranks have done so.
    Communicator(const Address& address, uint32_t ranks, uint32_t rank, std::string name, double timeout_seconds);
    ~Communicator();
    Communicator(const Communicator&) = delete;

    uint32_t size() const { return ranks_; }
    uint32_t rank() const { return rank_; }
    const std::string& name() const { return name_; }
    const SharedMemory& memory() const { return memory_; }

    /// One call at a time. Throws Failure where an earlier call of any rank has failed: the communicator is lost.
    std::unique_lock<std::mutex> begin(Kind kind);

    /// Tells the other ranks that a call failed here, so that they do not wait for it.
    void give_up(HcclResult code, const std::string& reason);

    /// Says what this rank's collective is. The others can read it from the next meeting on, until the one after the next
    /// announcement.
    void announce(const Announcement& announcement);
    const Announcement& announced(uint32_t rank) const;

    /// Waits until every rank has come here.
    void meet();
    /// Comes without waiting for the others; the next call waits for them first.
    void come_without_waiting();
    /// The half of the slots that is filled before the next meeting.
    uint64_t half() const { return meetings_; }

    /// Waits until done() holds, which may do part of the work each time it is asked. `awaits(rank)` says whether that needs
    /// something of another rank. Throws Failure where such a rank has ended or left, or after the timeout.
    void wait(const std::function<bool()>& done, const std::function<bool(uint32_t)>& awaits);

    /// A communicator of some of this one's ranks, in which this rank is members[rank].
    std::shared_ptr<Communicator> part(uint64_t id, const std::vector<uint32_t>& members, uint32_t rank, const std::string& name,
                                       double timeout_seconds);

  private:
    Header& header() const { return memory_.header(); }
    Seat& seat(uint32_t rank) const { return header().seats[rank]; }
    void take_seat();
    void come();
    void wait_for_all();
    void check_broken() const;
    std::string described(uint32_t rank) const;
    [[noreturn]] void fail(HcclResult code, const std::string& reason);

    const uint32_t ranks_, rank_;
    const std::string name_;
    const double timeout_seconds_;
    const pid_t process_;
    SharedMemory memory_;
    std::mutex lock_;
    uint64_t meetings_ = 0, announcements_ = 0;
    bool owes_wait_ = false;
};

}  // namespace npu_emulator::hccl
