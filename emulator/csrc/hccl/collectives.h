// Collectives: in each step every rank puts the next piece of its data into its slot, all meet, and every rank takes what it needs
// from the slots of the others.
#pragma once
#include <vector>

#include "communicator.h"

namespace npu_emulator::hccl {

/// Elements in memory.
struct Block {
    char* data = nullptr;
    uint64_t count = 0;
};

/// A block that is to be the copy of one of another rank.
struct Copy {
    uint32_t from;
    Block block;
};

constexpr uint32_t nobody = most_ranks;  // as the origin of a copy: zeros

/// What one rank does in one collective.
struct Collective {
    Announcement announcement;
    uint32_t parts = 1;       // in every slot: one for all ranks, or one for each
    uint32_t part = 0;        // which of them is this rank's
    std::vector<Block> send;  // for each part, or none
    std::vector<Copy> copies;
    // Of a reduction:
    std::vector<uint32_t> contributors;  // in the order in which they are combined
    HcclReduceOp reduction = HCCL_REDUCE_SUM;
    Block result;
    bool keeps_result = false;

    /// The memory that it writes.
    std::vector<Block> written() const;
};

Collective all_reduce(const Communicator&, const void* send, void* receive, uint64_t count, HcclDataType, HcclReduceOp);
Collective reduce(const Communicator&, const void* send, void* receive, uint64_t count, HcclDataType, HcclReduceOp, uint32_t root);
Collective broadcast(const Communicator&, void* buffer, uint64_t count, HcclDataType, uint32_t root);
Collective all_gather(const Communicator&, const void* send, void* receive, uint64_t count, HcclDataType);
Collective reduce_scatter(const Communicator&, const void* send, void* receive, uint64_t count, HcclDataType, HcclReduceOp);
Collective scatter(const Communicator&, const void* send, void* receive, uint64_t count, HcclDataType, uint32_t root);
Collective all_to_all(const Communicator&, const void* send, void* receive, uint64_t count, HcclDataType);

Collective barrier();

/// Counts and displacements (elements) of the collectives whose blocks differ in size, copied from the caller's arrays.
struct Layout {
    std::vector<uint64_t> counts, displacements;
    Layout(const Communicator& communicator, const void* counts, const void* displacements);
};
Collective all_gather_v(const Communicator&, const void* send, uint64_t count, void* receive, const Layout&, HcclDataType);
Collective reduce_scatter_v(const Communicator&, const void* send, const Layout&, void* receive, uint64_t count, HcclDataType,
                            HcclReduceOp);
Collective all_to_all_v(const Communicator&, const void* send, const Layout&, void* receive, const Layout&, HcclDataType);

/// Carries it out together with the other ranks. Throws Failure where they do not agree on what it is.
void run(Communicator& communicator, const Collective& collective);

}  // namespace npu_emulator::hccl
