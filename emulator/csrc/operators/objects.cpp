// The objects of the operator interface: aclTensor, aclScalar, arrays and lists, and their values as libtorch sees them.
#include <cstring>

#include "../runtime/device_addresses.h"
#include "operator.h"

namespace npu_emulator {

// Values of the enumeration aclDataType (acl/acl_base.h in the headers that the torch_npu wheel carries).
at::ScalarType torch_dtype(int acl_data_type) {
    switch (acl_data_type) {
        case -1:
            return at::ScalarType::Undefined;
        case 0:
            return at::kFloat;
        case 1:
            return at::kHalf;
        case 2:
            return at::kChar;
        case 3:
            return at::kInt;
        case 4:
            return at::kByte;
        case 6:
            return at::kShort;
        case 7:
            return at::kUInt16;
        case 8:
            return at::kUInt32;
        case 9:
            return at::kLong;
        case 10:
            return at::kUInt64;
        case 11:
            return at::kDouble;
        case 12:
            return at::kBool;
        case 16:
            return at::kComplexFloat;
        case 17:
            return at::kComplexDouble;
        case 27:
            return at::kBFloat16;
        case 33:
            return at::kComplexHalf;
    }
    TORCH_CHECK(false, "aclDataType ", acl_data_type, " is not emulated (csrc/operators/objects.cpp)");
}

Tensor wrap(const aclTensor* tensor) {
    if (!tensor) return Tensor();
    auto options = at::TensorOptions().dtype(torch_dtype(tensor->type));
    if (!tensor->data) return at::empty_strided(tensor->size, tensor->stride, options);
    int64_t before = tensor->offset * static_cast<int64_t>(at::elementSize(torch_dtype(tensor->type)));
    auto* first = static_cast<char*>(on_host(tensor->data)) + before;
    return at::from_blob(first, tensor->size, tensor->stride, options);
}

at::Scalar wrap(const aclScalar* scalar) {
    auto as = [&]<class T>() { return *reinterpret_cast<const T*>(scalar->bytes); };
    switch (torch_dtype(scalar->type)) {
        case at::kFloat:
            return as.operator()<float>();
        case at::kDouble:
            return as.operator()<double>();
        case at::kHalf:
            return static_cast<float>(as.operator()<at::Half>());
        case at::kBFloat16:
            return static_cast<float>(as.operator()<at::BFloat16>());
        case at::kBool:
            return as.operator()<bool>();
        case at::kLong:
            return as.operator()<int64_t>();
        case at::kInt:
            return static_cast<int64_t>(as.operator()<int32_t>());
        case at::kShort:
            return static_cast<int64_t>(as.operator()<int16_t>());
        case at::kChar:
            return static_cast<int64_t>(as.operator()<int8_t>());
        case at::kByte:
            return static_cast<int64_t>(as.operator()<uint8_t>());
        case at::kComplexFloat:
            return c10::complex<double>(as.operator()<c10::complex<float>>());
        case at::kComplexDouble:
            return as.operator()<c10::complex<double>>();
        default:
            TORCH_CHECK(false, "a scalar of aclDataType ", scalar->type, " is not emulated (csrc/operators/objects.cpp)");
    }
}

at::Scalar wrap_scalar(const aclScalar* scalar) { return scalar ? wrap(scalar) : at::Scalar(0); }
OptionalScalar wrap_optional(const aclScalar* scalar) { return scalar ? OptionalScalar(wrap(scalar)) : OptionalScalar(); }
Ints wrap_ints(const aclIntArray* array) { return array ? Ints{true, array->values} : Ints{}; }
Bools wrap_bools(const aclBoolArray* array) { return array ? Bools{array->values} : Bools{}; }
Text wrap_text(const char* text) { return text ? text : ""; }
Output wrap_output(const aclTensor* tensor) { return {wrap(tensor)}; }

DynamicOutput wrap_dynamic(aclTensor* tensor) {
    DynamicOutput output;
    output.tensor = wrap(tensor);
    output.described = tensor;
    return output;
}

Tensors wrap_tensors(const aclTensorList* list) {
    Tensors tensors;
    if (list)
        for (auto* each : list->values) tensors.push_back(wrap(each));
    return tensors;
}

Outputs wrap_outputs(const aclTensorList* list) { return {wrap_tensors(list)}; }

Scalars wrap_scalars(const aclScalarList* list) {
    Scalars scalars;
    if (list)
        for (auto* each : list->values) scalars.push_back(wrap(each));
    return scalars;
}

void Output::operator=(const Tensor& value) const {
    if (!tensor.defined() || !value.defined() || tensor.numel() == 0) return;
    TORCH_CHECK(value.numel() == tensor.numel(), "result of shape ", value.sizes(), " does not fit output of shape ", tensor.sizes());
    tensor.copy_(value.sizes() == tensor.sizes() ? value : value.reshape(tensor.sizes()));
}

void DynamicOutput::operator=(const Tensor& value) const {
    TORCH_CHECK(value.numel() <= tensor.numel(), "result of shape ", value.sizes(), " exceeds the buffer of shape ", tensor.sizes());
    Tensor packed = value.contiguous();
    if (packed.numel()) at::from_blob(tensor.data_ptr(), packed.sizes(), tensor.options()).copy_(packed);
    described->size = packed.sizes().vec();
    described->stride = packed.strides().vec();
}

}  // namespace npu_emulator

CANN_API aclTensor* aclCreateTensor(const int64_t* sizes, uint64_t dimensions, int type, const int64_t* strides, int64_t offset,
                                    int /*format*/, const int64_t* /*storage_sizes*/, uint64_t /*storage_dimensions*/, void* data) {
    return new aclTensor{{sizes, sizes + dimensions}, {strides, strides + dimensions}, offset, type, data};
}
CANN_API aclScalar* aclCreateScalar(void* value, int type) {
    auto* scalar = new aclScalar{type, {0}};
    std::memcpy(scalar->bytes, value, at::elementSize(npu_emulator::torch_dtype(type)));
    return scalar;
}
CANN_API aclIntArray* aclCreateIntArray(const int64_t* values, uint64_t size) { return new aclIntArray{{values, values + size}}; }
CANN_API aclFloatArray* aclCreateFloatArray(const float* values, uint64_t size) { return new aclFloatArray{{values, values + size}}; }
CANN_API aclBoolArray* aclCreateBoolArray(const bool* values, uint64_t size) { return new aclBoolArray{{values, values + size}}; }
CANN_API aclTensorList* aclCreateTensorList(const aclTensor* const* values, uint64_t size) {
    return new aclTensorList{{values, values + size}};
}
CANN_API aclScalarList* aclCreateScalarList(const aclScalar* const* values, uint64_t size) {
    return new aclScalarList{{values, values + size}};
}

CANN_API int aclDestroyTensor(const aclTensor* object) { return delete object, 0; }
CANN_API int aclDestroyScalar(const aclScalar* object) { return delete object, 0; }
CANN_API int aclDestroyIntArray(const aclIntArray* object) { return delete object, 0; }
CANN_API int aclDestroyFloatArray(const aclFloatArray* object) { return delete object, 0; }
CANN_API int aclDestroyBoolArray(const aclBoolArray* object) { return delete object, 0; }
CANN_API int aclDestroyTensorList(const aclTensorList* list) {
    for (auto* each : list->values) delete each;  // a list owns its members
    return delete list, 0;
}
CANN_API int aclDestroyScalarList(const aclScalarList* list) {
    for (auto* each : list->values) delete each;
    return delete list, 0;
}

/// The caller deletes the array of sizes with delete[].
CANN_API int aclGetViewShape(const aclTensor* tensor, int64_t** sizes, uint64_t* dimensions) {
    *dimensions = tensor->size.size();
    *sizes = new int64_t[*dimensions + 1];
    std::copy(tensor->size.begin(), tensor->size.end(), *sizes);
    return 0;
}
