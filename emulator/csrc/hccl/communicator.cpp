#include "communicator.h"

#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>

namespace npu_emulator::hccl {
namespace {

/// A fork of a rank is not that rank: it must neither leave nor fail in its name.
bool same_process(pid_t process) { return process == getpid(); }

}  // namespace

const char* name_of(Kind kind) {
    static const char* const names[] = {"HcclCommInit",   "HcclAllReduce",     "HcclReduce",         "HcclBroadcast", "HcclAllGather",
                                        "HcclAllGatherV", "HcclReduceScatter", "HcclReduceScatterV", "HcclScatter",   "HcclAlltoAll",
                                        "HcclAlltoAllV",  "HcclBarrier",       "HcclSend",           "HcclRecv",      "HcclBatchSendRecv"};
    return names[static_cast<size_t>(kind)];
}

Communicator::Communicator(const Address& address, uint32_t ranks, uint32_t rank, std::string name, double timeout_seconds)
    : ranks_(ranks), rank_(rank), name_(std::move(name)), timeout_seconds_(timeout_seconds), process_(getpid()), memory_(address, ranks) {
    take_seat();
    meet();
}

Communicator::~Communicator() {
    if (!same_process(process_)) return;
    seat(rank_).left = true;
    memory_.ring_bell();
}

void Communicator::take_seat() {
    auto& mine = seat(rank_);
    if (mine.taken.exchange(true))
        fail(HCCL_E_PARA, "two processes say that they are rank " + std::to_string(rank_) + ": " + std::to_string(mine.process) + " and " +
                              std::to_string(process_));
    mine.born = start_time(process_);
    mine.process = process_;
}

std::unique_lock<std::mutex> Communicator::begin(Kind kind) {
    std::unique_lock guard(lock_);
    check_broken();
    if (owes_wait_) wait_for_all();
    owes_wait_ = false;
    seat(rank_).doing = kind;
    seat(rank_).calls++;
    return guard;
}

void Communicator::give_up(HcclResult code, const std::string& reason) {
    uint32_t whole = 0;
    if (!same_process(process_) || !header().broken.compare_exchange_strong(whole, 1)) return;
    header().code = code;
    snprintf(header().reason, sizeof header().reason, "%s", reason.c_str());
    header().broken = 2;
    memory_.ring_bell();
}

void Communicator::fail(HcclResult code, const std::string& reason) {
    auto text = "communicator " + name_ + ", rank " + std::to_string(rank_) + " of " + std::to_string(ranks_) + ": " + reason;
    give_up(code, text);
    throw Failure(code, text);
}

void Communicator::check_broken() const {
    if (header().broken == 2) throw Failure(header().code, "the communicator is lost since this failure: " + std::string(header().reason));
}

void Communicator::announce(const Announcement& announcement) {
    announcements_++;
    seat(rank_).announcements[announcements_ % 2] = announcement;
}

const Announcement& Communicator::announced(uint32_t rank) const { return seat(rank).announcements[announcements_ % 2]; }

void Communicator::come() {
    meetings_++;
    seat(rank_).arrivals = meetings_;
    memory_.ring_bell();
}

void Communicator::wait_for_all() {
    auto absent = [&](uint32_t rank) { return seat(rank).arrivals < meetings_; };
    wait(
        [&] {
            for (uint32_t rank = 0; rank < ranks_; rank++)
                if (absent(rank)) return false;
            return true;
        },
        absent);
}

void Communicator::meet() {
    come();
    wait_for_all();
}

void Communicator::come_without_waiting() {
    come();
    owes_wait_ = true;
}

void Communicator::wait(const std::function<bool()>& done, const std::function<bool(uint32_t)>& awaits) {
    using Clock = std::chrono::steady_clock;
    constexpr int looks_before_sleep = 50;
    constexpr auto between_checks = std::chrono::milliseconds(50);
    auto began = Clock::now(), checked = began;
    for (int looks = 0;; looks++) {
        uint32_t bell = header().bell;
        if (done()) return;
        check_broken();
        if (looks < looks_before_sleep) {
            sched_yield();
            continue;
        }
        memory_.wait_for_bell(bell);
        auto now = Clock::now();
        if (now - checked < between_checks) continue;
        checked = now;
        bool late = std::chrono::duration<double>(now - began).count() > timeout_seconds_;
        std::string late_ranks;
        for (uint32_t rank = 0; rank < ranks_; rank++) {
            if (!awaits(rank)) continue;
            bool ended = seat(rank).process != 0 && start_time(seat(rank).process) != seat(rank).born;
            bool gone = ended || seat(rank).left;
            // The last thing it did may have been what this rank waits for.
            if (gone && done()) return;
            check_broken();
            if (gone)
                fail(HCCL_E_REMOTE,
                     "waits in vain for " + described(rank) + (seat(rank).left ? ", which has left" : ", whose process has ended"));
            if (late) late_ranks += (late_ranks.empty() ? "" : "; ") + described(rank);
        }
        if (!late || done()) continue;
        char seconds[32];
        snprintf(seconds, sizeof seconds, "%g", timeout_seconds_);
        fail(HCCL_E_TIMEOUT, "has waited " + std::string(seconds) + " s (NPU_EMULATOR_HCCL_TIMEOUT) for " + late_ranks);
    }
}

std::string Communicator::described(uint32_t rank) const {
    auto& other = seat(rank);
    auto text = "rank " + std::to_string(rank);
    if (!other.taken) return text + ", which has never joined";
    text += " (process " + std::to_string(other.process);
    return text + ", last seen " +
           (other.calls == 0 ? "joining)" : "in " + std::string(name_of(other.doing)) + ", call " + std::to_string(other.calls) + ")");
}

std::shared_ptr<Communicator> Communicator::part(uint64_t id, const std::vector<uint32_t>& members, uint32_t rank, const std::string& name,
                                                 double timeout_seconds) {
    auto ranks = static_cast<uint32_t>(members.size());
    uint32_t leader = members[0];
    if (rank != 0) {
        Meeting* found = nullptr;
        auto find = [&] {
            for (auto& meeting : header().meetings)
                if (meeting.state == Meeting::Open && meeting.id == id && meeting.leader == leader) found = &meeting;
            return found != nullptr;
        };
        wait(find, [&](uint32_t other) { return other == leader; });
        return std::make_shared<Communicator>(found->address, ranks, rank, name, timeout_seconds);
    }
    struct Open {
        Address address;
        Meeting* meeting = nullptr;
        ~Open() {
            release(address);
            if (meeting) meeting->state = Meeting::Free;
        }
    } open{create_shared_memory()};
    // Who is awaited is known here, so that one that ends before it joins is noticed.
    SharedMemory memory(open.address, ranks);
    for (uint32_t member = 0; member < ranks; member++) {
        memory.header().seats[member].born = seat(members[member]).born.load();
        memory.header().seats[member].process = seat(members[member]).process.load();
    }
    for (auto& meeting : header().meetings) {
        uint32_t expected = Meeting::Free;
        if (!meeting.state.compare_exchange_strong(expected, Meeting::Writing)) continue;
        open.meeting = &meeting;
        meeting.id = id;
        meeting.leader = leader;
        meeting.address = open.address;
        meeting.state = Meeting::Open;
        memory_.ring_bell();
        return std::make_shared<Communicator>(open.address, ranks, rank, name, timeout_seconds);
    }
    throw Failure(HCCL_E_UNAVAIL,
                  "more than " + std::to_string(most_ranks) + " parts of communicator " + name_ + " are being created at once");
}

}  // namespace npu_emulator::hccl
