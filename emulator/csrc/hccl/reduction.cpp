#include "reduction.h"

#include <ATen/Functions.h>

#include <cstring>

#include "../runtime/emulator.h"
#include "tensors.h"

namespace npu_emulator::hccl {
namespace {

struct Type {
    HcclDataType dtype;
    const char* name;
    size_t bytes;
    at::ScalarType torch;
};

constexpr Type types[] = {
    {HCCL_DATA_TYPE_INT8, "int8", 1, at::kChar},        {HCCL_DATA_TYPE_INT16, "int16", 2, at::kShort},
    {HCCL_DATA_TYPE_INT32, "int32", 4, at::kInt},       {HCCL_DATA_TYPE_INT64, "int64", 8, at::kLong},
    {HCCL_DATA_TYPE_UINT8, "uint8", 1, at::kByte},      {HCCL_DATA_TYPE_UINT16, "uint16", 2, at::kUInt16},
    {HCCL_DATA_TYPE_UINT32, "uint32", 4, at::kUInt32},  {HCCL_DATA_TYPE_UINT64, "uint64", 8, at::kUInt64},
    {HCCL_DATA_TYPE_FP16, "fp16", 2, at::kHalf},        {HCCL_DATA_TYPE_FP32, "fp32", 4, at::kFloat},
    {HCCL_DATA_TYPE_FP64, "fp64", 8, at::kDouble},      {HCCL_DATA_TYPE_BFP16, "bf16", 2, at::kBFloat16},
    {HCCL_DATA_TYPE_INT128, "int128", 16, at::kByte},   {HCCL_DATA_TYPE_HIF8, "hif8", 1, at::kByte},
    {HCCL_DATA_TYPE_FP8E4M3, "fp8-e4m3", 1, at::kByte}, {HCCL_DATA_TYPE_FP8E5M2, "fp8-e5m2", 1, at::kByte},
    {HCCL_DATA_TYPE_FP8E8M0, "fp8-e8m0", 1, at::kByte},
};

const Type& type_of(HcclDataType dtype) {
    for (auto& type : types)
        if (type.dtype == dtype) return type;
    throw Failure(HCCL_E_PARA, "there is no HcclDataType " + std::to_string(dtype));
}

using Types = std::vector<HcclDataType>;

bool has(const Types& list, HcclDataType dtype) {
    for (auto one : list)
        if (one == dtype) return true;
    return false;
}

bool soc_begins(const char* beginning) { return settings().soc.rfind(beginning, 0) == 0; }

/// What a family of chips reduces, as the reference of HcclAllReduce says (CANN 9.1, "dataType" and "op").
struct Family {
    Types any, not_prod, only_sum;
};
const Family& family() {
    static const Family family = [] {
        constexpr auto int8 = HCCL_DATA_TYPE_INT8, int16 = HCCL_DATA_TYPE_INT16, int32 = HCCL_DATA_TYPE_INT32, int64 = HCCL_DATA_TYPE_INT64,
                       fp16 = HCCL_DATA_TYPE_FP16, fp32 = HCCL_DATA_TYPE_FP32, bf16 = HCCL_DATA_TYPE_BFP16;
        bool a2_or_a3 = soc_begins("Ascend910B") ? settings().soc != "Ascend910B" : soc_begins("Ascend910_93");
        if (soc_begins("Ascend310P")) return Family{{int8, int32, fp16, fp32}, {}, {int16}};
        if (soc_begins("Ascend910") && !a2_or_a3) return Family{{int8, int32, int64, fp16, fp32}, {}, {}};
        if (soc_begins("Ascend950"))
            return Family{{int8, int32, int64, HCCL_DATA_TYPE_UINT64, fp16, fp32, HCCL_DATA_TYPE_FP64}, {int16, bf16}, {}};
        return Family{{int8, int32, int64, fp16, fp32}, {int16, bf16}, {}};
    }();
    return family;
}

/// In saturation mode fp16 results clamp to the largest finite number, NaN becomes 0, and the float status is set.
void saturate(at::Tensor& partial) {
    if (partial.scalar_type() != at::kHalf || !saturates() || at::isfinite(partial).all().item<bool>()) return;
    raise_overflow();
    at::nan_to_num_(partial, 0.0, 65504.0, -65504.0);
}

void combine(at::Tensor& partial, const at::Tensor& next, HcclReduceOp reduction) {
    switch (reduction) {
        case HCCL_REDUCE_SUM:
            partial.add_(next);
            break;
        case HCCL_REDUCE_PROD:
            partial.mul_(next);
            break;
        case HCCL_REDUCE_MAX:
            at::maximum_out(partial, partial, next);
            break;
        default:
            at::minimum_out(partial, partial, next);
            break;
    }
    saturate(partial);
}

}  // namespace

CpuDispatch::CpuDispatch()
    // Factory functions fail without BackendSelect.
    : keys(c10::DispatchKeySet({c10::DispatchKey::BackendSelect}),
           c10::autograd_dispatch_keyset | c10::autocast_dispatch_keyset | c10::DispatchKeySet({c10::DispatchKey::ADInplaceOrView})) {}

at::Tensor view(char* data, uint64_t count, HcclDataType dtype) {
    auto& type = type_of(dtype);
    int64_t length = static_cast<int64_t>(count * type.bytes / c10::elementSize(type.torch));
    return at::from_blob(data, {length}, at::TensorOptions(type.torch));
}

size_t bytes_of(HcclDataType dtype) { return type_of(dtype).bytes; }
std::string dtype_name(HcclDataType dtype) { return type_of(dtype).name; }

const char* reduction_name(HcclReduceOp reduction) {
    static const char* const names[] = {"sum", "prod", "max", "min"};
    return reduction >= HCCL_REDUCE_SUM && reduction <= HCCL_REDUCE_MIN ? names[reduction] : "unknown reduction";
}

void check_reduction(HcclDataType dtype, HcclReduceOp reduction) {
    if (reduction < HCCL_REDUCE_SUM || reduction > HCCL_REDUCE_MIN)
        throw Failure(HCCL_E_PARA, "there is no HcclReduceOp " + std::to_string(reduction));
    auto& [any, not_prod, only_sum] = family();
    bool supported = has(any, dtype) || (has(not_prod, dtype) && reduction != HCCL_REDUCE_PROD) ||
                     (has(only_sum, dtype) && reduction == HCCL_REDUCE_SUM);
    if (!supported)
        throw Failure(HCCL_E_NOT_SUPPORT,
                      "HCCL does not reduce " + dtype_name(dtype) + " by " + reduction_name(reduction) + " on " + settings().soc);
}

void reduce(char* result, const std::vector<const char*>& inputs, uint64_t count, HcclDataType dtype, HcclReduceOp reduction) {
    if (count == 0) return;
    if (inputs.empty()) {
        memset(result, 0, count * bytes_of(dtype));
        return;
    }
    memcpy(result, inputs[0], count * bytes_of(dtype));
    CpuDispatch dispatch;
    auto partial = view(result, count, dtype);
    for (size_t i = 1; i < inputs.size(); i++) combine(partial, view(const_cast<char*>(inputs[i]), count, dtype), reduction);
}

}  // namespace npu_emulator::hccl
