// libhcomm.so: the two functions of HCCL that torch_npu looks up there.
#include "../hccl/groups.h"

using namespace npu_emulator::hccl;

CANN_API HcclResult HcclGroupStart() {
    start_group();
    return HCCL_SUCCESS;
}

CANN_API HcclResult HcclGroupEnd() { return guarded("HcclGroupEnd", end_group); }
