#include "point_to_point.h"

#include <algorithm>
#include <cstring>

#include "reduction.h"

namespace npu_emulator::hccl {
namespace {

/// One message on its way, seen from one end of its ring.
class Transfer {
  public:
    Transfer(const Communicator& communicator, const Message& message)
        : communicator_(communicator),
          message_(message),
          ring_(message.sends ? communicator.memory().ring(communicator.rank(), message.peer)
                              : communicator.memory().ring(message.peer, communicator.rank())),
          mine_(message.sends ? ring_.sender : ring_.receiver),
          theirs_(message.sends ? ring_.receiver : ring_.sender),
          total_(message.block.count * bytes_of(message.dtype)) {}

    bool done() const { return stage_ == Stage::Done; }
    uint32_t peer() const { return message_.peer; }
    bool same_way(const Transfer& other) const { return &mine_ == &other.mine_; }

    /// Does what can be done without waiting. Returns whether anything was.
    bool advance() {
        Stage before = stage_;
        if (stage_ == Stage::New && theirs_.done >= mine_.posted) post();
        if (stage_ == Stage::Posted && theirs_.posted >= mine_.posted) {
            check_agreement();
            stage_ = Stage::Moving;
        }
        bool moved = stage_ == Stage::Moving && move();
        return moved || stage_ != before;
    }

  private:
    enum class Stage { New, Posted, Moving, Done };

    void post() {
        mine_.count = message_.block.count;
        mine_.dtype = message_.dtype;
        mine_.withheld = message_.withheld;
        mine_.posted++;
        stage_ = Stage::Posted;
    }

    void check_agreement() const {
        if (mine_.count == theirs_.count && mine_.dtype == theirs_.dtype) return;
        auto text = [](const End& end) { return std::to_string(end.count) + " elements of " + dtype_name(end.dtype); };
        uint32_t me = communicator_.rank(), sender = message_.sends ? me : peer(), receiver = message_.sends ? peer() : me;
        throw Failure(HCCL_E_PARA, "the ranks do not agree: rank " + std::to_string(sender) + " sends " + text(ring_.sender) + " to rank " +
                                       std::to_string(receiver) + ", which expects " + text(ring_.receiver));
    }

    bool move() {
        uint64_t moved = 0;
        while (position_ < total_) {
            uint64_t in_ring = ring_.sender.bytes - ring_.receiver.bytes;
            uint64_t at = mine_.bytes % ring_bytes, possible = message_.sends ? ring_bytes - in_ring : in_ring;
            uint64_t now = std::min({possible, total_ - position_, ring_bytes - at});
            if (now == 0) break;
            copy(ring_.data + at, now);
            position_ += now;
            mine_.bytes += now;
            moved += now;
        }
        if (position_ == total_) {
            mine_.done++;
            stage_ = Stage::Done;
        }
        return moved > 0;
    }

    void copy(char* in_ring, uint64_t bytes) const {
        char* own = message_.block.data + position_;
        if (message_.sends && message_.blank)
            memset(in_ring, 0, bytes);
        else if (message_.sends)
            memcpy(in_ring, own, bytes);
        else if (message_.blank)
            memset(own, 0, bytes);
        else if (!theirs_.withheld)
            memcpy(own, in_ring, bytes);
    }

    const Communicator& communicator_;
    const Message& message_;
    Ring& ring_;
    End &mine_, &theirs_;
    const uint64_t total_;
    uint64_t position_ = 0;
    Stage stage_ = Stage::New;
};

}  // namespace

void check(const Communicator& communicator, const Message& message) {
    bytes_of(message.dtype);
    if (message.peer >= communicator.size())
        throw Failure(HCCL_E_PARA,
                      "there is no rank " + std::to_string(message.peer) + " among " + std::to_string(communicator.size()) + " ranks");
}

void exchange(Communicator& communicator, const std::vector<Message>& messages) {
    std::vector<Transfer> transfers;
    for (auto& message : messages) transfers.emplace_back(communicator, message);
    auto first_of_its_way = [&](const Transfer& transfer) {
        for (auto& earlier : transfers) {
            if (&earlier == &transfer) return true;
            if (!earlier.done() && earlier.same_way(transfer)) return false;
        }
        return true;
    };
    auto advance_all = [&] {
        bool progress = true, rang = false, all_done = true;
        while (progress) {
            progress = false;
            all_done = true;
            for (auto& transfer : transfers) {
                if (!transfer.done() && first_of_its_way(transfer)) progress |= transfer.advance();
                all_done &= transfer.done();
            }
            rang |= progress;
        }
        if (rang) communicator.memory().ring_bell();
        return all_done;
    };
    communicator.wait(advance_all, [&](uint32_t rank) {
        return std::any_of(transfers.begin(), transfers.end(), [&](auto& each) { return !each.done() && each.peer() == rank; });
    });
}

}  // namespace npu_emulator::hccl
