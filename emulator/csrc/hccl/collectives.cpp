#include "collectives.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "../runtime/device_addresses.h"
#include "../runtime/emulator.h"
#include "reduction.h"

namespace npu_emulator::hccl {
namespace {

char* at(const void* data, uint64_t element, HcclDataType dtype) {
    return data ? static_cast<char*>(on_host(data)) + element * bytes_of(dtype) : nullptr;
}

Collective basic(Kind kind, uint64_t count, HcclDataType dtype) {
    Collective collective;
    collective.announcement.kind = kind;
    collective.announcement.count = count;
    collective.announcement.dtype = dtype;
    bytes_of(dtype);  // throws where there is no such type
    return collective;
}

void set_root(Collective& collective, const Communicator& communicator, uint32_t root) {
    if (root >= communicator.size())
        throw Failure(HCCL_E_PARA, "there is no root " + std::to_string(root) + " among " + std::to_string(communicator.size()) + " ranks");
    collective.announcement.root = root;
}

/// Ranks in the order in which they are combined. With the noise `reorder` it starts elsewhere, as with another algorithm of HCCL.
std::vector<uint32_t> order_of_ranks(uint32_t ranks) {
    std::vector<uint32_t> order(ranks);
    std::iota(order.begin(), order.end(), 0);
    auto& noise = settings().noise;
    if (noise.on && noise.reorder && ranks > 2)
        std::rotate(order.begin(), order.begin() + static_cast<long>(1 + noise.seed % (ranks - 1)), order.end());
    return order;
}

void set_reduction(Collective& collective, const Communicator& communicator, HcclReduceOp reduction, Block result) {
    check_reduction(collective.announcement.dtype, reduction);
    collective.announcement.reduction = collective.reduction = reduction;
    collective.contributors = order_of_ranks(communicator.size());
    collective.result = result;
    collective.keeps_result = true;
}

/// One block for each rank, one after the other.
void set_parts(Collective& collective, const Communicator& communicator) {
    collective.parts = communicator.size();
    collective.part = communicator.rank();
}

std::vector<Block> consecutive(const Communicator& communicator, const void* data, uint64_t count, HcclDataType dtype) {
    std::vector<Block> blocks;
    for (uint32_t rank = 0; rank < communicator.size(); rank++) blocks.push_back({at(data, rank * count, dtype), count});
    return blocks;
}

std::vector<Block> laid_out(const Layout& layout, const void* data, HcclDataType dtype) {
    std::vector<Block> blocks;
    for (size_t i = 0; i < layout.counts.size(); i++) blocks.push_back({at(data, layout.displacements[i], dtype), layout.counts[i]});
    return blocks;
}

std::vector<Copy> one_from_each(const std::vector<Block>& blocks) {
    std::vector<Copy> copies;
    for (uint32_t rank = 0; rank < blocks.size(); rank++) copies.push_back({rank, blocks[rank]});
    return copies;
}

void announce_counts(uint64_t (&announced)[most_ranks], const std::vector<uint64_t>& counts) {
    std::copy(counts.begin(), counts.end(), announced);
}

/// Whether a rank puts data into its slot that only the root's counts for: a fault may take it from there.
bool everyone_contributes() {
    static const bool faulty = getenv("NPU_EMULATOR_FAULTS") != nullptr;
    return faulty;
}

std::string text(const Announcement& a) {
    auto described = std::string(name_of(a.kind)) + "(" + dtype_name(a.dtype) + ", ";
    bool reduces = a.kind == Kind::AllReduce || a.kind == Kind::Reduce || a.kind == Kind::ReduceScatter || a.kind == Kind::ReduceScatterV;
    bool rooted = a.kind == Kind::Reduce || a.kind == Kind::Broadcast || a.kind == Kind::Scatter;
    if (a.kind == Kind::Barrier) return "HcclBarrier()";
    if (reduces) described += std::string(reduction_name(a.reduction)) + ", ";
    described += std::to_string(a.count) + " elements";
    if (rooted) described += ", root " + std::to_string(a.root);
    return described + ")";
}

bool agree(const Announcement& a, const Announcement& b) {
    bool counts_differ_by_right = a.kind == Kind::AllGatherV || a.kind == Kind::ReduceScatterV || a.kind == Kind::AlltoAllV;
    return a.kind == b.kind && a.dtype == b.dtype && a.reduction == b.reduction && a.root == b.root &&
           (a.count == b.count || counts_differ_by_right);
}

/// Compares what the ranks have announced. HCCL itself hangs or moves garbage where they do not agree.
void check_agreement(const Communicator& communicator) {
    auto& first = communicator.announced(0);
    for (uint32_t rank = 1; rank < communicator.size(); rank++) {
        auto& other = communicator.announced(rank);
        if (!agree(first, other))
            throw Failure(HCCL_E_PARA, "the ranks do not agree: rank 0 has called " + text(first) + ", rank " + std::to_string(rank) +
                                           " has called " + text(other));
    }
    for (uint32_t sender = 0; sender < communicator.size(); sender++) {
        for (uint32_t receiver = 0; receiver < communicator.size(); receiver++) {
            uint64_t sent = communicator.announced(sender).to[receiver], expected = communicator.announced(receiver).from[sender];
            if (sent != expected)
                throw Failure(HCCL_E_PARA, "the ranks do not agree: rank " + std::to_string(sender) + " sends " + std::to_string(sent) +
                                               " elements to rank " + std::to_string(receiver) + ", which expects " +
                                               std::to_string(expected));
        }
    }
}

/// The range of a block that is passed on in one step.
struct Piece {
    uint64_t first, count;
    Piece(const Block& block, uint64_t capacity, uint64_t step)
        : first(std::min(step * capacity, block.count)), count(std::min(capacity, block.count - first)) {}
};

}  // namespace

Layout::Layout(const Communicator& communicator, const void* counts, const void* displacements)
    : counts(static_cast<const uint64_t*>(counts), static_cast<const uint64_t*>(counts) + communicator.size()),
      displacements(static_cast<const uint64_t*>(displacements), static_cast<const uint64_t*>(displacements) + communicator.size()) {}

std::vector<Block> Collective::written() const {
    std::vector<Block> blocks;
    for (auto& copy : copies) blocks.push_back(copy.block);
    if (keeps_result) blocks.push_back(result);
    return blocks;
}

Collective all_reduce(const Communicator& communicator, const void* send, void* receive, uint64_t count, HcclDataType dtype,
                      HcclReduceOp reduction) {
    auto collective = basic(Kind::AllReduce, count, dtype);
    collective.send = {{at(send, 0, dtype), count}};
    set_reduction(collective, communicator, reduction, {at(receive, 0, dtype), count});
    return collective;
}

Collective reduce(const Communicator& communicator, const void* send, void* receive, uint64_t count, HcclDataType dtype,
                  HcclReduceOp reduction, uint32_t root) {
    auto collective = basic(Kind::Reduce, count, dtype);
    set_root(collective, communicator, root);
    collective.send = {{at(send, 0, dtype), count}};
    set_reduction(collective, communicator, reduction, {at(receive, 0, dtype), count});
    collective.keeps_result = communicator.rank() == root;
    return collective;
}

Collective broadcast(const Communicator& communicator, void* buffer, uint64_t count, HcclDataType dtype, uint32_t root) {
    auto collective = basic(Kind::Broadcast, count, dtype);
    set_root(collective, communicator, root);
    Block block{at(buffer, 0, dtype), count};
    if (communicator.rank() == root || everyone_contributes()) collective.send = {block};
    if (communicator.rank() != root) collective.copies = {{root, block}};
    return collective;
}

Collective all_gather(const Communicator& communicator, const void* send, void* receive, uint64_t count, HcclDataType dtype) {
    auto collective = basic(Kind::AllGather, count, dtype);
    collective.send = {{at(send, 0, dtype), count}};
    collective.copies = one_from_each(consecutive(communicator, receive, count, dtype));
    return collective;
}

Collective all_gather_v(const Communicator& communicator, const void* send, uint64_t count, void* receive, const Layout& layout,
                        HcclDataType dtype) {
    auto collective = basic(Kind::AllGatherV, count, dtype);
    collective.send = {{at(send, 0, dtype), count}};
    collective.copies = one_from_each(laid_out(layout, receive, dtype));
    announce_counts(collective.announcement.to, std::vector<uint64_t>(communicator.size(), count));
    announce_counts(collective.announcement.from, layout.counts);
    return collective;
}

Collective reduce_scatter(const Communicator& communicator, const void* send, void* receive, uint64_t count, HcclDataType dtype,
                          HcclReduceOp reduction) {
    auto collective = basic(Kind::ReduceScatter, count, dtype);
    set_parts(collective, communicator);
    collective.send = consecutive(communicator, send, count, dtype);
    set_reduction(collective, communicator, reduction, {at(receive, 0, dtype), count});
    return collective;
}

Collective reduce_scatter_v(const Communicator& communicator, const void* send, const Layout& layout, void* receive, uint64_t count,
                            HcclDataType dtype, HcclReduceOp reduction) {
    auto collective = basic(Kind::ReduceScatterV, count, dtype);
    set_parts(collective, communicator);
    collective.send = laid_out(layout, send, dtype);
    set_reduction(collective, communicator, reduction, {at(receive, 0, dtype), count});
    announce_counts(collective.announcement.to, layout.counts);
    announce_counts(collective.announcement.from, std::vector<uint64_t>(communicator.size(), count));
    return collective;
}

Collective scatter(const Communicator& communicator, const void* send, void* receive, uint64_t count, HcclDataType dtype, uint32_t root) {
    auto collective = basic(Kind::Scatter, count, dtype);
    set_root(collective, communicator, root);
    set_parts(collective, communicator);
    if (communicator.rank() == root || (everyone_contributes() && send)) collective.send = consecutive(communicator, send, count, dtype);
    collective.copies = {{root, {at(receive, 0, dtype), count}}};
    return collective;
}

Collective all_to_all(const Communicator& communicator, const void* send, void* receive, uint64_t count, HcclDataType dtype) {
    auto collective = basic(Kind::AlltoAll, count, dtype);
    set_parts(collective, communicator);
    collective.send = consecutive(communicator, send, count, dtype);
    collective.copies = one_from_each(consecutive(communicator, receive, count, dtype));
    return collective;
}

Collective all_to_all_v(const Communicator& communicator, const void* send, const Layout& to, void* receive, const Layout& from,
                        HcclDataType dtype) {
    auto collective = basic(Kind::AlltoAllV, std::accumulate(to.counts.begin(), to.counts.end(), uint64_t{0}), dtype);
    set_parts(collective, communicator);
    collective.send = laid_out(to, send, dtype);
    collective.copies = one_from_each(laid_out(from, receive, dtype));
    announce_counts(collective.announcement.to, to.counts);
    announce_counts(collective.announcement.from, from.counts);
    return collective;
}

Collective barrier() { return basic(Kind::Barrier, 0, HCCL_DATA_TYPE_INT8); }

void run(Communicator& communicator, const Collective& collective) {
    auto& memory = communicator.memory();
    auto dtype = collective.announcement.dtype;
    size_t width = bytes_of(dtype);
    uint64_t capacity = slot_bytes / collective.parts / width;
    auto announcement = collective.announcement;
    for (auto& block : collective.send) announcement.steps = std::max(announcement.steps, (block.count + capacity - 1) / capacity);
    communicator.announce(announcement);

    uint64_t steps = 1;
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t half = communicator.half();
        auto part_of = [&](uint32_t rank, uint32_t part) { return memory.slot(rank, half) + part * capacity * width; };
        for (uint32_t part = 0; part < collective.send.size(); part++) {
            Piece piece(collective.send[part], capacity, step);
            if (piece.count)
                memcpy(part_of(communicator.rank(), part), collective.send[part].data + piece.first * width, piece.count * width);
        }
        communicator.meet();
        if (step == 0) {
            check_agreement(communicator);
            for (uint32_t rank = 0; rank < communicator.size(); rank++) steps = std::max(steps, communicator.announced(rank).steps);
        }
        for (auto& [from, block] : collective.copies) {
            Piece piece(block, capacity, step);
            if (!piece.count) continue;
            char* destination = block.data + piece.first * width;
            if (from == nobody)
                memset(destination, 0, piece.count * width);
            else
                memcpy(destination, part_of(from, collective.part), piece.count * width);
        }
        Piece piece(collective.result, capacity, step);
        if (collective.keeps_result && piece.count) {
            std::vector<const char*> inputs;
            for (auto rank : collective.contributors) inputs.push_back(part_of(rank, collective.part));
            reduce(collective.result.data + piece.first * width, inputs, piece.count, dtype, collective.reduction);
        }
    }
}

}  // namespace npu_emulator::hccl
